"""Every command in the documents is one that there is: verbs, options and how many words each takes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
from command_lines import command_lines

from meshd.daemon.main import main as meshd
from wgctl.main import main as wgctl

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROGRAMS = {"wgctl": wgctl, "meshd": meshd}
_COMMENT = re.compile(r"\s#.*$|\s{3,}\S.*$")
_SUBSTITUTION = re.compile(r"\$\([^)]*\)")
_STOPS = {"──►", "|", "&&", ";", ">", "<", "||", ">>"}


def words_of(text: str) -> list[str]:
    """Up to a pipe, a redirection or a remark beside the command, which three spaces or a # set off."""
    words: list[str] = []
    for word in shlex.split(_COMMENT.sub("", _SUBSTITUTION.sub("X", text)).replace(";", " ; ")):
        if word in _STOPS:
            break
        if word.endswith(","):  # "diff, apply [MODULE]": the first of several verbs
            words.append(word.rstrip(","))
            break
        words.append(word)
    return words


def complaint(words: list[str]) -> str:
    """What click says against it, without a look at values; empty: nothing."""
    command: click.Command = PROGRAMS[words[0]]
    context, rest = click.Context(command, info_name=words[0]), words[1:]
    try:
        while True:
            values, left, _ = command.make_parser(context).parse_args(list(rest))
            del values
            if not isinstance(command, click.Group) or not left:
                return f"too many words: {left}" if left else ""
            found = command.get_command(context, left[0])
            if found is None:
                return f"no verb {left[0]}"
            context, rest, command = click.Context(found, info_name=left[0], parent=context), left[1:], found
    except click.UsageError as error:
        return error.format_message()


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_commands_of_a_page_are_there(page: Path) -> None:
    wrong = [
        f"{page.name}:{number}: {text}: {said}"
        for number, text in command_lines(page.read_text())
        if (said := complaint(words_of(text)))
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("wgctl lsit", "no verb"),
        ("wgctl list --ofline", "--ofline"),
        ("wgctl remove-host newton --why", "--why"),
        ("meshd join bundle other", "too many"),
    ],
)
def test_a_command_that_is_not_there_is_noticed(text: str, said: str) -> None:
    assert said in complaint(words_of(text))


def test_the_manual_of_the_verbs_is_read() -> None:
    found = {words_of(text)[1] for _, text in command_lines((ROOT / "docs" / "wgctl.md").read_text())}
    assert {"init", "add-host", "rotate-keys", "service", "status", "doctor"} <= found
