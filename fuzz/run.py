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


def run(name: str, seconds: int) -> bool:
    """Fuzz one target in a process of its own; one line says how it went. True: nothing found."""
    findings = HERE / "findings" / name
    findings.mkdir(parents=True, exist_ok=True)
    command = [
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
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 120, check=False)
    counts = re.findall(r"^#(\d+)\s", done.stderr, re.MULTILINE)
    coverage = re.findall(r"cov: (\d+)", done.stderr)
    executions = re.search(r"Done (\d+) runs", done.stderr)
    total = executions[1] if executions else (counts[-1] if counts else "0")
    good = done.returncode == 0
    verdict = "nothing found" if good else f"FOUND, see {findings}"
    edges = coverage[-1] if coverage else "?"
    print(f"{name:22}{int(total):>10} executions {edges:>6} edges  {verdict}", flush=True)
    if not good:
        print(done.stderr[-3000:])
    return good


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
    found = [name for name in names if not run(name, options.seconds)]
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
