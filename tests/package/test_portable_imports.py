"""The package loads on FreeBSD: no module needs pyroute2 or anything else of Linux to be imported."""

from __future__ import annotations

import subprocess
import sys

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


def test_every_module_but_the_linux_backends_loads_without_pyroute2() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 100
