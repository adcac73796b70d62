"""The check of the daemon's sockets tells what works and what does not."""

from __future__ import annotations

import pytest

from meshd.lab.sockets import main


@pytest.mark.root
def test_what_answers_is_measured_and_the_kernel_described(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["127.0.0.1", "::1"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line for line in said if not line.startswith("ok: ")] == []
    assert sum("answers in" in line for line in said) == 2
    assert sum("stamped by the kernel" in line for line in said) == 2
    assert "Events" in said[2]


@pytest.mark.root
def test_what_is_silent_fails_with_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["127.0.0.1", "255.255.255.255"], deadline_seconds=3.0) == 1
    said = capsys.readouterr().out
    assert "ok: 127.0.0.1 answers" in said
    assert "FAILED: 255.255.255.255: 0 of 5 replies seen: " in said


def test_what_is_no_address_is_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meshd.lab.sockets.describe_kernel", lambda say: None)
    assert main(["newton"]) == 2
    assert "usage" in capsys.readouterr().err
