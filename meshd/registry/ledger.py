"""The union of everything that this machine has verified: the shell's one handle. No I/O.

Objects come in any order from anybody. What verifies is kept for good. What does not is refused with a
reason and changes nothing. What cannot be judged yet waits until the statement or root arrives that lets
it be judged (``meshd.registry.unjudged``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from meshd.errors import RegistryError
from meshd.model.condition import Condition
from meshd.model.host import Membership
from meshd.registry import log_room
from meshd.registry.admission import Admission as Admission
from meshd.registry.admission import PendingError, StaleError
from meshd.registry.attach import Attachments, attach_records
from meshd.registry.envelope import (
    MAX_ROOT_BYTES,
    Envelope,
    is_signature,
    parse_envelope,
    payload_hash,
    verify_signature,
)
from meshd.registry.layout import (
    HOST_PREFIX,
    LOG_PREFIX,
    ROOT_PREFIX,
    HostKeyName,
    LogKeyName,
    RootKeyName,
    host_key,
    log_key,
    parse_object_key,
)
from meshd.registry.log_room import LogRoom
from meshd.registry.record import CheckedRecord
from meshd.registry.record_index import Identity, RecordIndex
from meshd.registry.reducer import MemberReduction, reduce_members
from meshd.registry.root import (
    RootChain,
    parse_root_signature,
    root_objects,
)
from meshd.registry.root_assembly import RootAssembly
from meshd.registry.root_case import JudgedRoot, Proposal, RootCase
from meshd.registry.statement import Grant, LogEntry, parse_statement
from meshd.registry.unjudged import PendingObjects, Refusals, WalkQueue


class Ledger:
    """Verified objects of one mesh, and the membership that follows from them."""

    def __init__(self, chain: RootChain) -> None:
        self._chain = chain
        self._bodies: dict[str, bytes] = {}
        self._total_bytes = 0
        self._record_bytes = 0
        self._entries: dict[str, LogEntry] = {}
        self._room = LogRoom()
        self._queue = WalkQueue()
        self._walking: set[str] = set()
        self._records = RecordIndex(chain.mesh_id, self._identity_in_force)
        self._pending = PendingObjects()
        self._assembly = RootAssembly()
        self._refusals = Refusals()
        self._reduction: MemberReduction | None = None
        self._members_changed = True
        self._attachments = Attachments()
        self._state = object()
        self._membership: Membership | None = None
        self._room.begin_walks(chain.root, self._entries)
        self._keep_roots()

    @property
    def mesh_id(self) -> str:
        return self._chain.mesh_id

    @property
    def chain(self) -> RootChain:
        return self._chain

    @property
    def state(self) -> object:
        """The same object as long as nothing new was accepted: for whoever remembers what followed."""
        return self._state

    @property
    def generation(self) -> int:
        """Verified statements and root documents held."""
        return len(self._entries) + len(self._chain.roots)

    def offer(self, key: str, body: bytes, *, judged: JudgedRoot | None = None) -> Admission:
        """Judge one object; ``key`` is relative to ``v1/<mesh id>/``.

        Never raises, whatever the bytes are. Nothing changes unless the outcome is "new"
        ("pending" waits in bounded memory). No clock decides anything, whatever times are written in it.

        Args:
            judged: what came of ``root_case``, judged elsewhere while others used the ledger.
        """
        if self._bodies.get(key) == body:
            self.close_refusal(key)
            return Admission(outcome="known", key=key)
        try:
            is_new = self._admit(key, body, judged)
        except PendingError as pending:
            return Admission(outcome="pending", key=key, reason=str(pending))
        except StaleError as stale:
            return Admission(outcome="refused", key=key, reason=str(stale), genuine=True)
        except RegistryError as error:
            if self._refusals.note(key, str(error)):
                self._membership = None
            return Admission(outcome="refused", key=key, reason=str(error))
        self.close_refusal(key)
        if not is_new:
            return Admission(outcome="known", key=key)
        self._state = object()
        self._membership = None
        return Admission(outcome="new", key=key)

    def root_case(self, key: str, body: bytes) -> RootCase | None:
        """What ``offer`` would have to judge of a next root with this piece of one; None: nothing.

        Changes nothing and costs next to nothing. Never raises.
        """
        if not key.startswith(ROOT_PREFIX):
            return None
        try:
            name = parse_object_key(key)
            if not isinstance(name, RootKeyName) or name.version != self._chain.version + 1:
                return None
            piece = parse_root_signature(name.kid, body) if name.kid else _root_payload(name, body)
        except RegistryError:
            return None
        return self._assembly.case((name.version, name.hash), piece, self._chain)

    def objects(self) -> Iterator[tuple[str, bytes]]:
        """Every accepted object, byte for byte: roots, then statements as they came, then host records.

        Another ledger that takes them in this order has room for each as this one had.
        """
        for key in sorted(self._bodies, key=lambda key: not key.startswith(ROOT_PREFIX)):
            yield key, self._bodies[key]
        for hid in sorted(self._records.hids()):
            body = self.record_bytes(hid)
            if body is not None:
                yield host_key(hid), body

    def body(self, key: str) -> bytes | None:
        """The accepted bytes under a key."""
        if key.startswith(HOST_PREFIX):
            return self.record_bytes(key.removeprefix(HOST_PREFIX).removesuffix(".json"))
        return self._bodies.get(key)

    def record_bytes(self, hid: str) -> bytes | None:
        """The host record in force, as its host signed it; without an effective grant the newest."""
        held = self._records.best(hid)
        return held.body if held is not None else None

    def records(self) -> Iterator[CheckedRecord]:
        """The host records that ``objects`` gives, in order of hid."""
        for hid in sorted(self._records.hids()):
            held = self._records.best(hid)
            if held is not None:
                yield held.checked

    def can_judge(self, key: str) -> bool:
        """False when an object of this key would only wait for the root or grant that vouches for it.

        RegistryError for a key that no object has.
        """
        name = parse_object_key(key)
        if isinstance(name, LogKeyName):
            return self._chain.current.admin_key(name.kid) is not None
        if isinstance(name, HostKeyName):
            return self._records.knows(name.hid)
        return name.version <= self._chain.version + 1

    def is_refused(self, key: str) -> bool:
        """True while ``refusals`` names this key."""
        return key in self._refusals

    def holds_statement(self, hash_hex: str) -> bool:
        """True when this statement is verified and held, whether or not it counts."""
        return hash_hex in self._entries

    def heads(self) -> Mapping[str, tuple[int, str]]:
        """The newest (seq, hash) of each admin's unbroken log."""
        return {
            kid: (log.head.statement.seq, log.head.hash)
            for kid, log in self.reduction().logs.items()
            if log.head is not None
        }

    def wanted_by_cuts(self) -> Mapping[str, tuple[int, str]]:
        """By kid of a log that is cut, the (number, hash) of the statement that its walk lacks next."""
        return self._room.wanted()

    def own_log(self, kid: str) -> tuple[LogEntry, ...]:
        """The statements of one admin that count, in order of seq."""
        log = self.reduction().logs.get(kid)
        return log.chain if log is not None else ()

    def entries(self) -> tuple[LogEntry, ...]:
        """Every verified statement held: the chains in their order, then what stands in none, by log."""
        ordered = self.reduction().order.entries
        known = {entry.hash for entry in ordered}
        loose = [entry for entry in self._entries.values() if entry.hash not in known]
        loose.sort(key=lambda entry: (entry.statement.by, entry.statement.seq, entry.hash))
        return (*ordered, *loose)

    def proposals(self) -> tuple[Proposal, ...]:
        """Roots that wait for signatures. Nothing follows from them."""
        return self._assembly.proposals(self._chain)

    def keep_proposal(self, version: int, hash_hex: str) -> None:
        """Never forget this root while it could be the next one, however many others are proposed."""
        self._assembly.keep(version, hash_hex)

    def reduction(self) -> MemberReduction:
        """What the statements say, without host records."""
        if self._members_changed or self._reduction is None:
            self._reduction = reduce_members(self._chain, self._entries.values(), self._reduction)
            self._members_changed = False
            self._membership = None
        return self._reduction

    def membership(self, now: float) -> Membership:
        """The reduced registry at ``now`` (unix seconds). The same value until something changes."""
        reduction = self.reduction()
        if self._membership is None or not self._attachments.holds_at(now):
            self._membership = attach_records(
                reduction,
                self._records.records_under(reduction.effective),
                now=now,
                more_conditions=self.refusals(),
                memory=self._attachments,
            )
        return self._membership

    def refusals(self) -> tuple[Condition, ...]:
        """One condition for each key whose last body was refused; it closes when the key verifies."""
        return self._refusals.conditions()

    def close_refusal(self, key: str) -> None:
        """Forget that the body under a key was refused: it verifies now, or the object is gone."""
        if self._refusals.close(key):
            self._membership = None

    def _admit(self, key: str, body: bytes, judged: JudgedRoot | None) -> bool:
        name = parse_object_key(key)
        if isinstance(name, LogKeyName):
            return self._admit_statement(key, name, body)
        if isinstance(name, HostKeyName):
            return self._admit_record(key, name, body)
        return self._admit_root(name, body, judged)

    def _admit_statement(self, key: str, name: LogKeyName, body: bytes) -> bool:
        envelope = parse_envelope(body)
        if payload_hash(envelope.payload) != name.hash:
            raise RegistryError("statement: another payload than the key's hash says")
        entry = parse_statement(envelope, self.mesh_id)
        statement = entry.statement
        if (statement.by, statement.seq) != (name.kid, name.seq):
            raise RegistryError(f"statement: {statement.by} {statement.seq} seen, as the key says otherwise")
        public = self._chain.current.admin_key(name.kid)
        if public is None:
            self._pending.keep(key, body)
            raise PendingError(f"no admin key {name.kid} in root {self._chain.version}")
        _check_sole_signature(envelope, public, f"statement {name.seq} of {name.kid[:8]}")
        if entry.hash in self._entries:
            return False
        self._make_room(key, entry, body)
        self._total_bytes += len(body)
        self._bodies[key] = body
        self._entries[entry.hash] = entry
        self._members_changed = True
        if isinstance(entry.body, Grant) and entry.ranges is not None:
            self._records.learn_identity(entry.body.hid, (entry.body.gen, entry.ranges.identity))
            self._retry([host_key(entry.body.hid)])
        self._walk_on(name.kid)
        return True

    def _make_room(self, key: str, entry: LogEntry, body: bytes) -> None:
        try:
            self._room.take(entry, len(body), self._total_bytes, self._entries)
        except RegistryError as full:
            if not self._room.may_be_on_walk(entry):
                raise
            self._queue.put(key, body)
            raise PendingError(f"{full}: it waits for the walk to the cut") from None

    def _walk_on(self, kid: str) -> None:
        """Take in what waits for the walk to a cut, one after the other."""
        if kid in self._walking:
            return
        self._walking.add(kid)
        while (wanted := self._room.wanted().get(kid)) is not None:
            body = self._queue.take(log_key(kid, *wanted))
            if body is None:
                break
            self.offer(log_key(kid, *wanted), body)
        self._walking.discard(kid)

    def _admit_record(self, key: str, name: HostKeyName, body: bytes) -> bool:
        if self._record_bytes + len(body) > log_room.MAX_RECORD_BYTES:
            self._drop_records()
        try:
            more_bytes = self._records.admit(name.hid, body)
        except PendingError:
            self._pending.keep(key, body)
            raise
        self._record_bytes += more_bytes or 0
        return more_bytes is not None

    def _drop_records(self) -> None:
        """Full: what is not of a host that has a place goes, or a thief's hosts would keep others' out."""
        reduction = self.reduction()
        in_use = {hid: identity for hid in reduction.placed if (identity := self._identity_in_force(hid))}
        self._record_bytes -= self._records.drop_but(in_use)

    def _admit_root(self, name: RootKeyName, body: bytes, judged: JudgedRoot | None) -> bool:
        what = f"root {name.version} ({name.hash[:12]})"
        if name.version < self._chain.roots[0].root.version:
            raise StaleError(f"{what}: older than the oldest trusted root")
        if self._chain.holds(name.version, name.hash):
            self._check_known_root(name, body, what)
            return False
        if name.version <= self._chain.version:
            raise RegistryError(
                f"{what}: not the root {name.version} that is trusted "
                f"({self._chain.at(name.version).hash[:12]})"
            )
        root = name.version, name.hash
        if name.kid:
            self._assembly.add_signature(root, parse_root_signature(name.kid, body), self._chain, judged)
        else:
            self._assembly.add_payload(root, _root_payload(name, body), self._chain, judged)
        chain = self._assembly.advance(self._chain)
        if chain is self._chain:
            raise PendingError(f"{what}: waits for its signatures, its payload or the root before it")
        self._chain = chain
        self._room.begin_walks(chain.root, self._entries)
        self._members_changed = True
        self._keep_roots()
        self._retry(self._pending.keys_below(LOG_PREFIX))
        return True

    def _check_known_root(self, name: RootKeyName, body: bytes, what: str) -> None:
        """A piece of a trusted root: its payload unchanged, or a good signature of a further signer."""
        root = self._chain.at(name.version)
        if not name.kid:
            if body != root.envelope.payload:
                raise RegistryError(f"{what}: changed bytes")
            return
        signature = parse_root_signature(name.kid, body)
        previous = self._chain.at(name.version - 1)
        public = root.public_keys.get(name.kid) or previous.public_keys.get(name.kid)
        envelope = root.envelope
        if public is None or not is_signature(signature.sig, envelope.payload_type, envelope.payload, public):
            raise RegistryError(f"{what}: signature of {name.kid} does not verify")

    def _keep_roots(self) -> None:
        for envelope in self._chain.envelopes:
            for key, body in root_objects(envelope):
                if key not in self._bodies:
                    self._total_bytes += len(body)
                    self._bodies[key] = body

    def _retry(self, keys: Iterable[str]) -> None:
        for key, body in self._pending.take(keys):
            self.offer(key, body)

    def _identity_in_force(self, hid: str) -> Identity | None:
        found = self.reduction().effective.get(hid)
        return (found.grant.gen, found.ranges.identity) if found is not None else None


def _root_payload(name: RootKeyName, body: bytes) -> bytes:
    """The payload of that root, as its key says."""
    what = f"root {name.version} ({name.hash[:12]})"
    if len(body) > MAX_ROOT_BYTES:
        raise RegistryError(f"{what}: {len(body)} bytes seen, at most {MAX_ROOT_BYTES} expected")
    if payload_hash(body) != name.hash:
        raise RegistryError(f"{what}: another payload than the key's hash says")
    return body


def _check_sole_signature(envelope: Envelope, public: bytes, what: str) -> None:
    """One signature, by this key. Further ones would say nothing and make a second spelling."""
    if len(envelope.signatures) != 1 or not verify_signature(envelope, public):
        raise RegistryError(f"{what}: not signed by that admin's key alone")
