"""The transaction: nothing unchecked in place, nothing believed unseen, what was not taken undone."""

from __future__ import annotations

import contextlib
import socket
import threading
import tomllib
from pathlib import Path

import msgspec
import pytest
from service_rig import NOW, ServiceRig, a_view

from meshd.services.journal import Journal
from meshd.services.plan import Command, File, SocketAsk
from meshd.services.schedule import Outcome
from meshd.services.transaction import RunOptions

OLD, NEW = "listen 1\n", "listen 2\n"


@pytest.fixture
def rig(tmp_path: Path) -> ServiceRig:
    directory = tmp_path / "service"
    directory.mkdir()
    return ServiceRig(directory)


def body(rig: ServiceRig) -> str:
    return rig.file.read_text().partition("\n")[2]


def test_a_new_file_is_checked_put_in_place_and_seen_running(rig: ServiceRig) -> None:
    report = rig.apply(OLD)
    assert report.outcome is Outcome.APPLIED and "+listen 1" in report.diffs[0]
    assert body(rig) == OLD and rig.running.read_text() == rig.file.read_text()
    assert rig.file.read_text().startswith("# meshd: module=web generation=1 sha256=")
    assert rig.file.stat().st_mode & 0o777 == 0o644 and rig.leftovers() == []


def test_a_new_generation_alone_writes_nothing(rig: ServiceRig) -> None:
    rig.apply(OLD)
    before = rig.file.stat().st_ino, rig.running.stat().st_mtime_ns
    assert rig.apply(OLD, a_view(7)).outcome is Outcome.UNCHANGED
    assert (rig.file.stat().st_ino, rig.running.stat().st_mtime_ns) == before


def test_a_dry_run_shows_the_change_and_makes_none(rig: ServiceRig) -> None:
    rig.apply(OLD)
    report = rig.apply(NEW, options=RunOptions(dry_run=True))
    assert (
        report.outcome is Outcome.APPLIED
        and "-listen 1" in report.diffs[0]
        and "+listen 2" in report.diffs[0]
    )
    assert body(rig) == OLD and rig.leftovers() == []
    assert rig.apply(OLD, options=RunOptions(dry_run=True)).outcome is Outcome.UNCHANGED


def test_what_the_checker_refuses_is_never_in_place(rig: ServiceRig) -> None:
    rig.apply(OLD)
    report = rig.apply("listen 2 broken\n")
    assert report.outcome is Outcome.REFUSED and report.phase == "check" and "exit status 1" in report.reason
    assert body(rig) == OLD and rig.leftovers() == []


def test_a_checker_that_only_warns_is_heard(rig: ServiceRig) -> None:
    warns = Command(argv=("/bin/sh", "-c", "echo 'warning: unused parameter x' >&2"), refuse="warning:")
    report = rig.apply(OLD, checks=(warns,))
    assert report.outcome is Outcome.REFUSED and "unused parameter x" in report.reason
    assert not rig.file.exists()


def test_lines_that_do_not_count_excuse_an_exit_status_and_others_do_not(rig: ServiceRig) -> None:
    says = Command(argv=("/bin/sh", "-c", "echo 'etcd is not reachable'; exit 1"), ignore="is not reachable$")
    assert rig.apply(OLD, checks=(says,)).outcome is Outcome.APPLIED
    more = Command(
        argv=("/bin/sh", "-c", "echo 'etcd is not reachable'; echo 'no scope'; exit 1"),
        ignore="is not reachable$",
    )
    assert rig.apply(NEW, checks=(more,)).outcome is Outcome.REFUSED


def test_a_check_may_see_a_file_beside_ours_that_nobody_else_ever_sees(rig: ServiceRig) -> None:
    reads = Command(
        argv=("/bin/sh", "-c", 'cat "$1"/*', "check", f"{{staged-directory:{rig.directory}}}"),
        beside={"zz-check": "only for the check\n"},
        refuse="only for the check",
        why="the other file decides",
    )
    report = rig.apply(OLD, checks=(reads,))
    assert report.outcome is Outcome.REFUSED and report.reason.endswith(": the other file decides")
    assert not (rig.directory / "zz-check").exists() and not rig.file.exists()


def test_a_reload_that_says_ok_and_is_not_taken_is_undone(rig: ServiceRig) -> None:
    rig.apply(OLD)
    report = rig.apply("deaf\n")
    assert report.outcome is Outcome.ROLLED_BACK and "from before are in force again" in report.reason
    assert body(rig) == OLD and OLD in rig.running.read_text()
    state = Journal(rig.state).read()
    assert "input deaf\n" in state.bad and state.pending is None and not state.broken


def test_a_reload_that_fails_is_undone_with_another_reload(rig: ServiceRig) -> None:
    rig.apply(OLD)
    rig.table["reload_command"] = ["/bin/sh", "-c", f"! grep 'listen 2' {rig.file}"]
    report = rig.apply(NEW)
    assert report.outcome is Outcome.ROLLED_BACK and "exit status 1" in report.reason and body(rig) == OLD


def test_a_service_that_takes_neither_is_called_broken(rig: ServiceRig) -> None:
    rig.apply(OLD)
    rig.table["reload_command"] = ["/bin/false"]
    report = rig.apply(NEW)
    assert report.outcome is Outcome.BROKEN and body(rig) == OLD
    assert Journal(rig.state).read().broken
    del rig.table["reload_command"]
    assert rig.apply(NEW).outcome is Outcome.APPLIED and not Journal(rig.state).read().broken


@pytest.mark.parametrize(
    ("is_there", "outcome"), [(False, Outcome.BROKEN), (True, Outcome.ROLLED_BACK)], ids=["down", "up"]
)
def test_a_service_that_is_down_at_its_first_run_is_not_called_as_before(
    rig: ServiceRig, is_there: bool, outcome: Outcome
) -> None:
    """Nothing was accepted before that could be asked for; whether anybody answers can."""
    passed = iter(range(1000))
    transaction = rig.transaction(clock=lambda: float(next(passed)), pause=lambda seconds: None)
    with socket.create_server(("127.0.0.1", 0)) as server:
        where = f"127.0.0.1:{server.getsockname()[1]}"
        if is_there:
            threading.Thread(target=answer_all, args=(server, b"old\n"), daemon=True).start()
        else:
            server.close()
        asked = SocketAsk(target=where, send="?\n", expect=("new",))
        plan = rig.plan(NEW, verify=(asked,), reload="none")
        report = transaction.apply(plan, a_view(), "input", now=NOW)
    assert report.outcome is outcome and not rig.file.exists()
    assert bool(Journal(rig.state).read().broken) == (outcome is Outcome.BROKEN)


def answer_all(server: socket.socket, words: bytes) -> None:
    with contextlib.suppress(OSError):
        while True:
            client, _ = server.accept()
            with client:
                client.recv(100)
                client.sendall(words)


def test_a_file_that_is_there_is_taken_over_only_when_allowed_and_given_back(rig: ServiceRig) -> None:
    rig.file.write_text("by hand\n")
    rig.file.chmod(0o640)
    report = rig.apply(NEW)
    assert report.outcome is Outcome.HELD and "adopt = true" in report.reason and report.guard == "not_ours"
    assert rig.file.read_text() == "by hand\n"
    rig.table["adopt"] = True
    assert rig.apply(NEW).outcome is Outcome.APPLIED
    assert rig.apply("listen 3\n").outcome is Outcome.APPLIED
    assert rig.transaction().give_back().outcome is Outcome.ROLLED_BACK
    assert rig.file.read_text() == "by hand\n" and rig.file.stat().st_mode & 0o777 == 0o640
    assert Journal(rig.state).read().released and "by hand" in rig.running.read_text()


def test_a_file_in_whatever_encoding_is_given_back_byte_by_byte(rig: ServiceRig) -> None:
    rig.file.write_bytes(b"caf\xe9\n")
    rig.table["adopt"] = True
    assert rig.apply(NEW).outcome is Outcome.APPLIED
    assert rig.transaction().give_back().outcome is Outcome.ROLLED_BACK
    assert rig.file.read_bytes() == b"caf\xe9\n"


def test_what_an_operator_went_back_to_is_no_longer_before_anything(rig: ServiceRig) -> None:
    rig.apply(OLD)
    rig.apply(NEW)
    rig.table["reload_command"] = ["/bin/false"]
    assert rig.transaction().go_back().outcome is Outcome.BROKEN
    del rig.table["reload_command"]
    assert rig.transaction().go_back().outcome is Outcome.ROLLED_BACK, "as often as it takes"
    assert rig.transaction().go_back().outcome is Outcome.FAILED


@pytest.mark.parametrize("how", ["changed", "removed"])
def test_a_file_that_somebody_changed_is_held_until_an_operator_says_so(rig: ServiceRig, how: str) -> None:
    rig.apply(OLD)
    if how == "changed":
        rig.file.write_text(rig.file.read_text() + "by hand\n")
    else:
        rig.file.unlink()
    report = rig.apply(NEW)
    assert report.outcome is Outcome.HELD and "by somebody else" in report.reason
    assert rig.apply(NEW, options=RunOptions(overwrite=True)).outcome is Outcome.APPLIED and body(rig) == NEW


def test_drift_is_overwritten_where_the_settings_say_so(rig: ServiceRig) -> None:
    rig.table["drift"] = "overwrite"
    rig.apply(OLD)
    rig.file.write_text("by hand\n")
    assert rig.apply(OLD).outcome is Outcome.APPLIED and body(rig) == OLD


def test_a_block_at_the_top_leaves_every_other_line_and_goes_without_a_trace(rig: ServiceRig) -> None:
    """TOML's keys end where its first table begins."""
    own = "# by hand\n[table]\nkey = 1\n"
    rig.file.write_text(own)
    block = File(path=str(rig.file), text="top = 1\n", block=True, top=True)
    assert rig.apply("top = 1\n", files=(block,), verify=()).outcome is Outcome.APPLIED
    text = rig.file.read_text()
    assert text.endswith(own) and tomllib.loads(text) == {"top": 1, "table": {"key": 1}}
    again = msgspec.structs.replace(block, text="top = 2\n")
    assert rig.apply("top = 2\n", files=(again,), verify=()).outcome is Outcome.APPLIED
    assert tomllib.loads(rig.file.read_text())["top"] == 2
    rig.transaction().give_back()
    assert rig.file.read_text() == own


def test_an_operator_goes_back_and_the_same_input_is_marked_bad(rig: ServiceRig) -> None:
    rig.apply(OLD)
    rig.apply(NEW)
    assert rig.transaction().go_back().outcome is Outcome.ROLLED_BACK
    assert body(rig) == OLD and OLD in rig.running.read_text()
    assert "input listen 2\n" in Journal(rig.state).read().bad
    assert rig.apply(NEW).outcome is Outcome.APPLIED
    assert rig.transaction().go_back().outcome is Outcome.ROLLED_BACK
    assert rig.transaction().go_back().outcome is Outcome.FAILED


def test_a_restart_needs_a_word(rig: ServiceRig) -> None:
    rig.table["restart_command"] = ["/bin/cp", str(rig.file), str(rig.running)]
    report = rig.apply(OLD, reload="restart")
    assert report.outcome is Outcome.HELD and "--restart" in report.reason and not rig.file.exists()
    assert report.guard == "restart"
    assert rig.apply(OLD, reload="restart", options=RunOptions(restart=True)).outcome is Outcome.APPLIED


def test_a_file_that_is_wanted_no_more_goes(rig: ServiceRig) -> None:
    other = rig.directory / "other.conf"
    rig.table["files"] = [str(other)]
    two = (File(path=str(rig.file), text=OLD), File(path=str(other), text="x"))
    assert rig.apply(OLD, files=two).outcome is Outcome.APPLIED and other.read_text().endswith("\nx\n")
    assert rig.apply(OLD).outcome is Outcome.APPLIED and not other.exists()


def test_a_secret_is_in_the_file_and_nowhere_else(rig: ServiceRig, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hunter2\n")
    secret.chmod(0o600)
    rig.table["secrets"] = {"admin": f"file:{secret}"}
    file = File(path=str(rig.file), text="listen 1\npassword {secret:admin}\n", mode=0o640)
    report = rig.apply(OLD, files=(file,))
    assert report.outcome is Outcome.APPLIED and "password hunter2" in rig.file.read_text()
    assert rig.file.stat().st_mode & 0o777 == 0o640 and "hunter2" not in repr(report)
    open_file = File(path=str(rig.file), text="password {secret:admin}\n", mode=0o644)
    assert "mode 644" in rig.apply(OLD, files=(open_file,)).reason
    secret.chmod(0o644)
    assert "open to everybody" in rig.apply(NEW, files=(file,)).reason


def test_a_symbolic_link_on_the_way_is_refused(rig: ServiceRig, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    link = rig.directory / "inside"
    link.symlink_to(outside)
    rig.table["file"] = str(link / "app.conf")
    file = File(path=str(link / "app.conf"), text=OLD)
    report = rig.apply(OLD, files=(file,))
    assert (
        report.outcome is Outcome.FAILED and "symbolic link" in report.reason and not list(outside.iterdir())
    )


def test_a_target_that_is_a_link_is_not_written_through(rig: ServiceRig, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious\n")
    rig.file.symlink_to(victim)
    rig.table["adopt"] = True
    assert rig.apply(NEW).outcome is Outcome.FAILED and victim.read_text() == "precious\n"


def test_a_disk_that_takes_no_file_leaves_all_as_it_is(rig: ServiceRig) -> None:
    rig.apply(OLD)
    missing = File(path=str(rig.directory / "gone" / "app.conf"), text=NEW)
    rig.table["files"] = [missing.path]
    report = rig.apply(NEW, files=(File(path=str(rig.file), text=NEW), missing))
    assert report.outcome is Outcome.FAILED and "gone" in report.reason
    assert body(rig) == OLD and rig.leftovers() == []


def test_the_state_survives_as_json_of_known_fields(rig: ServiceRig) -> None:
    rig.apply(OLD)
    state = Journal(rig.state).read()
    assert state.endpoints and state.last_success_at == NOW and state.generation == 1
    assert msgspec.json.decode((rig.state / "state.json").read_bytes())["schema"] == 2
    assert (rig.state / "state.json").stat().st_mode & 0o777 == 0o600
