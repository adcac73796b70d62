"""rc.conf that gives our interface to somebody else, on the imitated sysrc(8)."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakebsd import FakeBSD

from meshd.backend.rc_conf import refuse_shared_interface
from meshd.backend.runner import ToolRunner
from meshd.errors import ConfigError


@pytest.fixture
def bsd(tmp_path: Path) -> FakeBSD:
    return FakeBSD(tmp_path / "bsd")


def check(bsd: FakeBSD) -> None:
    refuse_shared_interface(ToolRunner(bsd.tools), ["wg0", "wg100"])


@pytest.mark.parametrize("value", [None, "", "wg1 wg10"])
def test_interfaces_of_other_names_are_nobodys_business(bsd: FakeBSD, value: str | None) -> None:
    if value is not None:
        bsd.answer(["sysrc", f"wireguard_interfaces={value}"])
    check(bsd)


@pytest.mark.parametrize("name", ["wg0", "wg100"])
def test_our_interfaces_are_refused_with_what_to_type(bsd: FakeBSD, name: str) -> None:
    bsd.answer(["sysrc", f"wireguard_interfaces=wg1 {name}"])
    with pytest.raises(ConfigError, match=rf"'wg1 {name}' seen.*type: sysrc wireguard_interfaces-={name}$"):
        check(bsd)


def test_a_sysrc_that_fails_refuses_nothing(bsd: FakeBSD) -> None:
    bsd.answer(["sysrc", "wireguard_interfaces=wg0"])
    bsd.fail("sysrc", code=1, stderr="sysrc: /etc/defaults/rc.conf: No such file or directory\n")
    check(bsd)
