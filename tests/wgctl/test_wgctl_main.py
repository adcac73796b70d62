"""The group itself: help without heavy imports, errors of one line, completion."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import click
import pytest
from click.testing import CliRunner, Result

from meshd.errors import StoreError
from wgctl.commands import root
from wgctl.main import VERBS, main
from wgctl.verb_group import VerbGroup

Run = Callable[..., Result]


def list_verbs(*groups: click.Group) -> list[tuple[click.Group, str]]:
    return [(group, verb) for group in groups for verb in group.list_commands(click.Context(group))]


@pytest.mark.parametrize(("group", "verb"), list_verbs(main, root.command))
def test_every_verb_says_of_itself_what_its_group_says(group: click.Group, verb: str) -> None:
    assert isinstance(group, VerbGroup)
    command = group.get_command(click.Context(group), verb)
    assert command is not None and command.name == verb
    said = " ".join((command.help or "").split("\n\n")[0].split())
    assert said == group.verbs[verb][1]


def test_help_lists_every_verb(run: Run) -> None:
    result = run("--help")
    assert result.exit_code == 0
    assert all(f"  {verb} " in result.stdout and text in result.stdout for verb, (_, text) in VERBS.items())


def test_help_and_completion_import_nothing_heavy() -> None:
    script = (
        "import sys\n"
        "from wgctl.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'rich', 'nacl', 'msgspec', 'asyncio', 'prometheus_client', 'http', 'tomli_w'}\n"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")


def test_completion_offers_verbs() -> None:
    request = {"COMP_WORDS": "wgctl re", "COMP_CWORD": "1", "_WGCTL_COMPLETE": "bash_complete"}
    done = subprocess.run(
        [sys.executable, "-c", "from wgctl.main import main; main()"],
        env={**os.environ, **request},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.stdout.split() == ["plain,remove-host"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(run: Run, shell: str) -> None:
    result = run("completion", shell)
    assert result.exit_code == 0
    assert "_WGCTL_COMPLETE" in result.stdout


@pytest.mark.parametrize(
    "arguments", [["no-such-verb"], ["--no-such-option"], ["plan", "--nonsense"], ["remove-host"]], ids=str
)
def test_wrong_usage_is_one_line_and_2(run: Run, arguments: list[str]) -> None:
    result = run(*arguments)
    assert (result.exit_code, result.stdout, len(result.stderr.splitlines())) == (2, "", 1)
    assert result.stderr.startswith("wgctl: error: ") and "--help" in result.stderr


@pytest.mark.parametrize(
    ("error", "exit_code", "line"),
    [
        (StoreError("s3: gone\nfor good"), 1, "wgctl: error: s3: gone for good\n"),
        (KeyboardInterrupt(), 130, "wgctl: error: interrupted\n"),
        (click.Abort(), 130, "wgctl: error: interrupted\n"),
    ],
)
def test_every_error_is_one_line(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, exit_code: int, line: str
) -> None:
    @click.command("version")
    def failing() -> None:
        raise error

    monkeypatch.setattr("wgctl.commands.version.command", failing)
    result = CliRunner().invoke(main, ["version"])
    assert result.exit_code == exit_code
    assert result.stderr.lstrip("\n") == line


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-c", "from wgctl.main import main; main()", "completion", "bash"],
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            timeout=30,
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


def test_what_a_condition_means_is_told_where_nothing_else_works(run: Run) -> None:
    result = run("explain", "plan_held")
    assert result.exit_code == 0
    assert "What to do: Look with `wgctl plan`" in result.stdout


def test_a_mistyped_condition_is_no_host_and_the_right_one_is_named(run: Run) -> None:
    result = run("explain", "plan_hold")
    assert result.exit_code == 2
    assert "plan_hold: there is no such condition; is it plan_held?" in result.stderr
