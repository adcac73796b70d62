"""``wgctl service place``, ``drain`` and ``remove``: where a service lives."""

from __future__ import annotations

import sys

import click

from meshd.terminal import confirm
from wgctl.completing import DRAINED, PLACE, REMOVED
from wgctl.options import Options, pass_options
from wgctl.output import json_option
from wgctl.parameters import ADDRESS, draft_option


@click.command("place")
@click.argument("target", metavar="HOST/SERVICE", type=PLACE)
@click.option("--jail", metavar="NAME", help="In this jail or container of the host.")
@click.option(
    "--address", type=ADDRESS, help="Of the host or in its jail networks. [default: the host's first]"
)
@click.option(
    "--tag",
    "tags",
    multiple=True,
    metavar="NAME=VALUE",
    help="A word for the service's module; again for more.",
)
@draft_option
@json_option
@pass_options
def place_command(
    options: Options,
    target: str,
    jail: str | None,
    address: object,
    tags: tuple[str, ...],
    draft: str | None,
    as_json: bool,
) -> None:
    """Say that a service lives on a host, or change its address and tags.

    What is not named stays as it is. A draining placement becomes active again.
    """
    from wgctl.admin.services import PlaceOptions, place_words, split_target
    from wgctl.commands.service.signing import say_words

    host, service = split_target(target)
    pairs = [tag.partition("=") for tag in tags]
    if any(not separator for _, separator, _ in pairs):
        raise click.UsageError("--tag: NAME=VALUE expected")
    wanted = PlaceOptions(
        host=host,
        service=service,
        jail=jail,
        address=str(address) if address is not None else None,
        tags={name: value for name, _, value in pairs},
    )
    say_words(options, lambda ledger: place_words(ledger, wanted), draft, as_json)


@click.command("drain")
@click.argument("target", metavar="HOST[/SERVICE]", type=DRAINED)
@click.option("--jail", metavar="NAME", help="Which of several placements on that host.")
@draft_option
@json_option
@pass_options
def drain_command(options: Options, target: str, jail: str | None, draft: str | None, as_json: bool) -> None:
    """Give a placement no new work; HOST alone: all placements on it.

    `wgctl service place HOST/SERVICE` brings it back.
    """
    from wgctl.admin.services import state_words
    from wgctl.commands.service.signing import say_words

    say_words(options, lambda ledger: state_words(ledger, target, jail, "draining"), draft, as_json)


@click.command("remove")
@click.argument("target", metavar="HOST/SERVICE|SERVICE", type=REMOVED)
@click.option("--jail", metavar="NAME", help="Which of several placements on that host.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@draft_option
@json_option
@pass_options
def remove_command(
    options: Options, target: str, jail: str | None, yes: bool, draft: str | None, as_json: bool
) -> None:
    """Retire a placement; SERVICE alone: the whole service, whose name is free then."""
    from wgctl.admin.services import retire_words, state_words
    from wgctl.commands.service.signing import say_words

    whole = "/" not in target
    if whole and not yes and draft is None:
        if not sys.stdin.isatty():
            raise click.UsageError("--yes is needed where nobody can be asked")
        confirm(f"Retire the service {target} everywhere?")
    say_words(
        options,
        lambda ledger: (
            retire_words(ledger, target) if whole else state_words(ledger, target, jail, "retired")
        ),
        draft,
        as_json,
    )
