"""The page that says what wakes a turn names every reason that there is, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from meshd.control.wake import Wake

PAGE = Path(__file__).parents[2] / "docs" / "architecture.md"


def test_the_table_of_what_wakes_a_turn_has_all_reasons_and_no_other() -> None:
    _, _, rest = PAGE.read_text().partition("## What wakes a turn")
    section, _, _ = rest.partition("\n## ")
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == list(Wake)
