"""Documents of --json are what docs/schemas says, and docs/schemas is what the programs write with."""

from __future__ import annotations

import json
import runpy
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from jsonschema import Draft202012Validator
from published import SCHEMAS, check_document

from meshd.observe.path_document import DrainDocument
from wgctl.documents.base import Document
from wgctl.documents.published import DOCUMENTS, schema_of

ROOT = Path(__file__).parents[2]


def test_the_published_schemas_are_those_of_the_code_that_is_there() -> None:
    rendered = runpy.run_path(str(ROOT / "tools" / "schemas.py"))["render_schemas"]()
    assert set(rendered) == {path.name for path in SCHEMAS.iterdir()}
    stale = [name for name, text in rendered.items() if (SCHEMAS / name).read_text() != text]
    assert not stale, f"{stale}: run make schemas, and read the difference"


def test_every_type_that_has_a_format_is_published() -> None:
    having = {kind for kind in subclasses(msgspec.Struct) if kind.__struct_config__.tag_field == "format"}
    assert having - {Document} == set(DOCUMENTS.values())


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_published_schema_is_a_schema_that_fixes_the_format(name: str) -> None:
    schema = schema_of(DOCUMENTS[name])
    Draft202012Validator.check_schema(schema)
    assert list(Draft202012Validator(schema).iter_errors({"format": name.replace("/", "/9")}))
    definition = schema["$defs"][schema["$ref"].rpartition("/")[2]]
    assert definition["properties"]["format"] == {"enum": [name]}
    assert definition["description"]


def test_a_member_that_goes_is_noticed() -> None:
    whole = msgspec.json.encode(DrainDocument(is_drained=True, pairs=("bohr and curie",)))
    assert check_document(whole)["pairs"] == ["bohr and curie"]
    poorer = {name: value for name, value in json.loads(whole).items() if name != "pairs"}
    with pytest.raises(AssertionError, match="'pairs' is a required property"):
        check_document(json.dumps(poorer))


def subclasses(kind: type[msgspec.Struct]) -> Iterator[type[msgspec.Struct]]:
    for each in kind.__subclasses__():
        yield each
        yield from subclasses(each)
