"""What jls(8) prints, and ifconfig(8) and netstat(1) of a whole network stack, as values. Pure.

``jls --libxo json`` with named parameters prints every scalar as a string, the jid too; without
names it is a number, so both are taken. Whatever does not fit raises BackendError.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from meshd.backend.parse import Interface, TableRoute, parse_ifconfig
from meshd.errors import BackendError
from meshd.model.jail import Jail, JailRoute
from meshd.model.network import IPAddress, parse_address

PARAMETERS: Final = ("jid", "name", "vnet", "ip4.addr", "ip6.addr", "path")
"""What is asked for. A kernel without IPv6 has no ip6.addr, and jls(8) then fails as a whole."""

_BLOCK: Final = re.compile(rb"^(?=[^\s:]+: flags=)", re.MULTILINE)
_NAME: Final = re.compile(rb"[^\s:]+")
_MAX_JID: Final = 2**31
_UNKNOWN_PARAMETER: Final = re.compile(rb"unknown parameter: ([a-z0-9.]+)")


def parse_jls(output: bytes) -> tuple[Jail, ...]:
    """``jls --libxo json jid name vnet ip4.addr ip6.addr path``, in jls's order."""
    what = "jls"
    try:
        document = json.loads(output.decode("utf-8", "replace"))
        rows = document["jail-information"]["jail"]
        return tuple(_parse_jail(row, what) for row in rows)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BackendError(f"{what}: {type(error).__name__} seen, its JSON expected") from None


def _parse_jail(row: Mapping[str, Any], what: str) -> Jail:
    jid, name, path = str(row["jid"]), row["name"], row.get("path", "")
    if not (jid.isascii() and jid.isdigit() and len(jid) < 11 and int(jid) < _MAX_JID):
        raise BackendError(f"{what}: jid {jid[:40]!r} seen, a number expected")
    if not (isinstance(name, str) and name and isinstance(path, str)):
        raise BackendError(f"{what}: name {str(name)[:80]!r} of jail {jid} seen, a name and a path expected")
    return Jail(
        jid=int(jid),
        name=name,
        vnet=row["vnet"] == "new",
        addresses=frozenset(_addresses(row, f"{what}: jail {name[:80]}")),
        path=path,
    )


def _addresses(row: Mapping[str, Any], what: str) -> Iterator[IPAddress]:
    for key in ("ip4.addr", "ip6.addr"):
        texts = row.get(key, [])
        if not isinstance(texts, list):
            raise BackendError(f"{what}: {key} {str(texts)[:80]!r} seen, a list expected")
        for text in texts:
            try:
                yield parse_address(str(text))
            except ValueError as error:
                raise BackendError(f"{what}: {key}: {error}") from None


def find_unknown_parameter(stderr: bytes) -> str | None:
    """The parameter that this kernel's jails lack, if that is why jls(8) failed."""
    found = _UNKNOWN_PARAMETER.search(stderr)
    return found[1].decode("ascii") if found else None


def parse_interfaces(output: bytes) -> list[Interface]:
    """``ifconfig -a``, or ``ifconfig -j JAIL``: every interface of a stack."""
    blocks = _BLOCK.split(output)
    if blocks[0].strip():
        raise BackendError(f"ifconfig: {blocks[0][:80]!r} seen, 'NAME: flags=...' expected")
    found = []
    for block in blocks[1:]:
        name = _NAME.match(block)
        assert name is not None
        found.append(parse_ifconfig(block, name[0].decode("utf-8", "replace")))
    return found


def jail_route(route: TableRoute) -> JailRoute:
    """A line of a jail's own table; a gateway like ``link#7`` is none."""
    try:
        gateway = parse_address(route.gateway.partition("%")[0])
    except ValueError:
        gateway = None
    return JailRoute(destination=route.destination, gateway=gateway)
