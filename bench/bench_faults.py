"""What every fault costs in packets, on wireguard-go and on the kernel's WireGuard: ``make bench-faults``.

    python -m bench.bench_faults                     both sides, then docs/faults.md
    python -m bench.bench_faults userspace           one side, all of it: its results are kept
    python -m bench.bench_faults userspace kill down these scenarios alone: shown, not kept
    python -m bench.bench_faults table               docs/faults.md from the results that are kept

The results of a side are kept as JSON below the cache folder once it has come to its end, and the table
is written last: what is interrupted changes neither. Exit status 1 when a bound was exceeded. Needs root;
the kernel's side runs in the kernel lab (tools/kernel-lab.sh) unless the machine is that already.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import msgspec

from bench.faults.outcome import Outcome, SideReport
from bench.faults.run import SCENARIOS, run_side
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
    reports = []
    for side in SIDES if what == "all" else [side for side in SIDES if side == what]:
        report = _measure(side, chosen)
        reports.append(report)
        if not chosen and not EMULATED:
            _keep(report)
    if what in ("all", "table"):
        _write_table()
    return int(any(_says_exceeded(report) for report in reports))


def _measure(side: Side, chosen: list[str]) -> SideReport:
    if side == "kernel" and not EMULATED:
        return _measure_in_kernel_lab(chosen)
    print(f"== {side}", flush=True)
    with interruptible():
        report = run_side(side, chosen, on_outcome=_show)
    if EMULATED:
        print(REPORT_MARK + msgspec.json.encode(report).decode(), flush=True)
    return report


def _measure_in_kernel_lab(chosen: list[str]) -> SideReport:
    command = " ".join([sys.executable, "-m", "bench.bench_faults", "kernel", *chosen])
    environment = {**os.environ, "KERNEL_LAB_TIMEOUT_SECONDS": str(KERNEL_LAB_SECONDS)}
    argv = ["sh", str(TREE / "tools/kernel-lab.sh"), "--shell", command]
    found = None
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, errors="replace", env=environment) as lab:
        for line in lab.stdout or ():
            if line.startswith(REPORT_MARK):
                found = msgspec.json.decode(line.removeprefix(REPORT_MARK), type=SideReport)
            else:
                print(line, end="", flush=True)
    if found is None:
        raise SystemExit(f"bench-faults: the kernel lab ended with {lab.returncode} and no report")
    return found


def _show(outcome: Outcome) -> None:
    seconds = f"over after {outcome.whole_seconds or 0.0:.1f} s"
    print(f"{outcome.scenario}: {outcome.left_out or outcome.failed or seconds}", flush=True)
    for stream in outcome.streams:
        back = "" if stream.traffic_seconds is None else f", last loss after {stream.traffic_seconds:.2f} s"
        print(
            f"   {stream.source:>8} to {stream.target:8} {'touched  ' if stream.touched else 'untouched'} "
            f"{stream.lost} of {stream.sent} lost ({stream.refused} refused), "
            f"gap {stream.longest_gap_seconds:.3f} s{back}",
            flush=True,
        )


def _keep(report: SideReport) -> None:
    RESULTS.mkdir(parents=True, exist_ok=True)
    _replace(RESULTS / f"{report.side}.json", msgspec.json.format(msgspec.json.encode(report)))


def _write_table() -> None:
    sides: dict[str, SideReport] = {}
    for side in SIDES:
        path = RESULTS / f"{side}.json"
        if path.exists():
            sides[side] = msgspec.json.decode(path.read_bytes(), type=SideReport)
    if not sides:
        raise SystemExit(f"bench-faults: no results in {RESULTS}: run make bench-faults")
    _replace(TABLE, render_table(SCENARIOS, sides).encode())
    print(f"{TABLE.relative_to(TREE)}: written")


def _replace(path: Path, data: bytes) -> None:
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_bytes(data)
    fresh.replace(path)


def _says_exceeded(report: SideReport) -> bool:
    outcomes = {outcome.scenario: outcome for outcome in report.outcomes}
    names = [
        scenario.name for scenario in SCENARIOS
        if scenario.name in outcomes
        and exceeded(scenario, outcomes[scenario.name], emulated=report.side == "kernel")
    ]
    if names:
        print(f"{report.side}: more than the bound: {', '.join(names)}", file=sys.stderr)
    return bool(names)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except MeshError as error:
        sys.exit(f"bench-faults: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
