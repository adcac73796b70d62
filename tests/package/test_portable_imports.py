"""The package loads on FreeBSD: no module needs pyroute2 or anything else of Linux to be imported."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINUX_HERE = {
    "meshd/backend/events.py",
    "meshd/backend/forwarding.py",
    "meshd/backend/ipv6_switch.py",
    "meshd/backend/netlink_socket.py",
    "meshd/backend/reverse_path.py",
    "meshd/daemon/caller.py",
    "meshd/lab/capacity.py",
    "meshd/lab/namespaces.py",
    "meshd/lab/netns.py",
    "meshd/lab/switch.py",
    "meshd/relay/child.py",
    "meshd/services/config.py",
    "meshd/services/reaper.py",
    "meshd/services/runner.py",
    "wgctl/checks/netfilter.py",
    "wgctl/checks/ports.py",
    "wgctl/checks/rights.py",
    "wgctl/checks/system.py",
}
"""Where Linux is spoken to, each behind a question for the system."""
LINUX_TEXT = re.compile(r"^/proc\b|^/sys\b|^/run/netns|^/dev/net/|^(ip|ss|modprobe|systemctl|getent|mount)$")
LINUX_NAMES = {"epoll", "AF_NETLINK", "SO_BINDTODEVICE", "SO_PEERCRED", "eventfd", "pidfd_open", "setns"}

PROGRAM = """
import importlib, pkgutil, sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "pyroute2":
            raise ImportError(f"{name}: not on this system")
sys.meta_path.insert(0, Block())
sys.platform = "freebsd15"
import meshd, wgctl
netlink = {"netlink", "netlink_attributes", "netlink_messages", "netlink_routes", "netlink_socket"}
linux = {*netlink, "linux", "linux_containers", "linux_links", "wireguard_attributes"}
linux_only = {f"meshd.backend.{name}" for name in linux}
loaded = 0
for package in (meshd, wgctl):
    for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if found.name in linux_only or found.name.endswith("__main__"):
            continue
        importlib.import_module(found.name)
        loaded += 1
print(loaded)
"""


def _linux_words(tree: ast.Module) -> Iterator[str]:
    """Paths and programs in texts that are no docstrings, and names of the standard library."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            if LINUX_TEXT.search(node.value):
                yield node.value
        elif isinstance(node, ast.Attribute) and node.attr in LINUX_NAMES:
            yield node.attr


@pytest.mark.slow
def test_what_freebsd_lacks_is_used_in_known_places_only() -> None:
    """FreeBSD has no /proc to count on, no iproute2, no epoll(7), no netlink(7) as Linux has it."""
    found = {
        str(path.relative_to(ROOT)): words
        for package in ("meshd", "wgctl")
        for path in (ROOT / package).rglob("*.py")
        if (words := sorted(set(_linux_words(ast.parse(path.read_text())))))
    }
    assert set(found) == LINUX_HERE, found


@pytest.mark.slow
def test_every_module_but_the_linux_backends_loads_without_pyroute2() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 100
