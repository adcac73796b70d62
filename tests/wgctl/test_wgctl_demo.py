"""The demo as a newcomer runs it."""

from __future__ import annotations

import subprocess
import sys

import pytest
from published import check_document


@pytest.mark.root
@pytest.mark.slow
def test_demo_checks_itself_and_prints_one_document() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "wgctl.main", "demo", "--hosts", "2", "--check", "--json"],
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr
    document = result = check_document(done.stdout)
    assert document["format"] == "wgctl-demo/1"
    assert (result["pairs_ok"], result["failures"]) == (result["pairs_total"], [])
    assert all(seconds > 0 for row in result["matrix"].values() for seconds in row.values())
    assert "answer" in done.stderr
