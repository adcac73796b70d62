"""A module that hangs, dies, forks, leaks, writes elsewhere or prints junk gets nowhere and costs nobody."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from kqueue_selector import KqueueSelector
from module_scripts import NAMES, public_directory, write_module
from service_rig import a_view
from until import wait_until

import meshd
from meshd.errors import BackendError, ConfigError
from meshd.services.config import ModuleConfig, read_modules
from meshd.services.isolation import run_isolated
from meshd.services.plan import RenderRequest, ServicePlan
from meshd.services.render import render_plan
from meshd.services.runner import PROCESSES


@pytest.fixture
def directory() -> Iterator[Path]:
    with public_directory() as made:
        yield made


def config(directory: Path, code: str) -> ModuleConfig:
    path = write_module(directory, code)
    return read_modules({"app": {"command": str(path), "file": "/nowhere/app.conf"}}, "test")["app"]


def render(directory: Path, code: str, seconds: float = 120.0) -> ServicePlan:
    return render_plan(config(directory, code), a_view(), seconds=seconds)


def test_an_executable_answers_with_a_plan(directory: Path) -> None:
    plan = render(directory, NAMES)
    assert plan.files[0].text == "a\nb\nc\n" and plan.endpoints[0] == "app/a@10.77.0.1"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("dns", {"server": "nsd", "directory": "/nowhere/zones"}),
        ("haproxy", {"file": "/nowhere/mesh.cfg", "bind": {"app": "127.0.0.1:80"}}),
        ("prometheus", {"file": "/nowhere/mesh.json", "kinds": ["http"]}),
        ("hosts", {"file": "/nowhere/hosts"}),
        ("postgres", {"file": "/nowhere/mesh.yml", "cluster": "app"}),
        ("garage", {"file": "/nowhere/garage.toml", "cluster": "app", "admin": "http://127.0.0.1:3903"}),
        ("redis", {"file": "/nowhere/s.conf", "sentinel": "127.0.0.1:26379", "groups": {"app": 1}}),
    ],
)
def test_every_built_in_module_answers_from_its_child(name: str, table: dict[str, object]) -> None:
    """The service is of the kind that the module wants."""
    view = a_view()
    kind = {"postgres": "patroni", "garage": "garage", "redis": "redis"}.get(name, "http")
    app = msgspec.structs.replace(view.services["app"], kind=kind)
    view = msgspec.structs.replace(view, services={"app": app})
    plan = render_plan(read_modules({name: table}, "test")[name], view)
    assert {each.id for each in app.placements} <= set(plan.endpoints) and plan.files[0].text


@pytest.mark.slow
def test_a_built_in_module_answers_the_same_way() -> None:
    modules = read_modules({"hosts": {"file": "/nowhere/hosts"}}, "test")
    plan = render_plan(modules["hosts"], a_view())
    assert "10.77.0.2\tb.mesh\n" in plan.files[0].text and "app.svc.mesh" in plan.files[0].text


OF_A_CLOSED_CHECKOUT = """
import sys
sys.path.insert(0, {place!r})
from meshd.services import runner
sys.exit(runner.main([{lifeline!r}, "65534:65534", "hosts"]))
"""


@pytest.mark.root
def test_a_built_in_module_answers_from_a_checkout_that_only_root_may_enter(tmp_path: Path) -> None:
    closed = tmp_path / "checkout"
    closed.mkdir(mode=0o700)
    ours = Path(meshd.__file__).parent
    shutil.copytree(ours, closed / "meshd", ignore=shutil.ignore_patterns("__pycache__"))
    view = msgspec.Raw(msgspec.json.encode(a_view()))
    request = RenderRequest(view=view, settings={"file": "/nowhere/hosts"})
    read, write = os.pipe()
    with os.fdopen(read, "rb"), os.fdopen(write, "wb"):
        done = subprocess.run(
            [sys.executable, "-I", "-c", OF_A_CLOSED_CHECKOUT.format(place=str(closed), lifeline=str(read))],
            input=msgspec.json.encode(request),
            capture_output=True,
            pass_fds=(read,),
            timeout=60,
        )
    assert done.returncode == 0, done.stderr.decode()
    assert msgspec.json.decode(done.stdout, type=ServicePlan).files[0].path == "/nowhere/hosts"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "word"),
    [
        ("time.sleep(600)", "no answer within 1 s"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "killed by signal 11"),
        ("sys.exit('no such cluster')", "no such cluster"),
        ("print('hello')", "no plan"),
        ("print('{\"files\": 5}')", "no plan"),
        ("answer('x', surprise=1)", "no plan"),
        ("sys.stdout.buffer.write(bytes(range(256)) * 100)", "no plan"),
        ("while True: sys.stdout.write('x' * 100000)", "bytes of output"),
        ("while True: sys.stderr.write('x' * 100000)", "no answer within 1 s"),
        ("x = [bytearray(1 << 28) for _ in range(100)]; answer('x')", "MemoryError"),
        ("p = '/tmp/meshd-%d' % os.getpid(); f = open(p, 'wb', 0); os.unlink(p); f.write(b'x')", "too large"),
        ("while True: pass", "no answer within 1 s"),
    ],
)
def test_whatever_it_does_instead_is_named(directory: Path, code: str, word: str) -> None:
    with pytest.raises(BackendError, match=word):
        render(directory, code, seconds=1.0 if "within" in word else 120.0)


def test_it_gives_way_to_everything_else_on_the_processor(directory: Path) -> None:
    """Where the scheduler has a group for each session, the whole session gives way."""
    group = Path("/proc/self/autogroup")
    code = (
        "answer('%d %s' % (os.nice(0), open('/proc/self/autogroup').read()))"
        if group.exists()
        else ("answer('%d ' % os.nice(0))")
    )
    own, _, session = render(directory, code).files[0].text.partition(" ")
    assert int(own) == min(os.nice(0) + 19, 19), "all that it may start weighs less than the daemon"
    assert session.strip().endswith("nice 19") or not group.exists()


def test_its_children_end_with_it(directory: Path) -> None:
    note = f"meshd-test-{os.getpid()}"
    code = f"subprocess.Popen(['/bin/sleep', '600'], env={{'NOTE': '{note}'}}); answer('x')"
    assert render(directory, code).files
    deadline = time.monotonic() + 30
    while running(note):  # killed, but the kernel takes its time to let it go
        assert time.monotonic() < deadline
        time.sleep(0.02)


FORMS = {
    "in its own session": "if os.fork() == 0:\n  os.setsid()\n",
    "twice forked, as daemons are": "if os.fork() == 0:\n  os.setsid()\n  os.fork() and os._exit(0)\n",
    "in a group of its own": "if os.fork() == 0:\n  os.setpgid(0, 0)\n",
}


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("end", ["answers", "hangs", "dies"])
def test_nothing_that_it_started_outlives_it(directory: Path, form: str, end: str) -> None:
    """Whoever leaves its group or session is found all the same, and holds nothing up."""
    note = f"meshd-test-{os.getpid()}-{len(form)}-{end}"
    started = FORMS[form] + f"  os.execve('/bin/sleep', ['sleep', '600'], {{'NOTE': '{note}'}})\n"
    code = {
        "answers": f"{started}time.sleep(0.3); answer('x')",
        "hangs": f"{started}time.sleep(600)",
        "dies": f"{started}time.sleep(0.3); os.kill(os.getpid(), signal.SIGKILL)",
    }[end]
    if end == "answers":
        assert render(directory, code).files
    else:
        with pytest.raises(BackendError, match="no answer within 2 s" if end == "hangs" else "signal 9"):
            render(directory, code, seconds=2.0 if end == "hangs" else 60.0)
    assert not running(note)


@pytest.mark.slow
def test_a_module_ends_with_a_daemon_that_is_killed(directory: Path) -> None:
    note = f"meshd-test-{os.getpid()}-orphan"
    code = f"os.setsid(); os.execve('/bin/sleep', ['sleep', '600'], {{'NOTE': '{note}'}})"
    daemon = os.fork()
    if daemon == 0:
        with contextlib.suppress(BaseException):
            render(directory, code, seconds=600.0)
        os._exit(1)
    wait_until("the module runs", lambda: running(note))
    os.kill(daemon, signal.SIGKILL)
    os.waitpid(daemon, 0)
    wait_until("the module is gone", lambda: not running(note))


@pytest.mark.slow
def test_a_child_that_keeps_the_answer_open_is_not_waited_for(directory: Path) -> None:
    began = time.monotonic()
    code = "answer('x'); sys.stdout.flush(); os.fork() or time.sleep(600)"
    assert render(directory, code, seconds=300.0).files
    assert time.monotonic() - began < 200, "the child sleeps for ten minutes"


@pytest.mark.slow
def test_a_fork_bomb_is_bounded(directory: Path) -> None:
    with pytest.raises(BackendError):
        render(directory, "\nwhile True:\n  os.fork()", seconds=2.0)


@pytest.mark.root
def test_it_may_write_nothing_of_ours(directory: Path) -> None:
    (directory / "ours").write_text("precious")
    with pytest.raises(BackendError, match="Permission denied"):
        render(directory, f"open('{directory}/ours', 'w')")
    assert (directory / "ours").read_text() == "precious"


@pytest.mark.root
def test_it_runs_as_a_user_that_nothing_else_is_with_no_environment_of_ours(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is the same user may kill it, trace it and say something else in its name."""
    monkeypatch.setenv("PRECIOUS", "hunter2")
    code = "answer('%d %d %r %r' % (os.getuid(), os.getgid(), os.getgroups(), sorted(os.environ)))"
    first, second = (render(directory, code).files[0].text for _ in range(2))
    assert first != second
    uid, gid, rest = first.split(" ", 2)
    assert uid == gid and rest.startswith("[] ") and "PRECIOUS" not in first
    with pytest.raises(KeyError):
        pwd.getpwuid(int(uid))


@pytest.mark.root
def test_what_else_runs_unprivileged_on_the_host_takes_none_of_its_processes(directory: Path) -> None:
    """A server of many threads that runs as nobody, or somebody who got into one."""
    crowd = [subprocess.Popen(["/bin/sleep", "600"], user="nobody") for _ in range(PROCESSES)]
    try:
        assert render(directory, "subprocess.run(['/bin/true'], check=True); answer('x')").files
    finally:
        for each in crowd:
            each.kill()
            each.wait()


def test_its_input_of_a_large_mesh_is_read_while_it_writes() -> None:
    """Both pipes are far smaller than what goes through them."""
    done = run_isolated(["/bin/cat"], b"x" * 4_000_000, seconds=60.0)
    assert len(done.output) == 4_000_000 and done.status == 0


@pytest.mark.parametrize("given", [b"", b"view", bytes(3 << 20)])
def test_a_program_that_has_ended_before_it_is_listened_to_is_heard_all_the_same(
    monkeypatch: pytest.MonkeyPatch, given: bytes
) -> None:
    """As service(8) and jls(8) may: FreeBSD then refuses to watch their standard input."""
    monkeypatch.setattr("selectors.DefaultSelector", KqueueSelector)
    done = run_isolated(["/bin/sh", "-c", "echo said; echo no >&2; exit 3"], given, seconds=60.0)
    assert (done.output, done.errors, done.status) == (b"said\n", "no\n", 3)


@pytest.mark.slow
def test_a_plug_in_that_is_not_installed_is_named() -> None:
    modules = read_modules({"nothing-here": {"file": "/nowhere/x"}}, "test")
    with pytest.raises(ConfigError, match="no module of that name is installed"):
        render_plan(modules["nothing-here"], a_view())


@pytest.mark.parametrize(
    ("table", "word"),
    [
        ({"hosts": {"flie": "/etc/hosts"}}, "flie"),
        ({"hosts": {"file": "/etc/hosts", "drift": "perhaps"}}, "drift"),
        ({"hosts": {"file": "etc/hosts"}}, "absolute path"),
        ({"hosts": {"file": "/etc//hosts"}}, "absolute path"),
        ({"hosts": {"command": "/bin/true"}}, "built-in"),
        ({"app": {"command": "relative"}}, "absolute path"),
        ({"App": {}}, "lower-case"),
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(
    table: dict[str, dict[str, object]], word: str
) -> None:
    with pytest.raises(ConfigError, match=word):
        read_modules(table, "meshd.toml")


def running(note: str) -> bool:
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if note.encode() in path.read_bytes():
                return True
        except OSError:
            continue
    return False
