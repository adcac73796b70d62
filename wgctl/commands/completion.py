"""``wgctl completion``: the script that a shell sources."""

from __future__ import annotations

import click

from meshd.program import completion_script
from meshd.terminal import echo


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]), default="bash")
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the shell's completion script.

    \b
    bash:  wgctl completion bash > /usr/local/etc/bash_completion.d/wgctl
    zsh:   wgctl completion zsh  > a directory of $fpath, as _wgctl
    fish:  wgctl completion fish > ~/.config/fish/completions/wgctl.fish
    """
    echo(completion_script(ctx.find_root().command, "wgctl", shell))
