"""Switch each defence off, one at a time, and see that the tests which claim to prove it fail.

    make mutation                        all of them; rewrites the table in docs/attacks.md
    .venv/bin/python tools/mutation.py --only NAME    one of them, with what pytest said

A defence is a line of source in tests/attacks/defences.toml with its harmless-looking twin. The
tree is copied to temporary directories, one for each job, so the checkout is never touched. A
mutation dies when one of its tests fails. It hangs when they run into the time limit and, with the
defence on again, do not: on a machine that is merely busy the limit proves nothing. Such a one counts as
broken, like a tree that does not even import. Exit status 1 when one survived or broke.
"""

from __future__ import annotations

import argparse
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

CHECKOUT: Final = Path(__file__).resolve().parent.parent
DEFENCES: Final = CHECKOUT / "tests" / "attacks" / "defences.toml"
DOCUMENT: Final = CHECKOUT / "docs" / "attacks.md"
BEGIN: Final = "<!-- table made by: make mutation -->"
END: Final = "<!-- end of the table -->"
TIME_LIMIT_SECONDS: Final = 90.0
ALL_TESTS_SECONDS: Final = 1800.0
"""All tests of all defences, once, before the first is switched off."""
_COPIED: Final = ("meshd", "wgctl", "tests", "contrib", "docs", "tools", "conftest.py", "pyproject.toml")
_TESTS_FAILED: Final = 1

Outcome = Literal["died", "hung", "survived", "broken"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Defence:
    """``source`` stands once in ``file``; with ``mutated`` in its place one of ``tests`` must fail."""

    name: str
    attack: str
    file: str
    source: str
    mutated: str
    tests: tuple[str, ...]


def read_defences(path: Path = DEFENCES) -> tuple[Defence, ...]:
    """The table. A test is written ``alias::name``; aliases of files stand in the table ``files``."""
    document = tomllib.loads(path.read_text())
    files: dict[str, str] = document["files"]
    return tuple(
        Defence(
            name=entry["name"],
            attack=entry["attack"],
            file=entry["file"],
            source=entry["source"],
            mutated=entry["mutated"],
            tests=tuple(_expand(test, files) for test in entry["tests"]),
        )
        for entry in document["defence"]
    )


def _expand(test: str, files: dict[str, str]) -> str:
    alias, _, name = test.partition("::")
    return f"{files[alias]}::{name}"


def copy_tree(target: Path) -> None:
    for name in _COPIED:
        source = CHECKOUT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, target / name)


def run_tests(
    tree: Path, tests: Sequence[str], limit_seconds: float = TIME_LIMIT_SECONDS
) -> tuple[int | None, str]:
    """Pytest's exit status in that tree (None: over the time limit) and what it said."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-x",
        "-q",
        "--no-header",
        "-p",
        "no:cacheprovider",
        "--hypothesis-profile=thorough",
        "-m",
        "not garage and not root and not kernel",
        *tests,
    ]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(tree)}
    try:
        done = subprocess.run(
            command,
            cwd=tree,
            env=environment,
            capture_output=True,
            text=True,
            timeout=limit_seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None, "time limit"
    return done.returncode, done.stdout + done.stderr


def mutate(defence: Defence, tree: Path, limit_seconds: float = TIME_LIMIT_SECONDS) -> tuple[Outcome, str]:
    """Switch one defence off in the copy, run its tests, switch it on again."""
    path = tree / defence.file
    good = path.read_text()
    if good.count(defence.source) != 1:
        return "broken", f"{defence.file}: {defence.source!r} stands there {good.count(defence.source)} times"
    path.write_text(good.replace(defence.source, defence.mutated))
    try:
        status, said = run_tests(tree, defence.tests, limit_seconds)
    finally:
        path.write_text(good)
    if status is None:
        good_status, _ = run_tests(tree, defence.tests, limit_seconds)
        return (
            ("hung", said) if good_status == 0 else ("broken", "over the time limit with the defence on, too")
        )
    if status == 0:
        return "survived", said
    return ("died" if status == _TESTS_FAILED else "broken"), said


def mutate_all(defences: Sequence[Defence], trees: Sequence[Path]) -> Iterator[tuple[Defence, Outcome, str]]:
    """Each defence in turn, in the order of the table; as many at once as there are trees."""
    free: queue.SimpleQueue[Path] = queue.SimpleQueue()
    for tree in trees:
        free.put(tree)

    def one(defence: Defence) -> tuple[Defence, Outcome, str]:
        tree = free.get()
        try:
            return defence, *mutate(defence, tree)
        finally:
            free.put(tree)

    with ThreadPoolExecutor(len(trees)) as jobs:
        yield from jobs.map(one, defences)


def render_table(results: Iterable[tuple[Defence, Outcome]]) -> str:
    lines = ["| attack | defence | switched off | outcome | by |", "|---|---|---|---|---|"]
    for defence, outcome in results:
        file = defence.file.removeprefix("meshd/")
        switched = f"{file}: `{_one_line(defence.source)}` → `{_one_line(defence.mutated)}`"
        tests = ", ".join(f"`{test.rpartition('::')[2]}`" for test in defence.tests)
        lines.append(f"| {defence.attack} | {defence.name} | {switched} | {outcome} | {tests} |")
    return "\n".join(lines)


def _one_line(code: str) -> str:
    return " ".join(code.split()).replace("|", "\\|") or "nothing"


def write_table(table: str) -> None:
    before, _, rest = DOCUMENT.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    DOCUMENT.write_text(f"{before}{BEGIN}\n\n{table}\n\n{END}{after}")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", metavar="NAME", help="the defences whose name contains this")
    parser.add_argument("--jobs", metavar="N", type=int, default=os.cpu_count() or 1, help="so many at once")
    options = parser.parse_args()
    only: str | None = options.only
    defences = [item for item in read_defences() if only is None or only in item.name]
    results: list[tuple[Defence, Outcome]] = []
    with tempfile.TemporaryDirectory(prefix="meshd-mutation.") as directory:
        trees = [Path(directory) / str(number) for number in range(max(1, min(options.jobs, len(defences))))]
        for tree in trees:
            copy_tree(tree)
        tests = sorted({test for item in defences for test in item.tests})
        status, said = run_tests(trees[0], tests, ALL_TESTS_SECONDS)
        if status != 0:
            print(said, "the tests do not pass with every defence on", sep="\n")
            return 1
        for defence, outcome, said in mutate_all(defences, trees):
            results.append((defence, outcome))
            print(f"{outcome:9}{defence.name}", flush=True)
            if outcome in ("survived", "broken") or only:
                print(said, flush=True)
    alive = [defence.name for defence, outcome in results if outcome not in ("died", "hung")]
    print(f"{len(results)} defences switched off, {len(results) - len(alive)} noticed")
    if only is None and not alive:
        write_table(render_table(results))
        print(f"{DOCUMENT.relative_to(CHECKOUT)}: table written")
    return 1 if alive else 0


if __name__ == "__main__":
    sys.exit(main())
