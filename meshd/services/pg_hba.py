"""Who may connect to a PostgreSQL from the mesh: lines of pg_hba.conf, one for each network. Pure.

PostgreSQL says "t" to the reload of a pg_hba.conf that it does not use, and keeps the old one in force. So
here is also the question to the running server, whether it has read these very lines.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import Final

from meshd.errors import ConfigError
from meshd.services.view import PlacementView, ServiceView

TAKEN: Final = "pg_hba.conf is in force"
_PLACE: Final = re.compile(r"\{(mesh|members|service:[a-z0-9-]+)\}")
_KINDS: Final = ("local", "host", "hostssl", "hostnossl", "hostgssenc", "hostnogssenc")
_QUESTION: Final = r"""
WITH file AS (SELECT current_setting('hba_file') AS name),
lines AS (
  SELECT line, n FROM file, regexp_split_to_table(pg_read_file(name), E'\n') WITH ORDINALITY AS t(line, n)
  WHERE line !~ '^\s*(#|$)'),
bad AS (
  SELECT (array_agg('line ' || line_number || ': ' || error ORDER BY line_number))[1] AS said
  FROM pg_hba_file_rules WHERE error IS NOT NULL),
seen AS (
  SELECT encode(sha256(convert_to(string_agg(line, E'\n' ORDER BY n), 'UTF8')), 'hex') AS digest FROM lines)
SELECT CASE
  WHEN said IS NOT NULL THEN 'pg_hba.conf is not used: ' || said
  WHEN digest IS DISTINCT FROM '{digest}' THEN name || ' does not hold the lines that meshd rendered'
  WHEN pg_conf_load_time() < (pg_stat_file(name)).modification THEN name || ' is newer than the last reload'
  ELSE '{taken}' END
FROM file, bad, seen
"""


def access_lines(view: ServiceView, rules: Sequence[str], members: Iterable[PlacementView]) -> list[str]:
    """The rules, each with a place (``{mesh}``, ``{members}``, ``{service:NAME}``) once for each network.

    The order stays: the first line that fits decides. ConfigError for a rule that PostgreSQL would not read,
    or that asks nobody who they are.
    """
    own = [_network(each) for each in members]
    lines: list[str] = []
    for rule in rules:
        _look_at(rule)
        place = _PLACE.search(rule)
        if place is None:
            lines.append(" ".join(rule.split()))
            continue
        networks = _networks(view, place[1], own)
        lines += [
            " ".join(f"{rule[: place.start()]}{each}{rule[place.end() :]}".split()) for each in networks
        ]
    return list(dict.fromkeys(lines))


def access_sources(view: ServiceView, rules: Sequence[str]) -> list[str]:
    """What the lines speak of beside the members, as endpoints: whoever goes from the view loses access."""
    words = {place[1] for rule in rules if (place := _PLACE.search(rule)) is not None}
    found = [f"*/{host.name}@{host.address}" for host in view.hosts.values()] if "mesh" in words else []
    for word in sorted(words):
        service = view.services.get(word.removeprefix("service:"))
        if service is not None and word.startswith("service:"):
            found += [each.id for each in service.placements]
    return found


def in_force_question(lines: Sequence[str]) -> str:
    """SQL that answers ``TAKEN`` when the running server has read these very lines, else what is wrong."""
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    return " ".join(_QUESTION.replace("{digest}", digest).replace("{taken}", TAKEN).split())


def _look_at(rule: str) -> None:
    words = rule.replace('"', "").split()
    where = f"postgres.access: {rule[:80]!r}"
    if not rule.isprintable() or "#" in rule or rule.rstrip().endswith("\\"):
        raise ConfigError(f"{where}: one line of pg_hba.conf without a comment expected")
    if not words or words[0] not in _KINDS or len(words) < (4 if words[0] == "local" else 5):
        raise ConfigError(f"{where}: as 'host all all {{mesh}} scram-sha-256' expected")
    if "trust" in words[3:]:
        raise ConfigError(f"{where}: trust asks nobody who they are; scram-sha-256, cert or peer expected")
    unknown = [word for word in words if "{" in word and not _PLACE.fullmatch(word)]
    if unknown or len(_PLACE.findall(rule)) > 1:
        raise ConfigError(f"{where}: one of {{mesh}}, {{members}} or {{service:NAME}} expected, as a word")


def _networks(view: ServiceView, word: str, members: list[str]) -> list[str]:
    if word == "mesh":
        return list(view.mesh_networks())
    if word == "members":
        return members
    name = word.removeprefix("service:")
    service = view.services.get(name)
    if service is None:
        raise ConfigError(f"postgres.access: service {name!r} is not declared: wgctl service add {name}")
    return [_network(each) for each in service.placements]


def _network(place: PlacementView) -> str:
    return f"{place.address}/{128 if ':' in place.address else 32}"
