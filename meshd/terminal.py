"""The one exit of ``meshd`` and ``wgctl`` to people and pipes.

What is printed may hold what others chose: an HTTP reason phrase, a file name, a host's words. A
terminal acts on escape sequences in it, so nothing leaves that is not printable.
"""

from __future__ import annotations

import click

from meshd.model.text import printable


def echo(text: str = "", *, err: bool = False, nl: bool = True) -> None:
    """Lines of text on standard output, or beside it; only line breaks keep their effect."""
    click.echo(printable(text, keep="\n"), err=err, nl=nl)


def confirm(question: str, *, abort: bool = True) -> bool:
    """Ask on the terminal, beside the result. Anything but yes ends the program, if ``abort``."""
    return click.confirm(printable(question), abort=abort, err=True)


def fail(program: str, message: str) -> None:
    """One line that says why the program ends."""
    echo(f"{program}: error: {' '.join(message.split())}", err=True)
