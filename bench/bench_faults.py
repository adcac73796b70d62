"""What every fault costs in packets, on wireguard-go and on the kernel's WireGuard: ``make bench-faults``.

    python -m bench.bench_faults                     both sides, then docs/faults.md
    python -m bench.bench_faults userspace           one side
    python -m bench.bench_faults userspace kill down these scenarios alone
    python -m bench.bench_faults table               docs/faults.md from the results that are kept

The result of each scenario is kept as JSON below the cache folder when it is over, in place of an earlier
one, and says when it was measured; the table is written last, so that a run that is interrupted leaves the
old one. Exit status 1 when a bound was exceeded. Needs root;
the kernel's side runs in the kernel lab (tools/kernel-lab.sh) unless the machine is that already.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from bench.faults.outcome import SideReport
from bench.faults.run import SCENARIOS, find_scenario, run_side
from bench.faults.stage import Side
from bench.faults.table import exceeded, render_table
from meshd.errors import MeshError
from meshd.lab.pace import EMULATED
from meshd.lab.scope import interruptible

TREE: Final = Path(__file__).resolve().parent.parent
TABLE: Final = TREE / "docs/faults.md"
RESULTS: Final = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wg-meshd/faults"
SIDES: Final[tuple[Side, ...]] = ("userspace", "kernel")
KERNEL_LAB_SECONDS: Final = 2400
REPORT_MARK: Final = "faults-report "
"""Before the report's JSON on the one line that carries it out of the virtual machine."""


def main(arguments: list[str]) -> int:
    names = {scenario.name for scenario in SCENARIOS}
    what, chosen = (arguments[0], arguments[1:]) if arguments else ("all", [])
    unknown = [word for word in chosen if word not in names]
    if what not in ("all", "table", *SIDES) or unknown:
        expected = f"one of {', '.join(sorted(names))}" if unknown else "userspace, kernel or table"
        print(f"bench-faults: {(unknown or [what])[0]!r} seen, {expected} expected", file=sys.stderr)
        return 2
    if what != "table" and os.geteuid() != 0:
        print("bench-faults: the lab needs root", file=sys.stderr)
        return 1
    worse = False
    for side in SIDES if what == "all" else [side for side in SIDES if side == what]:
        print(f"== {side}", flush=True)
        for report in _measure(side, chosen):
            if EMULATED:  # whoever started the machine shows it
                print(REPORT_MARK + msgspec.json.encode(report).decode(), flush=True)
                continue
            worse |= _show(report)
            _keep(report)
    if what in ("all", "table"):
        _write_table()
    return int(worse)


def _measure(side: Side, chosen: list[str]) -> Iterator[SideReport]:
    if side == "kernel" and not EMULATED:
        yield from _measure_in_kernel_lab(chosen)
        return
    with interruptible():
        yield from run_side(side, chosen)


def _measure_in_kernel_lab(chosen: list[str]) -> Iterator[SideReport]:
    command = " ".join([sys.executable, "-m", "bench.bench_faults", "kernel", *chosen])
    environment = {"KERNEL_LAB_TIMEOUT_SECONDS": str(KERNEL_LAB_SECONDS), **os.environ}
    argv = ["sh", str(TREE / "tools/kernel-lab.sh"), "--shell", command]
    seen = 0
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, errors="replace", env=environment) as lab:
        for line in lab.stdout or ():
            if line.startswith(REPORT_MARK):
                seen += 1
                yield msgspec.json.decode(line.removeprefix(REPORT_MARK), type=SideReport)
            else:
                print(line, end="", flush=True)
    if seen < len(chosen or SCENARIOS):
        raise MeshError(f"the kernel lab ended with {lab.returncode} after {seen} scenarios")


def _show(report: SideReport) -> bool:
    """Say what a scenario cost; whether that is more than its bound."""
    (outcome,) = report.outcomes
    seconds = f"over after {outcome.whole_seconds or 0.0:.1f} s"
    print(f"{outcome.scenario}: {outcome.left_out or outcome.failed or seconds} {outcome.note}", flush=True)
    for stream in outcome.streams:
        back = "" if stream.traffic_seconds is None else f", last loss after {stream.traffic_seconds:.2f} s"
        print(
            f"   {stream.source:>8} to {stream.target:8} {'touched  ' if stream.touched else 'untouched'} "
            f"{stream.lost} of {stream.sent} lost ({stream.refused} refused), "
            f"gap {stream.longest_gap_seconds:.3f} s{back}",
            flush=True,
        )
    scenario = find_scenario(outcome.scenario)
    worse = exceeded(scenario, outcome, emulated=report.side == "kernel")
    if worse:
        print(f"   MORE THAN ITS BOUND: {scenario.bound}", flush=True)
    return worse


def _keep(report: SideReport) -> None:
    """Beside what was measured before; the later one of each scenario counts."""
    before = _read(report.side)
    merged = before.followed_by(report) if before else report
    RESULTS.mkdir(parents=True, exist_ok=True)
    _replace(RESULTS / f"{report.side}.json", msgspec.json.format(msgspec.json.encode(merged)))


def _read(side: str) -> SideReport | None:
    try:
        return msgspec.json.decode((RESULTS / f"{side}.json").read_bytes(), type=SideReport)
    except FileNotFoundError:
        return None


def _write_table() -> None:
    sides: dict[str, SideReport] = {side: report for side in SIDES if (report := _read(side)) is not None}
    if not sides:
        raise MeshError(f"no results in {RESULTS}: run make bench-faults")
    _replace(TABLE, render_table(SCENARIOS, sides).encode())
    print(f"{TABLE.relative_to(TREE)}: written")


def _replace(path: Path, data: bytes) -> None:
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_bytes(data)
    fresh.replace(path)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except MeshError as error:
        sys.exit(f"bench-faults: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
