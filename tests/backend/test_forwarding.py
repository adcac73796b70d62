"""Does this system forward? Each system is asked in its own way."""

from __future__ import annotations

import subprocess
import sys

import pytest

from meshd.backend import forwarding


@pytest.mark.parametrize(("text", "expected"), [("1\n", True), ("2\n", True), ("0\n", False), ("", None)])
def test_freebsd_is_asked_by_sysctl(
    monkeypatch: pytest.MonkeyPatch, text: str, expected: bool | None
) -> None:
    asked: list[list[str]] = []

    def run(argv: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        asked.append(argv)
        return subprocess.CompletedProcess(argv, 0 if text else 1, stdout=text)

    monkeypatch.setattr(sys, "platform", "freebsd15")
    monkeypatch.setattr(subprocess, "run", run)
    assert forwarding.read_forwarding(6) is expected
    assert asked == [["/sbin/sysctl", "-n", "net.inet6.ip6.forwarding"]]


def test_a_sysctl_that_hangs_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(argv: list[str], **_: object) -> None:
        raise subprocess.TimeoutExpired(argv, 5)

    monkeypatch.setattr(sys, "platform", "freebsd15")
    monkeypatch.setattr(subprocess, "run", run)
    assert forwarding.read_forwarding(4) is None
