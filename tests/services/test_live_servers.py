"""HAProxy's servers change in the running process; what it cannot do so, a reload does."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from haproxy_site import Site, applied_site
from real_service import Running, listens, running
from service_rig import NOW, a_view
from until import wait_until

from meshd.services import live_servers
from meshd.services.journal import Journal
from meshd.services.modules.haproxy import Haproxy, HaproxyConfig
from meshd.services.plan import LiveServer, ServicePlan
from meshd.services.schedule import Outcome
from meshd.services.transaction import Report, RunOptions, Transaction

EVERYBODY = ("a", "b", "c", "d")
NO_RELOAD = ("/bin/sh", "-c", "echo reloaded >&2; exit 9")


@contextlib.contextmanager
def serving(**table: Any) -> Iterator[tuple[Site, Running]]:
    """A HAProxy with a, b and c, of which only b and c are there, and no way to reload it."""
    with applied_site(**table) as site:
        site.table["reload_command"] = [*NO_RELOAD]
        for number in (2, 3):
            site.backends.start(f"127.0.1.{number}", f"host {number}")
        with running(site.argv(), site.folder / "log") as server:
            wait_until(server.said(), lambda: site.socket.exists() and site.servers())
            wait_until(server.said(), lambda: site.servers()["b"]["status"].startswith("UP"))
            yield site, server


def reloads(site: Site, server: Running) -> None:
    """From now on it can be reloaded, and whoever does so leaves a word."""
    word = f"touch {site.folder}/reloaded; kill -USR2 {server.process.pid}"
    site.table["reload_command"] = ["/bin/sh", "-c", word]


def was_reloaded(site: Site) -> bool:
    return (site.folder / "reloaded").exists()


@pytest.mark.slow
@pytest.mark.real
def test_a_host_more_is_a_server_without_a_reload_and_the_file_says_the_same() -> None:
    with serving() as (site, server):
        site.backends.start("127.0.1.4", "host 4")
        report = site.apply(site.view(2, *EVERYBODY))
        assert report.outcome is Outcome.APPLIED, report
        assert set(site.servers()) == set(EVERYBODY)
        assert " 127.0.1.4:" in site.file.read_text()
        wait_until(server.said(), lambda: site.servers()["d"]["status"] == "UP")
        assert site.apply(site.view(3, *EVERYBODY)).outcome is Outcome.UNCHANGED


@pytest.mark.slow
@pytest.mark.real
def test_what_is_added_gets_nothing_before_its_own_check_has_passed() -> None:
    """After a reload a new server works until the first check says no. A replica would be written to."""
    with serving(check_interval="2s") as (site, server):
        assert site.apply(site.view(2, *EVERYBODY)).outcome is Outcome.APPLIED
        assert site.servers()["d"]["status"].startswith("DOWN")
        assert "mesh_app/d is DOWN" in server.said()
        site.backends.start("127.0.1.4", "host 4")
        wait_until(server.said(), lambda: site.servers()["d"]["status"].startswith("UP"))


@pytest.mark.slow
@pytest.mark.real
def test_what_is_added_works_as_the_others_do_although_no_agent_ever_answered() -> None:
    """Nothing listens at agent_listen: a dead meshd takes nobody out of use, nor keeps anybody out."""
    with serving() as (site, server):
        site.backends.start("127.0.1.4", "host 4")
        assert site.apply(site.view(2, *EVERYBODY)).outcome is Outcome.APPLIED
        assert not listens(site.agent_port)
        wait_until(server.said(), lambda: site.servers()["d"]["status"].startswith("UP"))
        added, old = site.servers()["d"], site.servers()["b"]
        for column in ("weight", "check_rise", "check_fall", "agent_rise", "type", "bck", "act"):
            assert added[column] == old[column], column


@pytest.mark.slow
@pytest.mark.real
def test_a_host_less_goes_without_a_reload_while_nobody_is_connected_to_it() -> None:
    with serving() as (site, _):
        signed = site.view(2, "a", "b", removed=("app/c@127.0.1.3",))
        report = site.apply(signed)
        assert report.outcome is Outcome.APPLIED, report
        assert set(site.servers()) == {"a", "b"}


@pytest.mark.slow
@pytest.mark.real
def test_a_host_that_goes_ends_no_connection_the_old_process_serves_it_to_its_end() -> None:
    with serving() as (site, server), socket.create_server(("127.0.1.1", site.backends.port)) as first:
        reloads(site, server)
        wait_until(server.said(), lambda: site.servers()["a"]["status"].startswith("UP"))
        kept: list[socket.socket] = []

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    kept.append(first.accept()[0])

        threading.Thread(target=serve, daemon=True).start()
        port = int(site.bind.rpartition(":")[2])
        with contextlib.ExitStack() as stack:

            def on_first() -> bool:
                channel = stack.enter_context(socket.create_connection(("127.0.0.1", port), 10))
                channel.setblocking(False)
                lasting.append(channel)
                return site.servers()["a"]["scur"] != "0"

            lasting: list[socket.socket] = []
            wait_until("one is connected to a", on_first)
            report = site.apply(site.view(2, "b", "c", removed=("app/a@127.0.1.1",)))
            assert report.outcome is Outcome.APPLIED and was_reloaded(site), report
            assert set(site.servers()) == {"b", "c"}
            wait_until("it is served still", lambda: talks(lasting, kept))
        for channel in kept:
            channel.close()


def talks(clients: list[socket.socket], servers: list[socket.socket]) -> bool:
    """What a server says arrives at a client, through the HAProxy that took the connection."""
    for channel in servers:
        with contextlib.suppress(OSError):
            channel.sendall(b"still")
    found = []
    for channel in clients:
        with contextlib.suppress(OSError):
            found.append(channel.recv(100))
    return any(each.startswith(b"still") for each in found)


@pytest.mark.slow
@pytest.mark.real
def test_a_jail_that_moved_is_found_at_its_new_address_without_a_reload() -> None:
    with serving() as (site, server):
        site.backends.start("127.0.1.77", "host 77")
        view = site.view(2)
        app = view.services["app"]
        moved = msgspec.structs.replace(app.placements[0], address="127.0.1.77")
        app = msgspec.structs.replace(app, placements=(moved, *app.placements[1:]))
        view = msgspec.structs.replace(view, services={"app": app})
        report = site.apply(view)
        assert report.outcome is Outcome.APPLIED, report
        wait_until(server.said(), lambda: site.servers()["a"]["status"].startswith("UP"))


CHANGES: dict[str, Any] = {
    "where it is offered": {"bind": True},
    "how servers are checked": {"check_interval": "300ms"},
    "where they ask for their weight": {"agent_interval": "300ms"},
}


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.parametrize("what", CHANGES)
def test_whatever_else_changes_is_reloaded(what: str) -> None:
    with serving() as (site, server):
        reloads(site, server)
        change = CHANGES[what]
        site.table |= {"bind": {"app": f"127.0.0.1:{site.free_port()}"}} if "bind" in change else change
        report = site.apply(site.view(2, *EVERYBODY))
        assert report.outcome is Outcome.APPLIED and was_reloaded(site), report


@pytest.mark.slow
@pytest.mark.real
def test_when_no_server_stays_as_it_is_the_reload_does_it() -> None:
    """Else nobody would work until the first check of a new one has passed."""
    with serving() as (site, server):
        reloads(site, server)
        view = site.view(2)
        app = view.services["app"]
        places = tuple(msgspec.structs.replace(each, port=site.free_port()) for each in app.placements)
        app = msgspec.structs.replace(app, placements=places)
        report = site.apply(msgspec.structs.replace(view, services={"app": app}))
        assert report.outcome is Outcome.APPLIED and was_reloaded(site), report


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.parametrize(
    ("before", "after"),
    [("level admin", "level operator"), ("timeout connect", "balance source\n    timeout connect")],
)
def test_a_haproxy_that_does_not_do_it_is_reloaded(before: str, after: str) -> None:
    """A socket without the right to, a back end whose balance cannot change; an old version says as much."""
    with applied_site() as site:
        site.main.write_text(site.main.read_text().replace(before, after))
        with running(site.argv(), site.folder / "log") as server:
            wait_until(server.said(), lambda: site.socket.exists() and site.servers())
            reloads(site, server)
            report = site.apply(site.view(2, *EVERYBODY))
            assert report.outcome is Outcome.APPLIED and was_reloaded(site), report
            assert set(site.servers()) == set(EVERYBODY)


@pytest.mark.slow
@pytest.mark.real
def test_after_somebody_elses_change_by_hand_the_file_is_read_anew() -> None:
    """Nobody knows what of it HAProxy runs."""
    with serving() as (site, server):
        reloads(site, server)
        site.file.write_text(site.file.read_text().replace("fall 3", "fall 9"))
        report = run(site, RunOptions(overwrite=True))
        assert report.outcome is Outcome.APPLIED and was_reloaded(site), report


def run(
    site: Site, options: RunOptions | None = None, plan: ServicePlan | None = None, **more: Any
) -> Report:
    view = site.view(2, *EVERYBODY)
    transaction = Transaction(config=site.config(), journal=Journal(site.folder / "state"), **more)
    transaction.recover()
    return transaction.apply(plan or site.plan(view), view, "input", now=NOW, options=options)


class PowerCut(BaseException):
    """The process is gone."""


@pytest.mark.slow
@pytest.mark.real
def test_a_run_that_is_cut_off_after_the_change_is_made_sure_of_by_a_reload() -> None:
    with serving() as (site, server):

        def cut(step: str) -> None:
            if step == "changed alive":
                raise PowerCut

        with pytest.raises(PowerCut):
            run(site, step=cut)
        assert set(site.servers()) == set(EVERYBODY)
        reloads(site, server)
        report = run(site)
        assert report.outcome is Outcome.APPLIED and was_reloaded(site), report
        assert set(site.servers()) == set(EVERYBODY)


@pytest.mark.slow
@pytest.mark.real
def test_a_change_that_does_not_show_is_reloaded_and_undone_when_that_fails_too() -> None:
    """The answer is not as expected, and a reload does not help: back to the file from before."""
    with serving() as (site, server):
        before = site.file.read_text()
        plan = site.plan(site.view(2, *EVERYBODY))
        unseen = msgspec.structs.replace(plan.verify[0], expect=(" nobody ",))
        plan = msgspec.structs.replace(plan, verify=(unseen,), verify_seconds=0.5)
        reloads(site, server)
        report = run(site, plan=plan)
        assert report.outcome is Outcome.ROLLED_BACK and was_reloaded(site), report
        assert site.file.read_text() == before
        wait_until(server.said(), lambda: set(site.servers()) == {"a", "b", "c"})


STATE = """1
# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight ...
2 mesh_app 1 a 10.0.0.1 2 0 100 100 1 6 3 4 6 22 0 0 - 80 - 0 0 - 127.0.0.1 9199
"""


class Told:
    """A socket that takes everything, and says what it is told to say."""

    def __init__(self, **answers: str) -> None:
        self.lines: list[str] = []
        self.answers = answers

    def __call__(self, line: str) -> str:
        self.lines.append(line)
        return next((text for word, text in self.answers.items() if line.startswith(word)), "\n")


def server(number: int) -> LiveServer:
    return LiveServer(address=f"10.0.0.{number}", port=80, agent=f"app/{number}!", options="check")


@pytest.mark.parametrize(
    "state", ["", "\n", "2\n# other columns\n2 mesh_app 1 a 10.0.0.1 2 0\n", "Permission denied\n"]
)
def test_a_state_that_is_not_understood_changes_nothing(state: str) -> None:
    told = Told(show=state)
    assert live_servers.bring({"mesh_app": {"a": server(1), "b": server(2)}}, told)
    assert told.lines == ["show servers state"]


@pytest.mark.parametrize(
    "jail", ["a;disable server mesh_app/b", "a b", "a\nb", 'a"b', "a!b", "$HOME", "a\\b"]
)
def test_a_name_that_would_be_a_command_is_left_to_the_reload(jail: str) -> None:
    view = a_view(1)
    app = view.services["app"]
    named = msgspec.structs.replace(app.placements[0], jail=jail)
    app = msgspec.structs.replace(app, placements=(named, *app.placements[1:]))
    config = HaproxyConfig(file="/etc/mesh.cfg", bind={"app": "127.0.0.1:1"}, socket="/run/haproxy.sock")
    assert Haproxy().render(view, config).live is not None
    hostile = msgspec.structs.replace(view, services={"app": app})
    assert Haproxy().render(hostile, config).live is None


@pytest.mark.parametrize("answer", ["", "Unknown command: 'add server'", "This command is experimental"])
def test_nothing_is_enabled_that_was_not_added(answer: str) -> None:
    told = Told(show=STATE, add=answer)
    assert "mesh_app/b" in (live_servers.bring({"mesh_app": {"a": server(1), "b": server(2)}}, told) or "")
    assert [line.split()[0] for line in told.lines] == ["show", "add"]
