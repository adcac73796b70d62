"""Choosing a backend says in one line what is missing, and costs little memory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from meshd.backend.freebsd import TOOLS
from meshd.backend.netlink_socket import load
from meshd.backend.select import BackendName, open_backend
from meshd.errors import BackendError


@pytest.mark.parametrize(
    ("platform", "name", "expected"),
    [
        ("linux", "freebsd", "auto or linux or userspace expected"),
        ("freebsd15", "userspace", "auto or freebsd expected"),
        ("darwin", "auto", "freebsd or linux expected"),
    ],
)
def test_a_backend_of_another_system_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, platform: str, name: BackendName, expected: str
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    with pytest.raises(BackendError, match=f"{name}.*{platform}.*{expected}"):
        open_backend(name)


def test_freebsd_without_its_tools_names_the_first_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "freebsd15")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setitem(TOOLS, "wg", (Path("/nonexistent/wg"),))
    for name in ("ifconfig", "route", "netstat"):
        monkeypatch.setitem(TOOLS, name, (Path("/"),))
    with pytest.raises(BackendError, match="tool wg: nothing at /nonexistent/wg"):
        open_backend("auto")


def test_without_root_the_user_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(BackendError, match="user id 1000 seen, root expected"):
        open_backend("auto")


@pytest.mark.skipif(sys.platform != "linux", reason="userspace WireGuard is used on Linux alone")
def test_a_missing_program_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(BackendError, match=r"no-such-program.*install wireguard-go"):
        open_backend("userspace", userspace_program="no-such-program")
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(BackendError, match="install wireguard-go or boringtun-cli"):
        open_backend("userspace")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="netlink is Linux's")
def test_the_narrow_import_leaves_pyroute2_whole_for_others() -> None:
    script = """
import sys
from meshd.backend.linux import LinuxBackend
LinuxBackend().close()
loaded = [name for name in sys.modules if name.startswith("pyroute2")]
assert len(loaded) < 15, loaded
from pyroute2 import IPRoute, WireGuard
from pyroute2.netlink.rtnl.rtmsg import rtmsg
from meshd.backend.netlink_messages import rtmsg as ours
assert rtmsg is ours
with IPRoute() as whole:
    assert [link.get_attr("IFLA_IFNAME") for link in whole.link("dump")]
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


@pytest.mark.skipif(sys.platform != "linux", reason="netlink is Linux's")
def test_messages_load_where_pyroute2_is_whole_already() -> None:
    import pyroute2

    assert pyroute2.__version__
    assert load().rtmsg is not None
