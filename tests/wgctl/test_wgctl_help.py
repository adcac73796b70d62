"""Mistyped verbs, and the help of a verb."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from click.testing import Result

Run = Callable[..., Result]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("lsit",), "is it list?"),
        (("remove-hots", "newton"), "is it remove-host?"),
        (("service", "plcae"), "is it place?"),
        (("xyzzy",), "wgctl --help lists them"),
    ],
)
def test_a_mistyped_verb_is_met_with_those_that_look_like_it(
    run: Run, words: tuple[str, ...], said: str
) -> None:
    result = run(*words)
    assert result.exit_code == 2 and said in result.stderr and result.stdout == ""


@pytest.mark.parametrize("words", [("add-host",), ("service", "add"), ("admin",), ()])
def test_help_shows_what_the_verb_itself_shows(run: Run, words: tuple[str, ...]) -> None:
    assert run("help", *words).stdout == run(*words, "--help").stdout
    assert run("help", *words, "nonsense").exit_code == 2
