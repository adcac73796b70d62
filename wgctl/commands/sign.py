"""``wgctl sign``: sign what another machine prepared, on the one that holds the key."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from meshd.errors import MeshError, RegistryError
from meshd.terminal import confirm, echo
from wgctl.completing import FILE
from wgctl.files import STANDARD_STREAM, check_writable, write_text
from wgctl.options import Options, pass_options
from wgctl.output import json_option, note, write_json

if TYPE_CHECKING:
    from wgctl.admin.pending_signatures import Task
    from wgctl.documents.signing import DraftSigned


@click.command("sign")
@click.argument("file", metavar="FILE|-", type=FILE)
@click.option(
    "--out", type=FILE, metavar="FILE", help="Where the signed registry goes. [default: FILE.signed]"
)
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
    from meshd.registry.export import EXPORT_FORMAT, build_export, render_export
    from wgctl.admin.import_registry import take_in
    from wgctl.admin.pending_signatures import find_tasks
    from wgctl.admin.session import open_session
    from wgctl.admin.signing_request import read_draft

    if not yes and not sys.stdin.isatty():
        raise click.UsageError("--yes is needed where nobody can be asked")
    if file == STANDARD_STREAM and out is None:
        raise click.UsageError("--out is needed with standard input")
    target = out or f"{file}.signed"
    check_writable(target, "an export of a registry", {"format": EXPORT_FORMAT})
    now = time.time()
    draft = read_draft(file)
    with open_session(options) as session:
        take_in(session, draft.registry, file)
        session.sync(now=now)
        tasks = find_tasks(session, draft.operations, Path(target).absolute().parent, force=force, now=now)
        outcome = _sign_each(tasks, yes, fingerprints)
        if outcome.signed:
            write_text(target, render_export(build_export(session.ledger, now=now)) + "\n")
        session.report_failures()
    if as_json:
        write_json(outcome.document(target))
    else:
        for what, came_of_it in outcome.signed:
            echo(f"{what}\n  {came_of_it}")
        echo(outcome.next_step(file, target))
    if outcome.refused:
        reasons = "; ".join(f"{what}: {why}" for what, why in outcome.refused)
        raise RegistryError(f"{len(outcome.refused)} of {len(tasks)} could not be signed: {reasons}")


class _Outcome(msgspec.Struct):
    """What became of each thing that waited for a signature."""

    signed: list[tuple[str, str]] = msgspec.field(default_factory=list)
    """With what came of it."""
    declined: list[str] = msgspec.field(default_factory=list)
    """The person did not want it."""
    refused: list[tuple[str, str]] = msgspec.field(default_factory=list)
    """It could not be signed, with the reason."""

    def document(self, target: str) -> DraftSigned:
        from wgctl.documents.signing import DraftSigned, RefusedThing, SignedThing

        return DraftSigned(
            signed=tuple(SignedThing(what=what, outcome=came_of_it) for what, came_of_it in self.signed),
            declined=tuple(self.declined),
            refused=tuple(RefusedThing(what=what, why=why) for what, why in self.refused),
            file=target if self.signed else None,
        )

    def next_step(self, file: str, target: str) -> str:
        if self.signed:
            return f"{target}: carry it back, and there: wgctl import {Path(target).name}"
        if self.declined or self.refused:
            return "nothing was signed"
        return f"{file}: nothing waits for this home's signature"


def _sign_each(tasks: list[Task], yes: bool, fingerprints: tuple[str, ...]) -> _Outcome:
    """One that cannot be signed stops no other: each is a whole of its own."""
    outcome = _Outcome()
    for number, task in enumerate(tasks, 1):
        note(f"{number} of {len(tasks)}: {task.text}")
        for line in task.details:
            note(line)
        if yes and not task.is_covered(fingerprints):
            outcome.refused.append((task.text, task.not_covered(fingerprints)))
            continue
        if not yes and not confirm("Sign it?", abort=False):
            outcome.declined.append(task.text)
            continue
        try:
            outcome.signed.append((task.text, task.sign()))
        except MeshError as error:
            outcome.refused.append((task.text, str(error)))
    return outcome
