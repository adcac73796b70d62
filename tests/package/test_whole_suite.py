"""What ``make test`` makes of a test that fails beside others: run on a small suite of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
CONFTEST = "from hypothesis import settings\nsettings.register_profile('thorough')\n"
MARKS = "[tool.pytest.ini_options]\naddopts = '-q'\nmarkers = ['root', 'kernel', 'garage', 'real', 'long']\n"
PASSES = """
def test_that_passes():
    pass
"""
FAILS_ONCE = """
def test_{name}():
    seen = Path(__file__).with_name("seen-{name}")
    was_seen = seen.exists()
    seen.touch()
    assert was_seen
"""
HEAD = "import pytest\nfrom pathlib import Path\n{marks}\n"


class Suite:
    """A tree with the scripts of ours, and tests that the machine's stage runs."""

    def __init__(self, tree: Path) -> None:
        self.tree = tree
        (tree / "tools").mkdir()
        (tree / "tests").mkdir()
        (tree / ".venv/bin").mkdir(parents=True)
        (tree / ".venv/bin/python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        (tree / ".venv/bin/python").chmod(0o755)
        for name in ("test.sh", "parallel.sh"):
            shutil.copy(ROOT / "tools" / name, tree / "tools")
        (tree / "tools/kernel-lab.sh").write_text("echo 1 passed in 0.01s\n")
        (tree / "pyproject.toml").write_text(MARKS)
        (tree / "conftest.py").write_text(CONFTEST)
        self.write("test_anywhere", PASSES, marks="")

    def write(self, name: str, *tests: str, marks: str = "pytestmark = pytest.mark.root") -> None:
        (self.tree / f"tests/{name}.py").write_text(HEAD.format(marks=marks) + "".join(tests))

    def run(self, *argument: str) -> tuple[int, str]:
        """The exit status, and what is printed."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "CI"))}
        done = subprocess.run(
            ["sh", "tools/test.sh", *argument],
            cwd=self.tree,
            env=kept,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    return Suite(tmp_path)


def test_one_that_passes_by_itself_is_named_and_counts_as_passed(suite: Suite) -> None:
    suite.write("test_machine", PASSES, FAILS_ONCE.format(name="seldom"))
    status, printed = suite.run()
    assert status == 0, printed
    last = printed.rstrip().splitlines()[-4:]
    assert last[-1] == "4 passed, 0 failed, 0 skipped"
    assert "failed beside others" in printed
    assert any(line.startswith("FAILED tests/test_machine.py::test_seldom") for line in last)


def test_one_that_fails_by_itself_too_has_failed(suite: Suite) -> None:
    suite.write("test_machine", PASSES, "def test_that_fails():\n    raise ValueError\n")
    status, printed = suite.run()
    assert status == 1
    assert printed.rstrip().splitlines()[-1] == "3 passed, 1 failed, 0 skipped"


def test_many_are_no_accident(suite: Suite) -> None:
    suite.write("test_machine", *(FAILS_ONCE.format(name=f"seldom_{number}") for number in range(4)))
    status, printed = suite.run()
    assert status == 1
    assert printed.rstrip().splitlines()[-1] == "2 passed, 4 failed, 0 skipped"
    assert "failed beside others" not in printed


def test_what_needs_nothing_of_the_machine_has_no_second_attempt(suite: Suite) -> None:
    suite.write("test_plain", FAILS_ONCE.format(name="seldom"), marks="")
    suite.write("test_machine", PASSES)
    status, printed = suite.run()
    assert status == 1
    assert printed.rstrip().splitlines()[-1] == "3 passed, 1 failed, 0 skipped"


def test_between_them_the_two_runs_leave_no_test_out(suite: Suite) -> None:
    suite.write("test_machine", PASSES)
    suite.write("test_patient", PASSES, marks="pytestmark = [pytest.mark.root, pytest.mark.long]")
    suite.write(
        "test_toil", PASSES, PASSES.replace("passes", "passes_too"), marks="pytestmark = pytest.mark.long"
    )
    status, printed = suite.run()
    assert (status, printed.rstrip().splitlines()[-1]) == (0, "3 passed, 0 failed, 0 skipped")
    status, printed = suite.run("long")
    assert (status, printed.rstrip().splitlines()[-1]) == (0, "3 passed, 0 failed, 0 skipped")


def test_a_third_run_is_not_known(suite: Suite) -> None:
    status, printed = suite.run("longer")
    assert (status, printed) == (2, "test.sh: unknown argument 'longer': nothing or long expected\n")
