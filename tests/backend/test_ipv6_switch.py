"""Where Linux says that it takes no IPv6, as its files say it."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshd.backend import ipv6_switch
from meshd.backend.ipv6_switch import why_off


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(ipv6_switch, "DIRECTORY", tmp_path / "conf")
    for name in ("all", "default", "wg0"):
        (tmp_path / "conf" / name).mkdir(parents=True)
        (tmp_path / "conf" / name / "disable_ipv6").write_text("0\n")
    return tmp_path / "conf"


@pytest.mark.parametrize(("interface", "switch"), [("wg0", "wg0"), ("wg100", "default")])
def test_what_counts_is_the_interfaces_own_switch_and_before_it_is_there_that_of_new_ones(
    conf: Path, interface: str, switch: str
) -> None:
    assert why_off(interface) == ""
    (conf / switch / "disable_ipv6").write_text("1\n")
    assert why_off(interface) == f"net.ipv6.conf.{switch}.disable_ipv6=1"


def test_a_kernel_without_ipv6_has_no_switches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ipv6_switch, "DIRECTORY", tmp_path / "nothing")
    assert why_off("wg0") == "the kernel runs without IPv6"
