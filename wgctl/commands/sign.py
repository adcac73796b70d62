"""``wgctl sign``: sign what another machine prepared, on the one that holds the key."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from meshd.errors import MeshError, RegistryError
from meshd.terminal import confirm, echo
from wgctl.files import STANDARD_STREAM, check_writable, write_text
from wgctl.options import Options, pass_options
from wgctl.output import json_option, note, write_json

if TYPE_CHECKING:
    from wgctl.admin.pending_signatures import Task

REPORT_FORMAT: Final = "wgctl-sign/1"


@click.command("sign")
@click.argument("file", metavar="FILE|-")
@click.option("--out", metavar="FILE", help="Where the signed registry goes. [default: FILE.signed]")
@click.option("--force", is_flag=True, help="A root too by which over a fifth of the hosts would fall away.")
@click.option(
    "--yes", is_flag=True, help="Do not ask. Roots, hosts and the draft need their --fingerprint then."
)
@click.option(
    "--fingerprint",
    "fingerprints",
    multiple=True,
    help="With --yes: of a root, a host's identity or the draft that you have compared; again for more.",
)
@json_option
@pass_options
def command(
    options: Options,
    file: str,
    out: str | None,
    force: bool,
    yes: bool,
    fingerprints: tuple[str, ...],
    as_json: bool,
) -> None:
    """Sign what was prepared on another machine, or waits for this key.

    FILE is a draft (`--draft` of add-host, remove-host and rotate-keys) or an export. Its registry is
    verified and taken in first. Each thing is shown and asked about; then the registry is written to
    a file for `wgctl import` on the machine that meets the stores. Join bundles are written beside it.
    """
    from wgctl.admin.import_registry import take_in
    from wgctl.admin.pending_signatures import find_tasks
    from wgctl.admin.session import open_session
    from wgctl.admin.signing_request import read_draft

    if not yes and not sys.stdin.isatty():
        raise click.UsageError("--yes is needed where nobody can be asked")
    if file == STANDARD_STREAM and out is None:
        raise click.UsageError("--out is needed with standard input")
    target = out or f"{file}.signed"
    check_writable(target, "the signed registry")
    now = time.time()
    draft = read_draft(file)
    with open_session(options) as session:
        take_in(session, draft.registry, file, now=now)
        session.sync(now=now)
        tasks = find_tasks(session, draft.wishes, Path(target).absolute().parent, force=force, now=now)
        signed, declined, refused = _sign_each(tasks, yes, fingerprints)
        if signed:
            from meshd.registry.export import build_export, render_export

            write_text(target, render_export(build_export(session.ledger, now=now)) + "\n")
        session.report_failures()
    if as_json:
        write_json(
            {
                "format": REPORT_FORMAT,
                "signed": [{"what": what, "outcome": said} for what, said in signed],
                "declined": declined,
                "refused": [{"what": what, "why": why} for what, why in refused],
                "file": target if signed else None,
            }
        )
    else:
        for what, said in signed:
            echo(f"{what}\n  {said}")
        echo(
            f"{target}: carry it back, and there: wgctl import {Path(target).name}"
            if signed
            else "nothing was signed"
            if tasks
            else f"{file}: nothing waits for this home's signature"
        )
    if refused:
        reasons = "; ".join(f"{what}: {why}" for what, why in refused)
        raise RegistryError(f"{len(refused)} of {len(tasks)} could not be signed: {reasons}")


def _sign_each(
    tasks: list[Task], yes: bool, fingerprints: tuple[str, ...]
) -> tuple[list[tuple[str, str]], list[str], list[tuple[str, str]]]:
    """What was signed with what came of it, what nobody wanted, and what could not be, with the reason.

    One that cannot be signed stops no other: each is a whole of its own.
    """
    signed: list[tuple[str, str]] = []
    declined: list[str] = []
    refused: list[tuple[str, str]] = []
    for number, task in enumerate(tasks, 1):
        note(f"{number} of {len(tasks)}: {task.text}")
        for line in task.details:
            note(line)
        if yes and not task.is_covered(fingerprints):
            refused.append((task.text, task.not_covered(fingerprints)))
            continue
        if not yes and not confirm("Sign it?", abort=False):
            declined.append(task.text)
            continue
        try:
            signed.append((task.text, task.sign()))
        except MeshError as error:
            refused.append((task.text, str(error)))
    return signed, declined, refused
