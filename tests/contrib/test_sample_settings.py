"""The sample settings file shows every key, and with its default."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec

from meshd.settings import parse_settings
from meshd.settings.tables import SettingsFile

SAMPLE = Path(__file__).parents[2] / "contrib" / "meshd.toml.sample"
LINUX_DIRECTORIES = {"state_dir": "/var/lib/meshd", "run_dir": "/run/meshd"}


def sample_document(*, with_commented_keys: bool) -> dict[str, Any]:
    text = SAMPLE.read_text()
    if with_commented_keys:
        text = re.sub(r"^#(?=\w+ = )", "", text, flags=re.MULTILINE)
    return tomllib.loads(text)


def test_the_sample_as_shipped_means_the_defaults() -> None:
    shipped = parse_settings(sample_document(with_commented_keys=False), source="sample")
    assert shipped == parse_settings({}, source="empty")


def test_the_sample_shows_every_key_and_no_other() -> None:
    every_default = msgspec.json.decode(msgspec.json.encode(SettingsFile()))
    assert sample_document(with_commented_keys=True) == every_default | LINUX_DIRECTORIES
