"""The one exit of ``meshd`` and ``wgctl`` to people and pipes.

What is printed may hold what others chose: an HTTP reason phrase, a file name, a host's words. A
terminal acts on escape sequences in it, so nothing leaves that is not printable.
"""

from __future__ import annotations

from typing import Final

import click

from meshd.model.text import printable
from meshd.text_files import STANDARD_STREAM, TERMINAL

ANSWER_BYTES: Final = 4096


def echo(text: str = "", *, err: bool = False, nl: bool = True) -> None:
    """Lines of text on standard output, or beside it; only line breaks keep their effect."""
    click.echo(printable(text, keep="\n"), err=err, nl=nl)


def confirm(question: str, *, abort: bool = True, source: str = "") -> bool:
    """Ask on the terminal, beside the result. Anything but yes ends the program, if ``abort``.

    ``source``: see ``meshd.text_files.somebody_answers``.
    """
    if source != STANDARD_STREAM:
        return click.confirm(printable(question), abort=abort, err=True)
    agreed = _ask_terminal(f"{printable(question)} [y/N]: ")
    if abort and not agreed:
        raise click.Abort
    return agreed


def _ask_terminal(question: str) -> bool:
    """A line from the terminal of the session, as standard input holds something else."""
    with open(TERMINAL, "r+b", buffering=0) as terminal:  # noqa: PTH123 - a device has no position to seek
        terminal.write(question.encode())
        return terminal.readline(ANSWER_BYTES).strip().lower() in (b"y", b"yes")


def fail(program: str, message: str) -> None:
    """One line that says why the program ends."""
    echo(f"{program}: error: {' '.join(message.split())}", err=True)
