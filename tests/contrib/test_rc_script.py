"""The rc.d script under a stand-in for rc.subr(8) and daemon(8).

The expected answers are those of a FreeBSD 15.1. It runs under every POSIX shell that this machine has.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from rc_script import (
    DAEMON,
    ENV,
    INSTALL,
    INSTALLED_SHELLS,
    MESHD,
    SCRIPT,
    SETFIB,
    STUB,
    Answer,
    Service,
    write_program,
)
from transcripts import entries


@pytest.fixture(params=sorted(INSTALLED_SHELLS))
def service(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Service]:
    base = tmp_path
    for name, text in (("meshd", MESHD), ("daemon", DAEMON), ("setfib", SETFIB), ("env", ENV)):
        write_program(base / "bin" / name, text.format(base=base, python=sys.executable))
    write_program(base / "bin" / "install", INSTALL)
    stub = STUB.read_text().replace("@BASE@", str(base)).replace("@PYTHON@", sys.executable)
    (base / "rc.subr").write_text(stub)
    script = SCRIPT.read_text()
    for real, ours in (
        ("/etc/rc.subr", base / "rc.subr"),
        ("/usr/local/bin/meshd", base / "bin" / "meshd"),
        ("/usr/sbin/daemon", base / "bin" / "daemon"),
        ("/var/run/meshd", base / "run"),
        ("install -d", f"{base}/bin/install -d"),
        ("install -o", f"{base}/bin/install -o"),
    ):
        assert real in script
        script = script.replace(real, str(ours))
    (base / "rc.d-meshd").write_text(script)
    (base / "meshd.toml").write_text("[host]\n")
    (base / "rc.conf").write_text(f'meshd_enable="YES"\nmeshd_config="{base}/meshd.toml"\n')
    service = Service(base=base, shell=INSTALLED_SHELLS[request.param])
    yield service
    with contextlib.suppress(FileNotFoundError):
        os.kill(service.pid("daemon"), signal.SIGTERM)
    service.await_("the end of daemon", lambda: not (base / "run" / "daemon.pid").exists())


def said(service: Service) -> str:
    """By the stand-in for meshd, before the daemon starts."""
    return f"{service.config}: ok\nwg0: unchanged, 0 changes, 1 peers\n"


def test_start_checks_then_joins_the_mesh_then_supervises(service: Service) -> None:
    answer = service.start()
    assert (answer.status, answer.output) == (0, f"{said(service)}Starting meshd.\n")
    assert service("status").output == f"meshd is running as pid {service.pid('daemon')}.\n"
    calls = service.log()
    config = service.config
    before_daemon = calls[: next(i for i, call in enumerate(calls) if call.startswith("daemon "))]
    assert before_daemon[:3] == [
        f"meshd --config {config} check-config",
        "kldload if_wg",
        f"meshd --config {config} bring-up",
    ]
    assert f"meshd --config {config} run" in calls


def test_a_second_start_is_refused_and_changes_nothing(service: Service) -> None:
    service.start()
    pids = service.pid("daemon"), service.pid("meshd")
    before = service.log()
    answer = service("start")
    assert (answer.status, answer.errors) == (1, f"meshd already running?  (pid={pids[0]}).\n")
    assert service.log() == before
    assert (service.pid("daemon"), service.pid("meshd")) == pids


@pytest.mark.slow
def test_reload_signals_meshd_and_not_its_supervisor(service: Service) -> None:
    service.start()
    answer = service("reload")
    assert (answer.status, answer.output) == (0, f"{service.config}: ok\nReloading meshd.\n")
    service.await_log("meshd got HUP")
    assert "daemon got HUP" not in service.log()


def test_reload_of_a_wrong_file_leaves_the_daemon_alone(service: Service) -> None:
    service.start()
    service.config.write_text("")
    answer = service("reload")
    assert answer.status == 1
    assert f"meshd: {service.config}: empty" in answer.errors
    assert service("status").status == 0
    assert "meshd got HUP" not in service.log()


def test_restart_with_a_wrong_file_leaves_the_daemon_running(service: Service) -> None:
    service.start()
    pids = service.pid("daemon"), service.pid("meshd")
    service.config.write_text("")
    answer = service("restart")
    assert answer.status == 1
    assert f"meshd: {service.config}: empty" in answer.errors and "Stopping" not in answer.output
    assert (service.pid("daemon"), service.pid("meshd")) == pids
    assert service("status").status == 0


@pytest.mark.parametrize("verb", ["start", "bringup"])
def test_bring_up_runs_in_the_routing_table_and_environment_of_the_daemon(
    service: Service, verb: str
) -> None:
    """rc.subr puts setfib and env before daemon(8) alone: routes would be set in another table first."""
    with (service.base / "rc.conf").open("a") as rc_conf:
        rc_conf.write("meshd_fib=1\nmeshd_env=\"A_WORD='two words'\"\n")
    service(verb)
    if verb == "start":
        service.await_up()
    config = service.config
    for call in ("check-config", "bring-up"):
        line = f"meshd --config {config} {call}"
        before = service.log()[: service.log().index(line)]
        assert before[-2:] == ["setfib -F 1", "env A_WORD=two words"], (call, service.log())


@pytest.mark.slow
def test_a_meshd_whose_supervisor_was_killed_is_ended_before_another_one_starts(service: Service) -> None:
    service.start()
    orphan, supervisor = service.pid("meshd"), service.pid("daemon")
    os.kill(supervisor, signal.SIGKILL)
    service.await_("the end of daemon", lambda: service("status").status == 1)
    os.kill(orphan, 0)
    answer = service("start")
    assert answer.status == 0
    assert f"Ending meshd {orphan}, which no daemon(8) watches any more." in answer.output
    service.await_("a new daemon", lambda: service.pid("daemon") != supervisor)
    service.await_("a new meshd", lambda: is_up(service, 2))
    assert service.pid("meshd") != orphan
    with pytest.raises(ProcessLookupError):
        os.kill(orphan, 0)


def test_reload_without_a_daemon_says_so(service: Service) -> None:
    answer = service("reload")
    assert (answer.status, answer.output) == (1, f"{service.config}: ok\nmeshd is not running.\n")


def test_stop_ends_both_processes_and_a_second_stop_says_so(service: Service) -> None:
    service.start()
    meshd_pid = service.pid("meshd")
    assert service("stop").status == 0
    with pytest.raises(ProcessLookupError):
        os.kill(meshd_pid, 0)
    answer = service("stop")
    assert answer.status == 1
    assert answer.errors.startswith("meshd not running?")
    assert service("status").output == "meshd is not running.\n"


def test_a_new_host_without_a_cache_starts_all_the_same(service: Service) -> None:
    (service.base / "no-cache").touch()
    answer = service.start()
    assert answer.status == 0
    assert "WARNING: meshd bring-up failed" in answer.errors
    assert service("status").status == 0


def test_bringup_alone_starts_no_daemon(service: Service) -> None:
    assert service("bringup").status == 0
    assert service.log() == [
        f"meshd --config {service.config} check-config",
        f"meshd --config {service.config} bring-up",
    ]
    assert service("status").status == 1


@pytest.mark.parametrize("content", [None, ""], ids=["missing", "wrong"])
def test_without_good_settings_nothing_is_started(service: Service, content: str | None) -> None:
    if content is None:
        service.config.unlink()
    else:
        service.config.write_text(content)
    answer = service.start()
    assert answer.status == 1
    assert str(service.config) in answer.errors
    assert not [call for call in service.log() if not call.endswith("check-config")]


def test_checkconfig_starts_nothing(service: Service) -> None:
    answer = service("checkconfig")
    assert (answer.status, answer.output) == (0, f"{service.config}: ok\n")
    assert service.log() == [f"meshd --config {service.config} check-config"]


def test_flags_of_rc_conf_reach_meshd_and_not_daemon(service: Service) -> None:
    with (service.base / "rc.conf").open("a") as rc_conf:
        rc_conf.write('meshd_flags="--verbose"\nmeshd_restart_delay="7"\n')
    service.start()
    (call,) = (line for line in service.log() if line.startswith("daemon "))
    assert call.split() == [
        "daemon",
        "-f",
        "-S",
        "-T",
        "meshd",
        "-P",
        f"{service.base}/run/daemon.pid",
        "-p",
        f"{service.base}/run/meshd.pid",
        "-R",
        "7",
        f"{service.base}/bin/meshd",
        "--config",
        str(service.config),
        "run",
        "--verbose",
    ]


def test_disabled_by_default(service: Service) -> None:
    (service.base / "rc.conf").write_text(f'meshd_config="{service.config}"\n')
    answer = service("start")
    assert answer.output.startswith("Cannot 'start' meshd. Set meshd_enable to YES")
    assert service.log() == []
    assert service("onestart").status == 0
    service.await_up()


def test_a_log_file_is_private_and_kept_by_daemon_for_newsyslog(service: Service) -> None:
    log_file = service.base / "meshd.log"
    with (service.base / "rc.conf").open("a") as rc_conf:
        rc_conf.write(f'meshd_logfile="{log_file}"\n')
    service.start()
    (call,) = (line for line in service.log() if line.startswith("daemon "))
    assert call.split()[1:5] == ["-f", "-H", "-o", str(log_file)]
    assert "-S" not in call.split()
    assert log_file.stat().st_mode & 0o777 == 0o640


def test_an_interface_that_rc_conf_gives_to_wg_quick_is_refused_before_anything_is_touched(
    service: Service,
) -> None:
    """meshd check-config says it, and the script asks that first."""
    write_program(
        service.base / "bin" / "meshd",
        """#!/bin/sh
echo "meshd: error: rc.conf: wireguard_interfaces='wg0' seen" >&2
exit 2
""",
    )
    answer = service("start")
    assert answer.status == 1
    assert "wireguard_interfaces='wg0' seen" in answer.errors
    assert not (service.base / "run").exists()


#: What the recording's own circumstances made of a command.
NOT_REPLAYED = {
    "kill": "that daemon(8) starts meshd again is daemon(8)'s own",
    "ls": "no command of the script",
    "rcorder": "compared below",
    "ifconfig": "of the product: tests/freebsd_tools",
    "wg": "of the product: tests/freebsd_tools",
    "netstat": "of the product: tests/freebsd_tools",
}


@pytest.mark.slow
def test_every_recorded_verb_is_answered_as_on_the_real_host(service: Service) -> None:
    """Text, stream and exit code of 14-rc-script.txt, but for process ids and what meshd says itself."""
    (service.base / "rc.conf").write_text(f'meshd_config="{service.config}"\n')
    replayed: list[str] = []
    starts = 0
    for entry in (one for one in entries("") if one.source == "14-rc-script.txt"):
        tool, _, rest = entry.command.partition(" ")
        if tool == "sysrc":
            (service.base / "rc.conf").write_text(f'meshd_config="{service.config}"\nmeshd_enable="YES"\n')
        elif tool == "service":
            verb = rest.split()[1]
            if verb == "stop":
                service("stop")  # as in the recording, whose daemon had ended
            answer = service(verb)
            if "Starting meshd." in answer.output:
                starts += 1
                service.await_("daemon.pid", (service.base / "run" / "daemon.pid").exists)
                service.await_("meshd", partial(is_up, service, starts))
            recorded = Answer(
                status=entry.exit_code, output=entry.stdout.decode(), errors=entry.stderr.decode()
            )
            assert neutral(answer, service) == neutral(recorded, service), (entry.command, replayed)
            replayed.append(verb)
        else:
            assert tool in NOT_REPLAYED
    assert replayed == [
        *("status", "start", "checkconfig", "start", "status", "reload", "start", "restart", "stop", "status")
    ]


def is_up(service: Service, starts: int) -> bool:
    return service.log().count("meshd is up") == starts


def neutral(answer: Answer, service: Service) -> Answer:
    def text(words: str) -> str:
        words = words.replace(str(service.config), "/usr/local/etc/meshd/meshd.toml")
        words = words.replace(f"{service.base}/run/", "/var/run/meshd/")
        words = re.sub(r"wg0: .*, \d+ changes, \d+ peers", "wg0: N", words)
        return re.sub(r"(pid[ =]|PIDS: )\d+", r"\1N", words)

    return Answer(status=answer.status, output=text(answer.output), errors=text(answer.errors))
