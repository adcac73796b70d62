"""Keys on paper: typed in, or shown once. They pass through no argument and no file."""

from __future__ import annotations

from typing import Final

import click

from meshd.registry.signing import SigningKey, parse_recovery_words, render_recovery_words
from meshd.terminal import echo
from meshd.text_files import read_standard_input, somebody_answers

GROUPS: Final = 14
MAX_CHARACTERS: Final = 1024


def read_paper_key() -> SigningKey:
    """From standard input, on a terminal line by line. RegistryError for a misspelt one."""
    if not somebody_answers():
        return parse_recovery_words(read_standard_input("a recovery key", MAX_CHARACTERS))
    echo("Type the recovery key as it stands on the paper; several lines are fine.", err=True)
    letters = ""
    while len(letters) < GROUPS * 4:
        line: str = click.prompt("recovery key", err=True)
        letters += "".join(line.split()).replace("-", "")
    return parse_recovery_words(letters)


def render_paper_key(key: SigningKey) -> str:
    """Two lines to copy by hand."""
    words = render_recovery_words(key).split(" ")
    half = len(words) // 2
    return f"    {' '.join(words[:half])}\n    {' '.join(words[half:])}"
