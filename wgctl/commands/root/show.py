"""``wgctl root show``: one root in full."""

from __future__ import annotations

import time

import click

from wgctl.options import Options, pass_options
from wgctl.output import NOTHING, Cell, Column, build_table, json_option, render_time, show, write_json


@click.command("show")
@click.argument("which", metavar="[VERSION|HASH]", default="")
@click.option("--offline", is_flag=True, help="Ask no store: show what was verified before.")
@json_option
@pass_options
def command(options: Options, which: str, offline: bool, as_json: bool) -> None:
    """One root, the newest by default: keys, pools, thresholds, ranges."""
    from meshd.registry.signing import render_fingerprint
    from wgctl.admin.find_root import find_root
    from wgctl.admin.session import read_registry
    from wgctl.views.root import build_key_rows

    ledger = read_registry(options, now=time.time(), offline=offline).ledger
    root = find_root(ledger, which)
    keys = build_key_rows(ledger, root.root)
    if as_json:
        from wgctl.documents.signing import RootShown

        shown = RootShown(
            version=root.root.version,
            hash=root.hash,
            fingerprint=render_fingerprint(root.hash),
            keys=tuple(keys),
            document=root.root,
        )
        write_json(shown)
        return
    document = root.root
    lines: list[list[Cell]] = [
        ["root", f"{document.version} of {document.mesh_name} ({document.mesh})"],
        ["fingerprint", render_fingerprint(root.hash)],
        ["made", render_time(document.created_at)],
        ["thresholds", f"{document.thresholds.root} root keys, {document.thresholds.admin} admins"],
        ["hosts", f"{' '.join(document.ranges.overlay)}, at most {document.max_hosts}"],
        ["jails", " ".join(document.ranges.jail) or NOTHING],
        ["stores", " ".join(document.stores) or NOTHING],
    ]
    show(build_table(["", Column(text=True)], lines))
    cells: list[list[Cell]] = [
        [
            row.name,
            row.fingerprint,
            f"retired at {row.cut}" if row.retired else " ".join(row.roles),
            " ".join(row.pools) or NOTHING,
        ]
        for row in keys
    ]
    show(build_table(["KEY", "FINGERPRINT", "ROLES", "POOLS"], cells))
