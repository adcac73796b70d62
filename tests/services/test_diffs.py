"""A diff is for eyes: it shows what a module changes, and nothing that only a service may read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from service_rig import ServiceRig

from meshd.services.plan import Command, File
from meshd.services.schedule import Outcome
from meshd.services.transaction import Report, RunOptions


@pytest.mark.parametrize("how", [{"block": True, "top": True}, {"mode": 0o640}])
def test_what_somebody_else_wrote_into_a_file_that_others_may_not_read_is_not_shown(
    tmp_path: Path, how: dict[str, Any]
) -> None:
    rig = ServiceRig(tmp_path, table={"adopt": True})
    rig.file.write_text('rpc_secret = "PLANTED"\n')
    file = File(path=str(rig.file), text="bootstrap_peers = []\n", **how)
    report = rig.apply("x", files=(file,), verify=(), options=RunOptions(dry_run=True))
    assert report.outcome is Outcome.APPLIED and str(rig.file) in report.diffs[0]
    assert "PLANTED" not in "".join(report.diffs)


def test_what_others_might_not_read_is_not_shown_when_it_gives_way_to_what_they_may(tmp_path: Path) -> None:
    """An operator's own file, with a password in it, that a module takes over."""
    rig = ServiceRig(tmp_path, table={"adopt": True})
    rig.file.touch(mode=0o600)
    rig.file.write_text('password = "PLANTED"\n')
    report = rig.apply("no secret in it", verify=(), options=RunOptions(dry_run=True))
    assert report.outcome is Outcome.APPLIED and str(rig.file) in report.diffs[0]
    assert "PLANTED" not in "".join(report.diffs)


@pytest.fixture
def rig(tmp_path: Path) -> ServiceRig:
    """Its file holds a secret."""
    secret = tmp_path / "token"
    secret.touch(mode=0o600)
    secret.write_text("PLANTED-0123456789\n")
    return ServiceRig(tmp_path, table={"secrets": {"token": f"file:{secret}"}})


def apply(rig: ServiceRig, text: str, **changes: Any) -> Report:
    file = File(path=str(rig.file), text=text, mode=0o640)
    return rig.apply("x", files=(file,), **{"verify": (), "checks": (), **changes})


@pytest.mark.parametrize("padding", [0, 285, 295])
def test_what_quotes_a_secret_is_not_repeated_not_even_the_half_of_it(rig: ServiceRig, padding: int) -> None:
    """By a checker, by a reload, by the running service; reasons are cut off, which may be in its middle."""
    text = "token {secret:token} broken" + "x" * padding
    staged = Command(argv=("/bin/cat", f"{{staged:{rig.file}}}"), refuse="(?s)token.*")
    running = Command(argv=("/bin/cat", str(rig.file)), expect=("what is not there",))
    failing = ["/bin/sh", "-c", f"cat {rig.file} >&2; exit 1"]
    reasons = [apply(rig, text, checks=(staged,)).reason]
    reasons.append(apply(rig, text, checks=(msgspec.structs.replace(staged, refuse="", ok=(9,)),)).reason)
    reasons.append(apply(rig, text, verify=(running,)).reason)
    rig.table["reload_command"] = failing
    reasons.append(apply(rig, text).reason)
    for reason in reasons:
        assert str(rig.file.name) in reason or "exit status" in reason
        assert not any(part in reason for part in ("PLANTED", "ANTED-01", "0123", "6789")), reason
    bad = rig.transaction().journal.read().bad.values()
    assert bad and not any("0123" in str(each) or "6789" in str(each) for each in bad)
