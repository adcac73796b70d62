"""Where a jail's tags are, and what they say: by what Bastille 1.4.4 left on a real FreeBSD 15.1."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from meshd.backend.bastille import ServiceTag, parse_tags, tags_path
from meshd.backend.parse_jails import parse_jls

TRANSCRIPT = Path(__file__).parents[1] / "fakebsd" / "transcripts" / "10-bastille-1.4.4.txt"
TEMPLATE = Path(__file__).parents[2] / "contrib" / "bastille" / "mesh-client"


def test_the_tags_of_real_jails_lie_beside_their_roots() -> None:
    text = TRANSCRIPT.read_text()
    answers = re.findall(r'^\| (\{"__version": "2", "jail-information".*\})$', text, re.MULTILINE)
    found = {str(tags_path(jail.path)) for answer in answers for jail in parse_jls(answer.encode())}
    assert found == {f"/usr/local/bastille/jails/{name}/tags" for name in ("web", "db")}


@pytest.mark.parametrize("path", ["/", "/jails/web", "root", ""])
def test_a_jail_that_is_not_bastilles_has_none(path: str) -> None:
    assert tags_path(path) is None


def test_a_tag_is_a_service_with_or_without_a_port_and_all_others_are_somebody_elses() -> None:
    text = "production\nsvc.db\nsvc.postgres.5432\nsvc.db\n, svc.web.80,svc.UP\nservice.x\nsvc.\nsvc.x.0\n"
    services, bad = parse_tags(text)
    assert services == (
        ServiceTag(service="db", port=None),
        ServiceTag(service="postgres", port=5432),
        ServiceTag(service="web", port=80),
    )
    assert bad == ("svc.UP", "svc.", "svc.x.0")


def test_the_template_asks_for_all_that_it_renders() -> None:
    words = [line.split() for line in (TEMPLATE / "Bastillefile").read_text().splitlines()]
    asked = {line[1].partition("=")[0] for line in words if line[:1] == ["ARG"]}
    rendered = [line[1] for line in words if line[:1] == ["RENDER"]]
    used = {
        name for path in rendered for name in re.findall(r"\$\{(\w+)\}", (TEMPLATE / path[1:]).read_text())
    }
    assert asked == used == {"MESH_DNS"} and ["CP", "etc", "/"] in words
