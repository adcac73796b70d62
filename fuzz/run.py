"""Coverage-guided fuzzing of every decoder that takes bytes from outside, by atheris.

    python fuzz/run.py                       every target for a minute each
    python fuzz/run.py statement --seconds 600
    python fuzz/run.py --list

Needs atheris (from PyPI; no part of this project's own requirements) beside this package. The
corpus of a target begins with real objects and is kept in fuzz/corpus/TARGET; an input that
breaks a promise is written to fuzz/findings/TARGET. Exit status 1 when there was one.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "tests" / "support")]

MAX_INPUT_BYTES = 8192
START_AND_END_SECONDS = 600
"""What a target may take beside its fuzzing, on a busy machine: to import, to read its corpus and to
write what it found."""


def fuzz(name: str, arguments: list[str]) -> None:
    """Fuzz one target in this process; libFuzzer ends it."""
    import atheris

    with atheris.instrument_imports(include=["meshd"]):
        from decoders import DECODERS

    [decoder] = [decoder for decoder in DECODERS if decoder.name == name]

    def once(body: bytes) -> None:
        with contextlib.suppress(*decoder.raises):
            decoder.decode(body)

    corpus = HERE / "corpus" / name
    corpus.mkdir(parents=True, exist_ok=True)
    for seed in decoder.seeds:
        (corpus / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)
    atheris.Setup([sys.argv[0], *arguments, str(corpus)], once)
    atheris.Fuzz()


def command(name: str, seconds: int) -> list[str]:
    """The command line that fuzzes one target in a process of its own."""
    findings = HERE / "findings" / name
    findings.mkdir(parents=True, exist_ok=True)
    return [
        sys.executable,
        __file__,
        "--one",
        name,
        f"-max_total_time={seconds}",
        f"-max_len={MAX_INPUT_BYTES}",
        "-timeout=10",
        "-rss_limit_mb=1024",
        f"-artifact_prefix={findings}/",
    ]


def run(name: str, command: list[str], limit_seconds: float) -> bool:
    """Fuzz one target; one line reports how it went. True: it ended by itself and found nothing.

    A target that does not end is killed and counts as a finding. Those after it are fuzzed all the same.
    """
    try:
        done = subprocess.run(command, capture_output=True, timeout=limit_seconds, check=False)
    except subprocess.TimeoutExpired as late:
        report, verdict = late.stderr or b"", f"DID NOT END within {limit_seconds:g} s"
    else:
        report, verdict = done.stderr, f"FOUND, see {HERE / 'findings' / name}" if done.returncode else ""
    text = report.decode(errors="replace")
    counts = re.findall(r"^#(\d+)\s", text, re.MULTILINE)
    coverage = re.findall(r"cov: (\d+)", text)
    executions = re.search(r"Done (\d+) runs", text)
    total = executions[1] if executions else (counts[-1] if counts else "0")
    edges = coverage[-1] if coverage else "?"
    print(f"{name:22}{int(total):>10} executions {edges:>6} edges  {verdict or 'nothing found'}", flush=True)
    if verdict:
        print(text[-3000:])
    return not verdict


def main() -> int:
    if sys.argv[1:2] == ["--one"]:
        fuzz(sys.argv[2], sys.argv[3:])
        return 0
    from decoders import DECODERS

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("targets", nargs="*", choices=[*(decoder.name for decoder in DECODERS), []])
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    names = options.targets or [decoder.name for decoder in DECODERS]
    if options.list:
        print("\n".join(names))
        return 0
    limit_seconds = options.seconds + START_AND_END_SECONDS
    found = [name for name in names if not run(name, command(name, options.seconds), limit_seconds)]
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
