"""Sentences over 34 words, longest first: in docs, README and public docstrings.

    .venv/bin/python tools/sentences.py [LIMIT]

Nobody reads such a sentence once. Say first what, then why, in two. A list or a table counts by its lines.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 34


def main(limit: int) -> int:
    found = sorted(long_sentences(limit), reverse=True)
    for words, place, sentence in found:
        print(f"{words:3d} {place}: {sentence}")
    print(f"{len(found)} sentences over {limit} words")
    return 0


def long_sentences(limit: int) -> Iterator[tuple[int, str, str]]:
    for place, text in texts():
        for sentence in re.split(r"(?<=[.!?:;])\s+|\n\s*\n|\n\s*(?:[*|#-]|\d+\.)\s", text):
            words = len(re.findall(r"[A-Za-z0-9'’_./-]+", sentence))
            if words > limit:
                yield words, place, " ".join(sentence.split())


def texts() -> Iterator[tuple[str, str]]:
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")):
        text = re.sub(r"```.*?```|(?m:^(?: {4}|\t|\|).*$)", "\n\n", path.read_text(), flags=re.DOTALL)
        yield str(path.relative_to(ROOT)), text
    for top in ("meshd", "wgctl"):
        for path in (ROOT / top).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                    said = ast.get_docstring(node)
                    if said:
                        text = re.sub(r"(?m)^ {4}.*$", "\n", said)  # a table
                        yield f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}", text


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else LIMIT))
