"""``wgctl explain``: which signed statement put this here, or why it is not; what a condition means."""

from __future__ import annotations

import difflib
import time
from typing import TYPE_CHECKING, Final

import click
from msgspec.structs import asdict

from wgctl.completing import HOST
from wgctl.options import Options, pass_options
from wgctl.output import (
    BAD,
    FAINT,
    FAIR,
    GOOD,
    Cell,
    Column,
    build_table,
    json_option,
    render_time,
    say,
    show,
    write_json,
)

if TYPE_CHECKING:
    from wgctl.views.explanation import Reason

SEVERITY_STYLE: Final = {"critical": BAD, "warning": FAIR, "info": FAINT}
STYLE: Final = {"yes": ("+", GOOD), "no": ("-", BAD), "note": (" ", FAINT)}


@click.command("explain")
@click.argument("subject", metavar="HOST|PREFIX|ADDRESS|CONDITION", type=HOST)
@click.option("--offline", is_flag=True, help="Ask no store: explain what was verified before.")
@json_option
@pass_options
def command(options: Options, subject: str, offline: bool, as_json: bool) -> None:
    """Which statement put this here; what a condition means.

    By whom and when, and also why something is not here: waiting for endorsement, outside of a pool,
    revoked, cut, or second to somebody else. For a condition (plan_held): what to do. That asks nobody.
    """
    if "_" in subject:  # no host's name has one
        _explain_condition(subject, as_json=as_json)
        return
    from wgctl.admin.session import read_registry
    from wgctl.views.explanation import explain

    now = time.time()
    ledger = read_registry(options, now=now, offline=offline).ledger
    answers = explain(ledger, subject, now=now)
    if as_json:
        from wgctl.documents.members import Explanations

        write_json(Explanations(mesh_id=ledger.mesh_id, explanations=tuple(answers)))
        return
    for answer in answers:
        say(answer.summary, GOOD if answer.here else FAIR)
        if answer.reasons:
            rows = [row for reason in answer.reasons for row in _rows(reason)]
            show(build_table(["", Column(text=True)], rows))


def _explain_condition(code: str, *, as_json: bool) -> None:
    from meshd.observe.advice import find_advice, read_advice

    advice = find_advice(code)
    if advice is None:
        near = difflib.get_close_matches(code, read_advice(), n=3)
        hint = f"; is it {' or '.join(near)}?" if near else "; docs/conditions.md lists them"
        raise click.UsageError(f"{code}: there is no such condition{hint}")
    if as_json:
        from wgctl.documents.members import ExplainedCondition

        write_json(ExplainedCondition(condition=code, **asdict(advice)))
        return
    say(f"{code}: {advice.severity}", SEVERITY_STYLE[advice.severity])
    say(advice.meaning)
    say(f"What to do: {advice.remedy}")


def _rows(reason: Reason) -> list[list[Cell]]:
    """What speaks for or against it, and below that who signed it."""
    mark, source = STYLE[reason.verdict], reason.source
    if source is None:
        return [[mark, reason.text]]
    who = f"{source.by_name} ({source.by[:8]}) #{source.seq}, {render_time(source.at)}"
    return [[mark, reason.text], ["", (f"{who}, statement {source.statement[:12]}", FAINT)]]
