"""What to ask a store for: by name, so that names which cannot be the next ones cost nothing.

Roots from the trusted version on, and only where a root key in force is said to have signed. Of each log what
follows its head, number by number; where there are too many statements of one number, a part of them in each
round. Records of hosts that a grant names; where names of others hide them, each by its own name in turn.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from meshd.errors import RegistryError
from meshd.registry.document import TrustedRoot
from meshd.registry.fetching import Round, Share
from meshd.registry.layout import (
    HOST_PREFIX,
    ROOT_PREFIX,
    LogKeyName,
    RootKeyName,
    host_key,
    log_key,
    log_prefix,
    parse_object_key,
)
from meshd.store.base import ObjectInfo

MAX_CROWD: Final = 64
"""Statements of one number that are looked at beside others; those beyond are a crowd."""
MAX_CROWD_NAMES: Final = 2_000
"""Of a crowd, in one round."""
MAX_JUMPS: Final = 32
"""Crowds that one listing of a log steps over."""
MAX_WALK_REQUESTS: Final = 2_000
"""Statements on the way to a cut that are asked for by hash in one round."""
ASKED_HOSTS: Final = 256
"""Records that are asked for by name in one round while the listing is flooded."""
LOGS_SHARE: Final = 0.75
"""Of what is left of a round after the roots; the rest is for the records."""

_PAGE_KEYS: Final = 1000


# --- roots


def follow_roots(run: Round) -> None:
    groups = _list_roots(run)
    while True:
        version = run.ledger.chain.version + 1
        if not _fetch_candidates(run, [group for name, group in groups.items() if name[0] == version]):
            run.note_remaining(f"more below {ROOT_PREFIX} than one round fetches")
        if run.ledger.chain.version < version:
            break
    _look_at_twins(run, [group for name, group in groups.items() if name[0] <= run.ledger.chain.version])


class _Group(msgspec.Struct):
    """What a store shows of one root: the payload, and signatures by the kid in their name.

    ``stem``: what the names of its pieces begin with, where a listing ended among them: any may be beyond.
    """

    payload: ObjectInfo | None = None
    signatures: dict[str, ObjectInfo] = msgspec.field(default_factory=dict)
    stem: str = ""

    def by(self, root: TrustedRoot) -> list[ObjectInfo]:
        """The signatures that bear the names of root keys of ``root``; where not all are listed, those that
        there could be."""
        kids = sorted(kid for kid in root.root.keys if "root" in root.roles(kid))
        if self.stem:
            return [_unlisted(f"{self.stem}.{kid}.sig") for kid in kids]
        return [self.signatures[kid] for kid in kids if kid in self.signatures]


def _list_roots(run: Round) -> dict[tuple[int, str], _Group]:
    version = run.ledger.chain.version
    infos, after = run.names(ROOT_PREFIX, f"{ROOT_PREFIX}{version:06d}-", run.limits.root_objects)
    ends = [after]
    # "." sorts after "-": behind everything of the trusted version, of which nothing more can come.
    ahead = f"{ROOT_PREFIX}{version:06d}."
    if after:
        more, after = run.names(ROOT_PREFIX, max(ahead, run.memory.root_after), run.limits.root_objects)
        infos += more
        ends.append(after)
    run.memory.root_after = ""
    if after:
        run.note_remaining(f"over {len(infos)} names below {ROOT_PREFIX}, the next round goes on")
        # Pieces of one root lie side by side: the last group may be cut, and is begun again.
        last = after.partition(".")[0]
        begun_before = more[0].key.partition(".")[0] == last if more else True
        run.memory.root_after = f"{last}/" if begun_before else last
    groups: dict[tuple[int, str], _Group] = {}
    for info in infos:
        name = _root_name(info.key)
        if name is not None:
            group = groups.setdefault((name.version, name.hash), _Group())
            if name.kid:
                group.signatures[name.kid] = info
            else:
                group.payload = info
    for stem in {end.partition(".")[0] for end in ends if end}:
        # Endless names beside a root must not hide its own pieces, so those are asked for by name.
        name = _root_name(f"{stem}.json")
        if name is not None:
            groups[name.version, name.hash] = _Group(payload=_unlisted(f"{stem}.json"), stem=stem)
    return groups


def _unlisted(key: str) -> ObjectInfo:
    return ObjectInfo(key=key, etag="", size_bytes=0)


def _fetch_candidates(run: Round, groups: Sequence[_Group]) -> bool:
    """Those that bear the name of a root key in force, then what the roots that were proposed so call for."""
    share = run.until(2)
    whole = True
    for group in sorted(groups, key=_payload_bytes):
        whole = run.fetch_root(group.payload, group.by(run.ledger.chain.current), share()) and whole
    for proposal in run.ledger.proposals():
        for group in groups:
            if group.payload is not None and _root_hash(group.payload) == proposal.root.hash:
                whole = run.fetch(group.by(proposal.root), run.left(8)) and whole
    return whole


def _look_at_twins(run: Round, groups: Sequence[_Group]) -> None:
    """Pieces of trusted roots that somebody changed, and other roots of their version that may be signed."""
    chain = run.ledger.chain
    judges = chain.current, chain.at(chain.version - 1)
    share = run.until(8)
    for group in sorted(groups, key=_payload_bytes):
        if group.payload is not None and run.ledger.body(group.payload.key) is not None:
            run.fetch([group.payload, *(info for judge in judges for info in group.by(judge))], run.left(8))
        elif group.payload is not None and any(group.by(judge) for judge in judges):
            run.fetch([group.payload], share())


def _payload_bytes(group: _Group) -> int:
    """The small ones first: whoever wants a root to be looked at late pays for each one before it."""
    return group.payload.size_bytes if group.payload is not None else 0


def _root_name(key: str) -> RootKeyName | None:
    try:
        name = parse_object_key(key)
    except RegistryError:
        return None
    return name if isinstance(name, RootKeyName) else None


def _root_hash(info: ObjectInfo) -> str:
    name = _root_name(info.key)
    return name.hash if name is not None else ""


# --- logs


def follow_logs(run: Round) -> None:
    heads = run.ledger.heads()
    kids = sorted(run.ledger.chain.current.logs)
    for index, kid in enumerate(kids):
        # Each log has its part, and what one leaves the next ones share; a quarter is for the records.
        share = run.until(len(kids) - index, LOGS_SHARE)
        head = heads.get(kid, (0, ""))
        shown = _follow_log(run, kid, 0 if run.thorough else head[0], share)
        if shown is None and head[0] and not run.thorough:
            # The store has lost or withholds what we hold: what does it show, then?
            shown = _follow_log(run, kid, 0, share)
        _walk_to_cut(run, kid)
        run.memory.shown[kid] = shown or (0, "")


def _walk_to_cut(run: Round, kid: str) -> None:
    """Back from a cut by hash, one statement after the other: no flood of names stands in between."""
    asked = 0
    while (wanted := run.ledger.wanted_by_cuts().get(kid)) is not None:
        asked += 1
        if asked > MAX_WALK_REQUESTS:
            run.note_remaining(f"the walk to the cut of {kid[:8]} is at statement {wanted[0]}")
            return
        if not run.ask(log_key(kid, *wanted)) or run.ledger.wanted_by_cuts().get(kid) == wanted:
            return


class _Listed(msgspec.Struct):
    """Statements that a store lists: ``infos`` in order of number; ``crowds``: numbers of which there are
    more; ``after``: the last name, when there are more names than were looked at; ``names``: how many were
    looked at, also those of no statement, as their number is for whoever writes there to choose."""

    infos: list[ObjectInfo]
    crowds: list[int]
    after: str
    names: int = 0


def _follow_log(run: Round, kid: str, number: int, share: Share) -> tuple[int, str] | None:
    """Take in what follows ``number`` -> the newest statement that is listed and held."""
    memory = run.memory
    # All that carries the head's number too: a fork shows there first, and whether the store has the head.
    listed = _list_log(run, kid, f"{log_prefix(kid)}{number:010d}" if number else "")
    infos = list(listed.infos)
    if listed.after:
        run.note_remaining(f"over {len(infos)} names below {log_prefix(kid)}, the next round goes on")
        more = _list_log(run, kid, max(listed.after, memory.log_after.get(kid, "")))
        memory.log_after[kid] = more.after
        infos += more.infos
    else:
        memory.log_after.pop(kid, None)
    whole = run.fetch([info for info in infos if run.ledger.body(info.key) is None], share())
    crowds = [crowd for crowd in listed.crowds if crowd > number]
    whole = _look_into_crowds(run, kid, crowds, share) and whole
    if not whole:
        run.note_remaining(f"more below {log_prefix(kid)} than one round fetches")
    return _newest_shown(run, kid, infos, listed.crowds)


def _list_log(run: Round, kid: str, start_after: str) -> _Listed:
    """Number by number; of a crowd only the first, and then on behind it."""
    prefix = log_prefix(kid)
    found = _Listed(infos=[], crowds=[], after=start_after)
    while len(found.crowds) <= MAX_JUMPS and found.names < run.limits.listed_keys:
        infos, found.after = run.names(prefix, found.after, min(run.limits.listed_keys, 40 * _PAGE_KEYS))
        crowd = _take_names(found, infos)
        if crowd is not None:
            found.crowds.append(crowd)
            # "." sorts after "-": behind everything of this number.
            found.after = f"{prefix}{crowd:010d}."
        elif not found.after:
            break
    return found


def _take_names(found: _Listed, infos: Iterable[ObjectInfo]) -> int | None:
    """Up to the first crowd -> its number."""
    count = last = 0
    for info in infos:
        found.names += 1
        name = _statement_name(info.key)
        if name is None:
            continue
        count = count + 1 if name.seq == last else 1
        last = name.seq
        if count > MAX_CROWD:
            return last
        found.infos.append(info)
    return None


def _look_into_crowds(run: Round, kid: str, crowds: Sequence[int], share: Share) -> bool:
    """A part of the crowd that comes first, which may hold the next statement, and of another in turn."""
    memory = run.memory
    for key in [key for key in memory.crowd_after if key[0] == kid and key[1] not in crowds]:
        del memory.crowd_after[key]
    whole = True
    for seq in dict.fromkeys([*crowds[:1], *crowds[run.memory.polls % max(len(crowds), 1) :][:1]]):
        prefix = f"{log_prefix(kid)}{seq:010d}-"
        infos, after = run.names(prefix, memory.crowd_after.get((kid, seq), ""), MAX_CROWD_NAMES)
        wanted = [info for info in infos if run.ledger.body(info.key) is None]
        if run.fetch([info for info in wanted if _statement_name(info.key)], share()):
            memory.crowd_after[kid, seq] = after
        whole = whole and not after
    return whole and len(crowds) < 3


def _newest_shown(
    run: Round, kid: str, infos: Sequence[ObjectInfo], crowds: Sequence[int]
) -> tuple[int, str] | None:
    for info in reversed(infos):
        name = _statement_name(info.key)
        if name is not None and run.ledger.body(info.key) is not None:
            return name.seq, name.hash
    head = run.ledger.heads().get(kid)
    if head is not None and head[0] in crowds:
        # It is somewhere in the crowd, as far as anybody can tell without looking at all of it.
        return head
    return None


def _statement_name(key: str) -> LogKeyName | None:
    try:
        name = parse_object_key(key)
    except RegistryError:
        return None
    return name if isinstance(name, LogKeyName) else None


# --- records


def follow_hosts(run: Round, now: float) -> None:
    """Only of hosts that have a place: whoever may write to the bucket may fill it with others."""
    granted = {host_key(hid) for hid in run.ledger.membership(now).hosts}
    limit = 4 * run.ledger.chain.root.max_hosts + _PAGE_KEYS
    infos, after = run.names(HOST_PREFIX, "", limit)
    listed = {info.key for info in infos}
    wanted = [info for info in infos if info.key in granted]
    if after:
        run.note_remaining(
            f"over {limit} names below {HOST_PREFIX}: {ASKED_HOSTS} hosts a round are asked for by name",
            authority=False,
        )
        wanted += _in_turn(run, sorted(granted - listed))
    else:
        run.memory.forget_hosts_but(listed)
    if not run.fetch(wanted, run.left(1)):
        run.note_remaining(f"more below {HOST_PREFIX} than one round fetches", authority=False)


def _in_turn(run: Round, keys: Sequence[str]) -> list[ObjectInfo]:
    """So many from where the last round ended, and round again: no name decides who comes first."""
    ahead = [key for key in keys if key > run.memory.host_turn]
    turn = [*ahead, *keys[: len(keys) - len(ahead)]][:ASKED_HOSTS]
    run.memory.host_turn = turn[-1] if turn else ""
    return [_unlisted(key) for key in turn]
