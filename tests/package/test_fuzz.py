"""The fuzzers' driver; what they fuzz is tested by tests/registry and its decoders' list."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
FUZZ: dict[str, Any] = runpy.run_path(str(CHECKOUT / "fuzz" / "run.py"))


@pytest.mark.slow
def test_a_target_that_never_ends_is_a_finding_and_ends_no_other(
    capsys: pytest.CaptureFixture[str],
) -> None:
    said = "import sys, time; print('#17\\tINITED cov: 5', file=sys.stderr, flush=True); time.sleep(600)"
    stuck = [sys.executable, "-c", said]
    assert not FUZZ["run"]("stuck", stuck, 0.5)
    assert "DID NOT END within 0.5 s" in capsys.readouterr().out


def test_what_a_target_found_and_how_far_it_came_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    clean = "import sys; print('#2\\tINITED cov: 7 ft: 9\\nDone 300 runs in 2 second(s)', file=sys.stderr)"
    assert FUZZ["run"]("clean", [sys.executable, "-c", clean], 60)
    assert "300 executions      7 edges  nothing found" in capsys.readouterr().out
    assert not FUZZ["run"]("broken", [sys.executable, "-c", "raise SystemExit(77)"], 60)
    assert "FOUND, see" in capsys.readouterr().out
