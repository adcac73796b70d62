"""Groups of verbs that are loaded when they are used.

Help and shell completion of a group come from its table, so that they import neither a verb's module
nor the libraries behind it.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import ClassVar

import click
from click.shell_completion import CompletionItem

from meshd.lean import load_values


class VerbGroup(click.Group):
    """A group that knows its verbs by name and loads a verb's module only to run it."""

    package: ClassVar[str]
    """Where the modules are."""
    verbs: ClassVar[Mapping[str, tuple[str, str]]]
    """By verb its module, or ``module:attribute`` where one module has several, and its line of help.

    The attribute is ``command`` where none is named.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.verbs)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.verbs:
            return None
        load_values()
        module, _, attribute = self.verbs[cmd_name][0].partition(":")
        found = getattr(importlib.import_module(f"{self.package}.{module}"), attribute or "command")
        assert isinstance(found, click.Command)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's, and a word that is no verb is met with those that look like it."""
        word = args[0]
        if word not in self.verbs and not word.startswith("-"):
            import difflib

            near = difflib.get_close_matches(word, self.verbs, n=3, cutoff=0.65)
            hint = f"is it {' or '.join(near)}?" if near else f"{ctx.command_path} --help lists them"
            ctx.fail(f"no such verb: {word!r}; {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self.verbs.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        matching = ((name, text) for name, (_, text) in self.verbs.items() if name.startswith(incomplete))
        return [CompletionItem(name, help=text) for name, text in matching]
