"""The JSON Schema of every document that --json prints, into docs/schemas: one file a format, and the index.

.venv/bin/python tools/schemas.py      writes docs/schemas anew; a test compares it with the code
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from wgctl.documents.published import DOCUMENTS, schema_of

TARGET: Final = Path(__file__).resolve().parents[1] / "docs" / "schemas"
INDEX: Final = "README.md"
BEGIN: Final = "<!-- the table below is written by make schemas -->"


def file_of(name: str) -> str:
    """``wgctl-list/1`` is in wgctl-list-1.json."""
    return name.replace("/", "-") + ".json"


def render_schemas() -> dict[str, str]:
    """By name of the file. The page for people keeps what stands above its table."""
    found = {file_of(name): json.dumps(schema_of(kind), indent=1) + "\n" for name, kind in DOCUMENTS.items()}
    head, _, _ = (TARGET / INDEX).read_text().partition(BEGIN)
    rows = [
        f"| [`{name}`]({file_of(name)}) | {_purpose(kind.__doc__ or '')} |"
        for name, kind in DOCUMENTS.items()
    ]
    return {**found, INDEX: "\n".join([head + BEGIN, "", "| format | what |", "|---|---|", *rows, ""])}


def _purpose(text: str) -> str:
    """The first sentence of a type's description, for Markdown."""
    first = " ".join(text.split("\n\n")[0].split()).replace("``", "`")
    return first.partition(". ")[0].rstrip(".").replace("|", "\\|")


if __name__ == "__main__":
    rendered = render_schemas()
    for old in TARGET.glob("*.json"):
        if old.name not in rendered:
            old.unlink()
    for name, text in rendered.items():
        (TARGET / name).write_text(text)
