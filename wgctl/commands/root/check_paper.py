"""``wgctl root check-paper``: whether what stands on the paper is a root key of this mesh."""

from __future__ import annotations

import time

import click

from meshd.errors import RegistryError
from meshd.terminal import echo
from wgctl.options import Options, pass_options
from wgctl.output import json_option, write_json


@click.command("check-paper")
@click.option("--offline", is_flag=True, help="Ask no store: compare with what was verified before.")
@json_option
@pass_options
def command(options: Options, offline: bool, as_json: bool) -> None:
    """Whether the key on paper is a root key of this mesh.

    It is typed in, or read from standard input, compared, and forgotten. Ends with 1 for a slip of the pen,
    for another mesh's key, and for one that no longer counts.
    """
    from meshd.registry.signing import render_fingerprint
    from wgctl.admin.paper import read_paper_key
    from wgctl.admin.session import read_registry

    ledger = read_registry(options, now=time.time(), offline=offline).ledger
    kid = read_paper_key().kid
    named = [root.root for root in ledger.chain.roots if kid in root.root.keys]
    mesh = ledger.chain.root.mesh_name
    if not named:
        raise RegistryError(
            f"root key {render_fingerprint(kid)}: no root of {mesh} names it: it is of another mesh"
        )
    name, newest = named[-1].keys[kid].name, ledger.chain.root
    if "root" not in ledger.chain.current.roles(kid):
        raise RegistryError(
            f"root key {name}: root {newest.version} of {mesh} names it no longer, so it signs nothing"
        )
    if as_json:
        from wgctl.documents.signing import PaperChecked

        write_json(PaperChecked(mesh=mesh, name=name, kid=kid, root=newest.version))
        return
    echo(f"that is root key {name} of {mesh}, in force by root {newest.version}")
