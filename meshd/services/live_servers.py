"""Servers of HAProxy's back ends, changed in the running process: no reload for a host more or less.

Over the stats socket of HAProxy 2.6 (Management Guide, "add server", "del server", "set server"). Whatever it
does not take, or does not show afterwards, is left to the reload that was there before: that one reads the
file, which says the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from meshd.services.plan import LiveServer

Ask = Callable[[str], str]
"""A line of commands to the socket -> its answer."""
ADDED: Final = "New server registered."
DELETED: Final = "Server deleted."
STATE_FORMAT: Final = "1"
_NAME, _SERVER, _ADDRESS, _ADMIN_STATE, _PORT = 1, 3, 4, 6, 18
"""Columns of ``show servers state``, format 1."""
_USED: Final = 6
"""Column of ``show servers conn``: connections in use."""

Wanted = Mapping[str, Mapping[str, LiveServer]]


@dataclass(frozen=True, slots=True)
class Seen:
    """A server as it runs. ``admin_state``: 0, unless somebody keeps it from working."""

    address: str
    port: int
    admin_state: int


def bring(wanted: Wanted, ask: Ask) -> str | None:
    """Bring the running servers of these back ends to what is wanted -> why only a reload can do it.

    OSError: the socket does not answer.
    """
    seen = read_state(ask("show servers state"))
    if problem := unfit(wanted, seen):
        return problem
    for backend, servers in wanted.items():
        for problem in filter(None, _change(backend, servers, seen[backend], ask)):
            return problem
    after = read_state(ask("show servers state"))
    wrong = (each for each in wanted if not _is_so(wanted[each], after.get(each, {})))
    return next((f"{each}: not as wanted" for each in wrong), None)


def unfit(wanted: Wanted, seen: Mapping[str, Mapping[str, Seen]]) -> str | None:
    """Why these cannot be changed as they run. One server of each stays as it is: what is added gets nothing
    before its own check has passed, and somebody has to work meanwhile."""
    for backend, servers in wanted.items():
        if backend not in seen:
            return f"{backend}: no such back end runs"
        kept = [name for name, server in servers.items() if _same(server, seen[backend].get(name))]
        if not kept:
            return f"{backend}: none of its servers stays as it is"
    return None


def read_state(text: str) -> dict[str, dict[str, Seen]]:
    """Back end to server to what it is; empty for a format that is not known."""
    version, _, rest = text.strip().partition("\n")
    found: dict[str, dict[str, Seen]] = {}
    if version.strip() != STATE_FORMAT:
        return found
    for line in rest.splitlines():
        words = line.split()
        if line.startswith("#") or len(words) <= _PORT:
            continue
        server = Seen(words[_ADDRESS], int(words[_PORT]), int(words[_ADMIN_STATE]))
        found.setdefault(words[_NAME], {})[words[_SERVER]] = server
    return found


def _change(
    backend: str, wanted: Mapping[str, LiveServer], seen: Mapping[str, Seen], ask: Ask
) -> Iterator[str | None]:
    """Who comes first, who goes last: at no time are there fewer than before or after."""
    for name, server in wanted.items():
        if name not in seen:
            yield _add(f"{backend}/{name}", server, ask)
        elif not _same(server, seen[name]):
            yield _move(f"{backend}/{name}", server, ask)
    for name in sorted(seen.keys() - wanted.keys()):
        yield _remove(backend, name, ask)


def _add(place: str, server: LiveServer, ask: Ask) -> str | None:
    """It is down until its own check has passed: a database that only reads gets no writes meanwhile.

    A server that is added has an agent that has never said "up", and that of meshd says percentages alone.
    """
    said = ask(f"add server {place} {server.at} {server.options}")
    if ADDED not in said:
        return f"{place}: {_short(said)}"
    ask(
        f"enable health {place}; enable agent {place}; set server {place} agent up; "
        f"enable server {place}; set server {place} health down"
    )
    return None


def _move(place: str, server: LiveServer, ask: Ask) -> str | None:
    said = ask(f"set server {place} addr {server.address} port {server.port}")
    said += ask(f"set server {place} agent-send {server.agent}")
    return None if "changed" in said or "no need" in said else f"{place}: {_short(said)}"


def _remove(backend: str, name: str, ask: Ask) -> str | None:
    """Nobody new first, and then only while nobody is there: ``maint`` would end what is under way, which a
    reload leaves to the old process."""
    place = f"{backend}/{name}"
    ask(f"set server {place} state drain")
    for line in ask(f"show servers conn {backend}").splitlines():
        words = line.split()
        if words[:1] == [place] and len(words) > _USED and words[_USED] != "0":
            return f"{place}: {words[_USED]} connections are in use"
    said = ask(f"set server {place} state maint; del server {place}")
    return None if DELETED in said else f"{place}: {_short(said)}"


def _same(server: LiveServer, seen: Seen | None) -> bool:
    return seen is not None and (seen.address, seen.port) == (server.address, server.port)


def _is_so(wanted: Mapping[str, LiveServer], seen: Mapping[str, Seen]) -> bool:
    return wanted.keys() == seen.keys() and all(_same(wanted[name], seen[name]) for name in wanted)


def _short(said: str) -> str:
    return " ".join(said.split())[:200] or "no word"
