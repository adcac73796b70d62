"""The ``wgctl`` group: global options, verbs loaded when they are used, one line an error."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import click

from meshd.program import run_program
from meshd.terminal import echo
from meshd.version import VERSION
from wgctl.admin.passphrase import PassphraseSource
from wgctl.options import Options
from wgctl.verb_group import VerbGroup

VERBS: Final[Mapping[str, tuple[str, str]]] = {
    "init": ("init", "Found a mesh: keys, first root document, store."),
    "add-host": ("add_host", "Grant a host its place and print its join bundle."),
    "add-client": ("add_client", "Grant a laptop or a phone its place, and write its file."),
    "client": ("client", "Files of clients: print one, check one."),
    "remove-host": ("remove_host", "Revoke a host or a client for good."),
    "rotate-keys": ("rotate_keys", "Ask hosts to make new WireGuard keys."),
    "endorse": ("endorse", "Agree with another administrator's grant, service or placement."),
    "garage-sync": ("garage_sync", "Make Garage's buckets and keys what the registry wants."),
    "list": ("hosts", "Hosts of the signed registry."),
    "log": ("log", "Signed statements, newest last."),
    "explain": (
        "explain",
        "Which statement put this here; what a condition means.",
    ),
    "admin": ("admin", "Administrators: list, add, retire, cut."),
    "root": ("root", "Root documents: list, sign, thresholds, recovery."),
    "export": ("export", "Write the verified registry to a file, to be carried."),
    "sign": ("sign", "Sign what was prepared on another machine, or waits for this key."),
    "import": ("import_", "Take in what another home exported, and publish it."),
    "service": ("service", "Services of the mesh, and this host's part in them."),
    "status": ("status", "How this host sees the mesh now."),
    "top": ("top", "The live view: conditions, then the peers, the worst first."),
    "ping": ("ping", "Echoes to one host, beside what meshd sees of it."),
    "path": ("path", "What the path between two hosts is, since when and why."),
    "drain": ("drain", "Keep pairs of other hosts from going through this one."),
    "plan": ("plan", "What meshd would change on this host, and why."),
    "apply": ("apply", "Let meshd carry out its plan now."),
    "rollback": ("rollback", "Go back to the state before the last plan."),
    "doctor": ("doctor", "Check this host and this admin home; say what to do."),
    "demo": ("demo", "Build a whole mesh on this machine and measure it."),
    "completion": ("completion", "Print the shell's completion script."),
    "help": ("help", "Show the help of a verb."),
    "version": ("version", "Print the version."),
}


class MainGroup(VerbGroup):
    """All verbs; every error leaves here."""

    package = "wgctl.commands"
    verbs = VERBS

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """As click's, but every error is one line ``wgctl: error: ...`` with its own exit code."""
        if not kwargs.get("standalone_mode", True):
            return super().main(*args, **kwargs)
        kwargs["standalone_mode"] = False
        kwargs["prog_name"] = "wgctl"
        sys.exit(run_program("wgctl", partial(super().main, *args, **kwargs)))


def default_home() -> Path | None:
    configured = os.environ.get("WGCTL_HOME")
    if configured:
        return Path(configured).absolute()
    configured = os.environ.get("XDG_CONFIG_HOME")
    if configured:
        return Path(configured).absolute() / "wgctl"
    try:
        return Path.home() / ".config" / "wgctl"
    except RuntimeError:  # a uid without a line in passwd(5), and no HOME
        return None


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        echo(f"wgctl {VERSION}")
        ctx.exit()


@click.group(
    cls=MainGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    no_args_is_help=False,
    invoke_without_command=True,
)
@click.option(
    "--home",
    type=click.Path(path_type=Path, readable=False),
    metavar="DIR",
    help="Admin home. [default: $WGCTL_HOME or ~/.config/wgctl]",
)
@click.option(
    "--config",
    type=click.Path(path_type=Path, readable=False),
    metavar="FILE",
    help="meshd.toml of this host. [default: meshd's own place]",
)
@click.option(
    "--socket",
    type=click.Path(path_type=Path, readable=False),
    metavar="PATH",
    help="Control socket of this host's meshd. [default: from the settings file]",
)
@click.option(
    "--passphrase-file",
    metavar="FILE|fd:N",
    envvar="WGCTL_PASSPHRASE_FILE",
    help="Passphrase of the admin home's keys, in its first line. [default: ask on the terminal]",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Print the version and exit.",
)
@click.pass_context
def main(
    ctx: click.Context,
    home: Path | None,
    config: Path | None,
    socket: Path | None,
    passphrase_file: str | None,
) -> None:
    """Run a WireGuard mesh: its signed registry, and this host's part in it."""
    chosen = home or default_home()
    ctx.obj = Options(
        chosen_home=chosen.absolute() if chosen is not None else None,
        config=config,
        socket=socket,
        passphrase=PassphraseSource(passphrase_file or None),
    )
    if ctx.invoked_subcommand is None:
        echo(ctx.get_help())


if __name__ == "__main__":
    main()
