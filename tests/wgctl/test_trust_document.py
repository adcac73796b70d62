"""Whatever docs/trust.md tells somebody to type in an emergency exists, with the options that it names."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from meshd.daemon.main import main as meshd
from wgctl.main import main as wgctl

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "trust.md"
COMMANDS = sorted(set(re.findall(r"`((?:wgctl|meshd) [^`]+)`", DOCUMENT.read_text())))


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_the_document_exists(line: str) -> None:
    program, *words = shlex.split(line)
    command: click.Command = {"wgctl": wgctl, "meshd": meshd}[program]
    context = click.Context(command)
    options: set[str] = set()
    while words:
        word = words.pop(0)
        known = {name for parameter in command.get_params(context) for name in parameter.opts}
        options |= known
        if word.startswith("--"):
            assert word in known, f"{command.name} has no {word}"
            [parameter] = [each for each in command.get_params(context) if word in each.opts]
            if words and not getattr(parameter, "is_flag", False):
                words.pop(0)
        elif isinstance(command, click.Group):
            found = command.get_command(context, word)
            assert found is not None, f"{command.name} has no {word}"
            command, context = found, click.Context(found, parent=context)


def test_every_test_that_the_document_names_is_run_by_make_test() -> None:
    """Those of hours, and of a real kernel or servers, are run by nobody who only types that."""
    tests = Path(__file__).resolve().parents[1]
    there, seldom = set(), set()
    for path in tests.rglob("test_*.py"):
        for marks, name in re.findall(
            r"^((?:@.*\n(?:[ )].*\n)*)*)(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE
        ):
            there.add(name)
            if "pytest.mark.long" in marks:
                seldom.add(name)
    assert set(re.findall(r"`(test_\w+)`", DOCUMENT.read_text())) <= there - seldom
    assert seldom


PROMISE_TABLE = r"^\| (?:promise|an administrator's key) \|.*\n\|[-|]+\n((?:\|.*\n)+)"
PROMISES = [
    row
    for table in re.findall(PROMISE_TABLE, DOCUMENT.read_text(), re.MULTILINE)
    for row in table.splitlines()
]


@pytest.mark.parametrize("row", PROMISES)
def test_a_promise_of_the_document_names_what_holds_it(row: str) -> None:
    _, _, proof, _ = row.split("|")
    assert "`test_" in proof or proof.strip() == "the table above"


def test_the_document_promises_what_it_did() -> None:
    """A table that no longer parses would have no row that could fail."""
    assert len(PROMISES) > 45
