"""The module ``haproxy`` on the real HAProxy: it takes the file, follows the agent, outlives a dead meshd."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import threading
from collections.abc import Iterator

import msgspec
import pytest
from haproxy_site import Site, applied_site
from real_service import listens, program, running
from until import wait_until

from meshd.errors import ConfigError
from meshd.services.channels import AgentPort
from meshd.services.modules.haproxy import Haproxy
from meshd.services.plan import File
from meshd.services.schedule import Outcome
from meshd.services.view import PathView

pytestmark = [pytest.mark.slow, pytest.mark.real]


@pytest.fixture
def site() -> Iterator[Site]:
    """What changes is reloaded."""
    with applied_site(live=False) as made:
        yield made


def reloading(site: Site, pid: int) -> None:
    site.table["reload_command"] = ["/bin/kill", "-USR2", str(pid)]


def test_a_host_that_is_added_is_a_server_after_the_reload(site: Site) -> None:
    with running(site.argv(), site.folder / "log") as server:
        wait_until(server.said(), lambda: site.socket.exists() and site.servers())
        reloading(site, server.process.pid)
        assert set(site.servers()) == {"a", "b", "c"}
        report = site.apply(site.view(2, "a", "b", "c", "d"))
        assert report.outcome is Outcome.APPLIED, report
        assert set(site.servers()) == {"a", "b", "c", "d"}


def test_a_reload_loses_no_connection_neither_an_old_one_nor_a_new_one(site: Site) -> None:
    """The new process takes over the listening sockets, and hears from the old one who was down; the old one
    stays for what it serves."""
    port = int(site.bind.rpartition(":")[2])

    def echo(channel: socket.socket) -> None:
        with channel, contextlib.suppress(OSError):
            while said := channel.recv(100):
                channel.sendall(said)

    def serve(listening: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=echo, args=listening.accept()[:1], daemon=True).start()

    def says_back(channel: socket.socket) -> bool:
        channel.settimeout(10)
        channel.sendall(b"hello")
        return channel.recv(100) == b"hello"

    done = threading.Event()
    failures: list[Exception] = []
    made = 0

    def knock() -> None:
        nonlocal made
        while not done.is_set():
            try:
                with socket.create_connection(("127.0.0.1", port), 10) as channel:
                    assert says_back(channel)
                made += 1
            except (OSError, AssertionError) as error:
                failures.append(error)

    with (
        running(site.argv(), site.folder / "log") as server,
        socket.create_server(("127.0.1.1", site.backends.port)) as first,
        socket.create_server(("127.0.1.4", site.backends.port)) as added,
    ):
        for listening in (first, added):
            threading.Thread(target=serve, args=(listening,), daemon=True).start()
        wait_until(server.said(), lambda: site.socket.exists() and site.servers())
        wait_until(server.said(), lambda: site.servers()["a"]["status"].startswith("UP"))
        for gone in ("b", "c"):
            wait_until(server.said(), lambda: site.servers()[gone]["status"].startswith("DOWN"))  # noqa: B023
        reloading(site, server.process.pid)
        knocking = threading.Thread(target=knock)
        with socket.create_connection(("127.0.0.1", port), 10) as lasting:
            assert says_back(lasting)
            knocking.start()
            try:
                report = site.apply(site.view(2, "a", "b", "c", "d"))
                assert report.outcome is Outcome.APPLIED, report
                before = made
                wait_until("more connections after the reload", lambda: made > before + 20 or failures)
            finally:
                done.set()
                knocking.join(30)
            assert not failures, (failures, server.said())
            assert says_back(lasting), "the old process serves it to its end"
        assert "mesh_app/c is DOWN, changed from server-state after a reload" in server.said()


def test_a_reload_that_never_comes_is_noticed_and_undone(site: Site) -> None:
    with running(site.argv(), site.folder / "log") as server:
        wait_until(server.said(), lambda: site.socket.exists() and site.servers())
        before = site.file.read_text()
        plan = msgspec.structs.replace(site.plan(site.view(2, "a", "b", "c", "d")), verify_seconds=1.0)
        report = site.apply(site.view(2, "a", "b", "c", "d"), plan)
        assert report.outcome is Outcome.ROLLED_BACK and "' d 127.0.1.4 '" in report.reason, report
        assert site.file.read_text() == before and set(site.servers()) == {"a", "b", "c"}


@pytest.mark.parametrize(
    "text",
    [
        "listen mesh_app\n    bind 127.0.0.1:1\n    sever a 127.0.0.1:1\n",
        "listen mesh_app\n    bind nonsense\n",
    ],
)
def test_what_haproxy_itself_refuses_is_never_in_place(site: Site, text: str) -> None:
    before = site.file.read_text()
    plan = msgspec.structs.replace(site.plan(site.view(2)), files=(File(path=str(site.file), text=text),))
    report = site.apply(site.view(2), plan)
    assert report.outcome is Outcome.REFUSED and site.file.read_text() == before


def test_a_warning_about_our_file_counts_although_haproxy_calls_it_valid(site: Site) -> None:
    """It takes a back end that listens nowhere, with a warning and exit status 0."""
    before, text = site.file.read_text(), "backend mesh_app\n    bind 127.0.0.1:1\n    server a 127.0.0.1:1\n"
    bare = site.folder / "bare.cfg"
    bare.write_text(text)
    argv = [program("haproxy"), "-c", "-f", str(site.main), "-f", str(bare)]
    assert subprocess.run(argv, capture_output=True, timeout=60).returncode == 0, "the trap is there"
    plan = msgspec.structs.replace(site.plan(site.view(2)), files=(File(path=str(site.file), text=text),))
    report = site.apply(site.view(2), plan)
    assert report.outcome is Outcome.REFUSED and "bind" in report.reason, report
    assert site.file.read_text() == before


def test_a_file_that_passes_the_check_and_cannot_be_taken_is_undone(site: Site) -> None:
    """The check binds nothing. HAProxy's master keeps the old process and says so in its log alone."""
    with running(site.argv(), site.folder / "log") as server, socket.create_server(("127.0.0.1", 0)) as other:
        wait_until(server.said(), lambda: site.socket.exists() and site.servers())
        reloading(site, server.process.pid)
        before = site.file.read_text()
        view = site.view(2, "a", "b", "c", "d")
        site.table["bind"] = {"app": f"127.0.0.1:{other.getsockname()[1]}"}
        report = site.apply(view, msgspec.structs.replace(site.plan(view), verify_seconds=2.0))
        assert report.outcome is Outcome.ROLLED_BACK, (report, server.said())
        assert site.file.read_text() == before and set(site.servers()) == {"a", "b", "c"}
        wait_until(server.said(), lambda: listens(int(site.bind.rpartition(":")[2])))


def test_a_reload_that_fails_is_undone_and_the_running_servers_stay(site: Site) -> None:
    with running(site.argv(), site.folder / "log") as server:
        wait_until(server.said(), lambda: site.socket.exists() and site.servers())
        once = site.folder / "failed-once"
        pid = server.process.pid
        site.table["reload_command"] = [
            *("/bin/sh", "-c", f"[ -e {once} ] || {{ touch {once}; exit 3; }}; kill -USR2 {pid}")
        ]
        before = site.file.read_text()
        report = site.apply(site.view(2, "a", "b", "c", "d"))
        assert report.outcome is Outcome.ROLLED_BACK and "exit status 3" in report.reason, report
        assert site.file.read_text() == before and set(site.servers()) == {"a", "b", "c"}


def test_a_stale_a_shrunken_and_an_empty_view_take_no_server_from_a_running_haproxy(site: Site) -> None:
    with running(site.argv(), site.folder / "log") as server:
        wait_until(server.said(), lambda: site.socket.exists() and site.servers())
        reloading(site, server.process.pid)
        before = site.file.read_text()
        for view, said in (
            (site.view(2, "a", "b", stale=True), "stale"),
            (site.view(2, "a"), "2 of 3 endpoints would go without a signed word"),
            (site.view(2, hosts={}), "empty"),
            (msgspec.structs.replace(site.view(2), services={}), "without a signed word"),
        ):
            report = site.apply(view)
            assert report.outcome is Outcome.HELD and said in report.reason, report
        assert site.file.read_text() == before and set(site.servers()) == {"a", "b", "c"}
        signed = site.view(2, "a", removed=("app/b@127.0.1.2", "app/c@127.0.1.3"))
        assert site.apply(signed).outcome is Outcome.APPLIED
        assert set(site.servers()) == {"a"}


def test_a_file_that_was_changed_by_hand_is_held_and_haproxy_left_alone(site: Site) -> None:
    with running(site.argv(), site.folder / "log") as server:
        wait_until(server.said(), lambda: site.socket.exists() and site.servers())
        reloading(site, server.process.pid)
        by_hand = site.file.read_text() + "    # by hand\n"
        site.file.write_text(by_hand)
        report = site.apply(site.view(2, "a", "b", "c", "d"))
        assert report.outcome is Outcome.HELD and "changed or removed by somebody else" in report.reason
        assert site.file.read_text() == by_hand and set(site.servers()) == {"a", "b", "c"}


def test_a_missing_last_line_feed_which_haproxy_calls_an_error_cannot_happen(site: Site) -> None:
    bare = site.folder / "bare.cfg"
    bare.write_text("listen x\n    bind 127.0.0.1:1\n    server a 127.0.0.1:1")
    argv = [program("haproxy"), "-c", "-f", str(site.main), "-f", str(bare)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "Missing LF" in done.stderr, "the trap is there"
    plan = site.plan(site.view(2, "a", "b", "c", "d"))
    [file] = plan.files
    cut = msgspec.structs.replace(plan, files=(File(path=file.path, text=file.text.rstrip("\n")),), verify=())
    assert site.apply(site.view(2, "a", "b", "c", "d"), cut).outcome is Outcome.APPLIED


def test_near_servers_get_more_at_run_time_and_a_dead_meshd_takes_none_away(site: Site) -> None:
    """The agent's words, the same file: weights follow the distance; without an agent all stay up."""
    for number in (1, 2, 3):
        site.backends.start(f"127.0.1.{number}", f"host {number}")
    far = site.view(1, paths={"b": PathView(bucket=2), "c": PathView(bucket=5)})
    draining = site.view(1, paths={"b": PathView(bucket=0)})
    app = draining.services["app"]
    places = (
        app.placements[0],
        app.placements[1],
        msgspec.structs.replace(app.placements[2], state="draining"),
    )
    draining = msgspec.structs.replace(
        draining, services={"app": msgspec.structs.replace(app, placements=places)}
    )

    async def scenario() -> None:
        agent = AgentPort()
        await agent.start("127.0.0.1", site.agent_port)
        agent.answers = Haproxy().signals(far, site.own()).answers

        async def until_seen(column: str, **wanted: str) -> None:
            def is_so() -> bool:
                seen = site.servers()
                return all(seen[name][column].startswith(text) for name, text in wanted.items())

            await asyncio.to_thread(wait_until, f"{column}: {wanted}", is_so)

        await until_seen("weight", a="100", b="5", c="5")
        agent.answers = Haproxy().signals(draining, site.own()).answers
        await until_seen("weight", a="100", b="100")
        await until_seen("status", c="DRAIN")
        await agent.close()
        await asyncio.sleep(1.5)
        after = await asyncio.to_thread(site.servers)
        assert after["a"]["status"].startswith("UP") and after["b"]["status"].startswith("UP")

    with running(site.argv(), site.folder / "log") as server:
        wait_until(server.said(), lambda: site.socket.exists() and site.servers())
        wait_until(server.said(), lambda: site.servers()["a"]["status"].startswith("UP"))
        asyncio.run(scenario())
        port = int(site.bind.rpartition(":")[2])
        assert listens(port)
        with socket.create_connection(("127.0.0.1", port), 5) as channel:
            channel.settimeout(5)
            assert channel.recv(100).startswith(b"host ")


def test_patroni_is_asked_who_leads_and_how_far_behind_a_replica_is(site: Site) -> None:
    view = site.view(1)
    app = msgspec.structs.replace(view.services["app"], kind="patroni", check="http=:8009/health")
    view = msgspec.structs.replace(view, services={"app": app})
    site.table["replicas"] = {"app": "127.0.0.1:5433"}
    text = site.plan(view).files[0].text
    assert "option httpchk HEAD /primary" in text and "option httpchk HEAD /replica?lag=10MB" in text
    assert "check port 8009" in text and "on-marked-down shutdown-sessions" in text


def test_a_service_that_nobody_declared_is_not_offered_and_words_cannot_break_the_file(site: Site) -> None:
    site.table["bind"] = {"nothing": "127.0.0.1:1"}
    assert "listen" not in site.plan(site.view(1)).files[0].text
    site.table["bind"] = {"app": "127.0.0.1:1\n    server evil 192.0.2.1:1"}
    with pytest.raises(ConfigError, match="expected"):
        site.plan(site.view(1))
