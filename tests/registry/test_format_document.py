"""docs/registry-format.md says what the code does: limits, field names, kinds and payload types."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from meshd.registry import bundle, document, envelope, export, key_request, record, statement

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "registry-format.md").read_text()
LIMITS = re.findall(r"^\| ([^|]+) \| (\d+) \| `([\w.]+)\.(\w+)` \|$", TEXT, re.MULTILINE)


@pytest.mark.parametrize(("what", "value", "module", "constant"), LIMITS, ids=[limit[3] for limit in LIMITS])
def test_a_limit_of_the_document_is_that_of_the_code(
    what: str, value: str, module: str, constant: str
) -> None:
    assert getattr(importlib.import_module(f"meshd.{module}"), constant) == int(value), what


def test_every_limit_of_the_formats_own_modules_is_in_the_document() -> None:
    named = {constant for _, _, _, constant in LIMITS}
    for module in (envelope, document, statement, record, bundle):
        own = {name for name in vars(module) if name.startswith("MAX_")}
        assert own - {"MAX_TOTAL_BYTES"} <= named, module.__name__


def section(number: int) -> str:
    return TEXT.partition(f"\n## {number}. ")[2].partition("\n## ")[0]


def fields_in(text: str) -> set[str]:
    """Names in the first column of the section's tables."""
    cells = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", text, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}


def names_of(kind: Any) -> set[str]:
    return {field.encode_name for field in msgspec.structs.fields(kind)}


def test_the_tables_have_exactly_the_fields_of_the_payloads() -> None:
    kinds = set(statement._KINDS)
    assert fields_in(section(6)) == names_of(document.Root)
    expected = names_of(statement.Statement) | names_of(statement.Grant) | kinds | {"type"}
    assert fields_in(section(7)) == expected
    assert fields_in(section(9)) == names_of(record.HostRecord)
    by_hand = (bundle._Request, bundle.JoinBundle, key_request._Request, export.RegistryExport)
    assert fields_in(section(10)) == set().union(*map(names_of, by_hand))
    for kind, struct in statement._KINDS.items():
        [row] = re.findall(rf"^\| `{kind}` \| ([^|]*) \|", section(7), re.MULTILINE)
        assert set(re.findall(r"`(\w+)`", row)) == names_of(struct)
    for inner in (document.RootKey, document.RetiredKey, document.Thresholds, document.Ranges):
        for name in names_of(inner):
            assert f"`{name}`" in section(6) or f"`{name} =" in section(6), name


def test_the_payload_types_and_formats_are_those_of_the_code() -> None:
    types = {value for name, value in vars(envelope).items() if name.endswith("_TYPE")}
    assert set(re.findall(r"application/vnd[\w.+-]+json", TEXT)) == types
    for text in (
        document.ROOT_FORMAT,
        bundle.REQUEST_FORMAT,
        bundle.BUNDLE_FORMAT,
        key_request.REQUEST_FORMAT,
        export.EXPORT_FORMAT,
    ):
        assert f"`{text}`" in TEXT


def test_the_vector_files_are_all_named() -> None:
    files = {path.name for path in (Path(__file__).resolve().parents[1] / "vectors").glob("*.json")}
    assert files == set(re.findall(r"^\| `(\w+\.json)` \|", section(12), re.MULTILINE))
