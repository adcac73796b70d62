"""A daemon runs for months on small hosts: what it loads, and what that holds, is chosen."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

PROGRAM = """
import dataclasses, gc, json, sys
import meshd.daemon.main
meshd.daemon.main.load_daemon()  # as `meshd run` does
values = [each for each in gc.get_objects() if isinstance(each, type) and dataclasses.is_dataclass(each)]
names = {f"{each.__module__}.{each.__name__}" for each in values}
ours = sorted(name for name in names if name.startswith("meshd."))
print(json.dumps({"modules": sorted(sys.modules), "dataclasses": ours}))
"""
BEFORE_THE_MESH = """
import sys
import meshd.daemon.main, meshd.host.enrollment  # as `meshd enroll` and `meshd join` do
judging = {"meshd.registry.ledger", "meshd.plan.record", "meshd.mesh.reflexive"}
others = {"logging", "platform", "random", "secrets", "typing_extensions"}
print(*sorted(({"asyncio", "concurrent.futures", "ssl", "subprocess"} | judging | others) & set(sys.modules)))
"""
TO_ADD_A_HOST = """
import sys
from wgctl.main import main
try:
    main(["--home", "/nowhere", "add-host", "tesla"])
except SystemExit:
    pass
assert "wgctl.commands.add_host" in sys.modules
print(*sorted({"difflib", "platform", "typing_extensions"} & set(sys.modules)))
"""
NOT_FOR_A_DAEMON = (
    "botocore",  # a store on S3 alone
    "csv",
    "ctypes",  # the relaying process
    "difflib",  # who has mistyped something
    "email",  # what the library has an HTTP head parsed by; a store on S3 and services
    "html",
    "http",
    "importlib.metadata",  # the version is a line of ours, and a module of others is looked up by name
    "meshd.lab",
    "meshd.observe.page.overview",  # what renders the page: who asks for it
    "meshd.services",  # a host that has some, and each module in its own process
    "platform",  # of which uuid takes one function
    "prometheus_client.exposition",  # serves and pushes by itself
    "prometheus_client.metrics",
    "pyroute2",  # where the kernel's WireGuard is spoken to, and of it the messages alone
    "ssl",  # a store or a service that is reached by TLS
    "socketserver",
    "rich",  # tables for people: wgctl
    "tempfile",
    "tomli_w",
    "typing_extensions",  # of which msgspec takes what typing has too
    "urllib.request",
    "urllib3",
    "wgctl",
    "wsgiref",
    "zipfile",
)
MOST_DATACLASSES = 40
"""Each costs 14 KB and 0.9 ms of the start; a Struct 3 KB and 0.03 ms (ADR 22)."""


@cache
def loaded() -> dict[str, list[str]]:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


def test_a_daemon_loads_nothing_that_only_others_need() -> None:
    modules = loaded()["modules"]
    assert "meshd.control.reconciler" in modules
    heavy = [
        name for name in modules for top in NOT_FOR_A_DAEMON if name == top or name.startswith(f"{top}.")
    ]
    assert not heavy


def test_a_command_that_runs_no_daemon_loads_no_event_loop() -> None:
    """An operator waits for each of them; the loop and what comes with it are a fifth of such a command, and
    what judges a registry is an eighth: a host that asks for its place has none yet."""
    done = subprocess.run([sys.executable, "-c", BEFORE_THE_MESH], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.split()) == (0, []), done.stderr


def test_a_command_that_adds_a_host_loads_no_copy_of_typing() -> None:
    done = subprocess.run([sys.executable, "-c", TO_ADD_A_HOST], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.split()) == (0, []), done.stderr


NOT_FOR_A_RELAY = (
    "_cffi_backend",
    "_hashlib",
    "asyncio",
    "dataclasses",
    "inspect",
    "logging",
    "nacl",
    "typing_extensions",
)


def test_a_relaying_process_loads_hardly_more_than_it_forwards_with() -> None:
    """There is one on every host, and most of what it holds is code."""
    program = (
        "import json, sys, meshd.relay.__main__\n"
        "print(json.dumps([name for name, module in sys.modules.items() if module]))"
    )
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    modules: list[str] = json.loads(done.stdout)
    assert "meshd.relay.forwarding" in modules
    assert not [name for name in modules if name.split(".")[0] in NOT_FOR_A_RELAY]


def test_the_values_of_a_daemon_are_structs() -> None:
    """A few have a reason to be none: a field that is hidden, or one that is made from the others."""
    assert len(loaded()["dataclasses"]) <= MOST_DATACLASSES, loaded()["dataclasses"]


def test_no_copy_of_a_struct_is_asked_of_dataclasses() -> None:
    """``msgspec.structs.replace`` is meant: the other is taken by mypy, and raises when it runs."""
    source = Path(__file__).parents[2] / "meshd"
    wrong = re.compile(r"from dataclasses import .*\breplace")
    own = (path for path in source.rglob("*.py") if "lab" not in path.parts)
    assert not [path for path in own if wrong.search(path.read_text())]


def test_tls_is_asked_of_nothing_that_a_daemon_has_loaded_without_it() -> None:
    """Its http.client has no HTTPSConnection and its asyncio no TLS; ``services.web`` has http and https."""
    source = Path(__file__).parents[2] / "meshd"
    wrong = re.compile(r"http\.client(\.| import .*)HTTPSConnection|ssl=|start_tls|^import ssl", re.MULTILINE)
    own = {path.relative_to(source).as_posix(): path for path in source.rglob("*.py")}
    found = {name for name, path in own.items() if wrong.search(path.read_text())}
    assert {name for name in found if not name.startswith("lab/")} == {"services/https.py"}
