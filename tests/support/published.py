"""What programs read is held against the schema that is published for it."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

SCHEMAS = Path(__file__).parents[2] / "docs" / "schemas"


def check_document(text: str | bytes) -> Any:
    """The document, which is as docs/schemas has it. AssertionError names where it is not."""
    document = json.loads(text)
    name = document.get("format", "none")
    file = SCHEMAS / f"{name.replace('/', '-')}.json"
    assert file.is_file(), f"format {name!r} seen, one of docs/schemas expected"
    errors = [f"{error.json_path}: {error.message}" for error in _validator(file).iter_errors(document)]
    assert not errors, f"{name}: {errors[:5]}"
    return document


@cache
def _validator(file: Path) -> Any:
    from jsonschema import Draft202012Validator  # a quarter of a second, which not every test needs

    return Draft202012Validator(json.loads(file.read_text()))
