"""One run of wgctl on the registry: cache, stores, and the order in which things are made to last.

Reading: load the verified cache, add what the stores have. Writing: sign, journal, cache, publish.
While the stores show a log of our key that this home did not write, somebody else has the key, or this
home is an old copy of itself: then nothing is signed but revokes, which wait for nothing.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import msgspec

from meshd.errors import (
    ConfigError,
    MeshError,
    RegistryError,
    StoreError,
)
from meshd.registry.cache import RegistryCache
from meshd.registry.envelope import Envelope, payload_hash
from meshd.registry.layout import (
    HOST_PREFIX,
    ROOT_PREFIX,
    LogKeyName,
    RootKeyName,
    log_prefix,
    mesh_prefix,
    parse_object_key,
)
from meshd.registry.ledger import Ledger
from meshd.registry.logs import MAX_SHOWN_CLAIMS
from meshd.registry.root import root_objects
from meshd.registry.signer import LogSigner
from meshd.registry.statement import Grant
from meshd.registry.sync import publish
from meshd.store.base import ObjectStore
from meshd.store.credentials import S3Credentials, read_credentials
from meshd.store.select import open_store
from wgctl.admin.home import AdminHome, open_home
from wgctl.admin.host_channel import HostChannel, open_host_channel
from wgctl.admin.journal import Journal, read_journal, write_journal
from wgctl.admin.listed_store import listed, poll_all
from wgctl.admin.own_log import doubt_of_own_log
from wgctl.admin.proposals import read_proposals, write_proposals
from wgctl.admin.store_contents import describe_flaws, find_missing
from wgctl.options import Options
from wgctl.output import note


class ReadRegistry(msgspec.Struct, frozen=True, kw_only=True):
    """``current``: at least one store was completely looked at just now."""

    ledger: Ledger
    current: bool


class AdminSession(msgspec.Struct):
    """An admin home that is locked, with its registry. ``reached``: stores whose poll was complete.

    ``proposed``: what this home has signed of roots that are not complete yet. ``lock``: whoever holds it
    has the ledger. ``hosts``: the way to the hosts themselves, if there is one; ``heard``: they answered.
    ``offline``: nobody is asked; what is signed stays in the home until a later command publishes it.
    """

    home: AdminHome
    cache: RegistryCache
    ledger: Ledger
    journal: Journal
    stores: list[ObjectStore]
    failures: list[str]
    proposed: list[tuple[str, bytes]]
    lock: threading.Lock
    hosts: HostChannel | None = None
    reached: list[ObjectStore] = msgspec.field(default_factory=list)
    heard: bool = False
    offline: bool = False

    @property
    def store_urls(self) -> tuple[str, ...]:
        """Those that mesh.toml names, then those of the signed root; each once."""
        return store_urls(self.home, self.ledger)

    @property
    def alone(self) -> bool:
        """True when nobody is asked: this home signs on what it holds, which is all it can know."""
        return self.offline or self.home.mesh.air_gapped

    def sync(self, *, now: float) -> None:
        """Add what every store and host has to the ledger; what we have and a store lacks is published."""
        prefix = mesh_prefix(self.ledger.mesh_id)
        folders = [ROOT_PREFIX, *map(log_prefix, sorted(self.ledger.chain.current.logs)), HOST_PREFIX]
        with (
            listed(self.stores, [prefix + folder for folder in folders]) as stores,
            ThreadPoolExecutor(1, thread_name_prefix="hosts") as pool,
        ):
            asking = pool.submit(self.hosts.ask) if self.hosts is not None else None
            looked_at: list[ObjectStore] = []
            outcomes = poll_all(stores, self.ledger, self.lock, now=now)
            for store, listing, outcome in zip(self.stores, stores, outcomes, strict=True):
                if outcome.complete:
                    self.reached.append(store)
                    looked_at.append(listing)
                self.failures += describe_flaws(store, outcome)
            self.heard = asking is not None and asking.result() and self._give_hosts()
            self.cache.save(self.ledger)
            self._forget_decided()
            self._fill(looked_at, now)

    def _give_hosts(self) -> bool:
        return self.hosts is not None and self.hosts.give()

    def _fill(self, stores: Sequence[ObjectStore], now: float) -> None:
        """What we have and a store lacks, at all stores at once: they may be on several continents."""
        objects = [*self.ledger.objects(), *self.proposed]
        members = self.ledger.membership(now).hosts.keys()

        def fill(store: ObjectStore) -> str:
            try:
                publish(
                    store,
                    find_missing(store, self.ledger.mesh_id, objects, members),
                    mesh_id=self.ledger.mesh_id,
                )
            except StoreError as error:
                return str(error)
            return ""

        if stores:
            with ThreadPoolExecutor(len(stores)) as pool:
                self.failures += filter(None, pool.map(fill, stores))

    def require_store(self) -> None:
        """StoreError unless a store or a host answered: what is signed on an old view may collide.

        Roots and statements decide, whatever else lies in a store.
        """
        if not self.reached and not self.heard and not self.alone:
            raise StoreError(f"nothing was changed, as no store answers: {'; '.join(self.failures)}")

    def check_own_log(self) -> None:
        """RegistryError unless our log is exactly what this home has signed; it names the way out."""
        doubt = doubt_of_own_log(self.ledger, self.home.mesh.admin_kid, self.journal)
        if doubt:
            raise RegistryError(f"refused to sign: {doubt}")

    def warn_of_own_log(self) -> None:
        """Report what ``check_own_log`` refuses to sign on, where nothing is signed in that log."""
        if doubt := doubt_of_own_log(self.ledger, self.home.mesh.admin_kid, self.journal):
            self.failures.append(doubt)

    def revoke(self, hid: str, why: str, *, now: float) -> int:
        """Sign and publish the end of a membership; the statement's number. Errors as ``commit``.

        Where our log is doubtful the revoke goes on behind what this home signed last: it counts at once,
        a cut there keeps it, and a thief of the key keeps nobody from it.
        """
        self._require_admin_key()
        doubt = doubt_of_own_log(self.ledger, self.home.mesh.admin_kid, self.journal)
        after = (self.journal.seq, self.journal.hash) if doubt else None
        signer = LogSigner(self.ledger, self.home.read_admin_key())
        seq = self.commit(signer.revoke(hid, why, now=now, after=after))
        if doubt:
            # By what is signed now: the cut that it names keeps the revoke.
            doubt = doubt_of_own_log(self.ledger, self.home.mesh.admin_kid, self.journal)
            self.failures.append(
                f"revoked by statement {seq}, behind what this home signed last, although {doubt}"
            )
        return seq

    def _require_admin_key(self) -> None:
        self.require_store()
        if not self.home.mesh.admin_kid:
            self.home.read_admin_key()  # says that there is none

    def signer(self) -> LogSigner:
        """What signs our log, after all that speaks against signing was looked at."""
        self._require_admin_key()
        self.check_own_log()
        for seq, who in self.ledger.reduction().logs[self.home.mesh.admin_kid].unseen[:MAX_SHOWN_CLAIMS]:
            # A third party's word: it may be a lie that is to keep us from signing, so it stops nothing.
            self.failures.append(
                f"admin {who[:8]} claims to have seen statement {seq} of this admin key, which "
                f"is not here: if this home may be an old backup, find that statement before you sign more"
            )
        return LogSigner(self.ledger, self.home.read_admin_key())

    def commit(
        self,
        statement: tuple[str, bytes],
        more: Sequence[tuple[str, bytes]] = (),
        on_kept: Callable[[], None] = lambda: None,
    ) -> int:
        """Make a signed statement last here, then publish it with what belongs to it; its number.

        ``on_kept``: called in between, for what may go on while it is published.
        RegistryError, and nothing has happened, when our own ledger refuses an object. StoreError
        after it was signed says so: it is then published by the next command.
        """
        objects = [statement, *more]
        for key, body in objects:
            admission = self.ledger.offer(key, body)
            if admission.outcome not in ("new", "known"):
                raise RegistryError(f"{key}: {admission.reason}")
        name = parse_object_key(statement[0])
        assert isinstance(name, LogKeyName)
        self.journal = write_journal(self.home.directory, seq=name.seq, hash_hex=name.hash, objects=objects)
        self.cache.save(self.ledger)
        on_kept()
        self.publish(objects, what=f"signed as statement {name.seq}")
        return name.seq

    def commit_root(self, envelope: Envelope) -> bool:
        """Make what we signed of a root last here, then publish it; whether the root is now in force.

        Errors as ``commit``. What is not complete yet stays in a file of its own, since nobody else
        can be relied on to keep it.
        """
        pieces = root_objects(envelope)
        for key, body in pieces:
            admission = self.ledger.offer(key, body)
            if admission.outcome == "refused":
                raise RegistryError(f"{key}: {admission.reason}")
        self.proposed = [*self.proposed, *pieces]
        write_proposals(self.home.directory, self.proposed)
        keep_in_ledger(self.ledger, pieces)
        self.cache.save(self.ledger)
        hash_hex = payload_hash(envelope.payload)
        in_force = any(root.hash == hash_hex for root in self.ledger.chain.roots)
        self._forget_decided()
        self.publish(pieces, what="the signed root is")
        return in_force

    def keep_proposals(self) -> None:
        """Keep and publish roots that another home proposed, with their good signatures, as if ours."""
        pieces = [item for each in self.ledger.proposals() for item in root_objects(each.envelope)]
        self.proposed = list(dict([*self.proposed, *pieces]).items())
        write_proposals(self.home.directory, self.proposed)
        keep_in_ledger(self.ledger, pieces)

    def _forget_decided(self) -> None:
        """Drop our pieces of roots that are in force, which the cache keeps, or can never be."""
        version = self.ledger.chain.version
        open_pieces = [
            item for item in self.proposed if getattr(parse_object_key(item[0]), "version", 0) > version
        ]
        if open_pieces != self.proposed:
            write_proposals(self.home.directory, open_pieces)
            self.proposed = open_pieces

    def publish(self, objects: Sequence[tuple[str, bytes]], *, what: str) -> None:
        """Publish at every store that answered, and tell the hosts; StoreError when nobody takes it."""
        if not objects or self.alone:
            return
        with ThreadPoolExecutor(1 + len(self.reached)) as pool:
            telling = pool.submit(self.hosts.offer, objects) if self.hosts is not None else None
            answers = list(pool.map(partial(self._publish_at, objects), self.reached))
            told = telling.result() if telling is not None else 0
        failures = [answer for answer in answers if answer]
        self.failures += failures
        if len(failures) < len(self.reached):
            return
        if not told:
            raise StoreError(
                f"{what}, kept in {self.home.directory}, but NOT published: {'; '.join(self.failures)}; "
                f"the next wgctl command publishes it, for instance: wgctl list"
            )
        self.failures.append(
            f"{what}, and {told} hosts have it, but it is in no store yet: "
            f"the next wgctl command that reaches one publishes it, for instance: wgctl list"
        )

    def _publish_at(self, objects: Sequence[tuple[str, bytes]], store: ObjectStore) -> str:
        """Why it could not be published there; empty when it was."""
        try:
            publish(store, objects, mesh_id=self.ledger.mesh_id)
        except StoreError as error:
            return str(error)
        return ""

    def report_failures(self) -> None:
        """Stores that did not take part, on standard error."""
        for failure in dict.fromkeys(self.failures):
            note(f"wgctl: warning: {failure}")


@contextlib.contextmanager
def open_session(options: Options, *, offline: bool = False) -> Iterator[AdminSession]:
    """Lock the admin home and load its verified registry; nothing is asked of any store yet."""
    home = open_home(options.home, options.passphrase)
    with home.locked(), contextlib.ExitStack() as stack:
        journal = read_journal(home.directory)
        cache = home.cache
        ledger = cache.load()
        proposed = read_proposals(home.directory)
        keep_in_ledger(ledger, proposed)
        for key, body in (*journal.objects, *proposed):
            ledger.offer(key, body)
        alone = offline or home.mesh.air_gapped
        stores, failures = open_stores(() if alone else store_urls(home, ledger), home.credentials_path)
        for store in stores:
            stack.callback(store.close)
        lock = threading.Lock()
        hosts = None if alone else open_host_channel(options, ledger, lock, now=time.time())
        if hosts is not None:
            stack.callback(hosts.close)
        yield AdminSession(
            home, cache, ledger, journal, stores, failures, proposed, lock, hosts, offline=offline
        )


def keep_in_ledger(ledger: Ledger, proposed: Sequence[tuple[str, bytes]]) -> None:
    """What this home signed or was brought by hand makes room for nothing that a store shows."""
    for key, _ in proposed:
        name = parse_object_key(key)
        assert isinstance(name, RootKeyName)
        ledger.keep_proposal(name.version, name.hash)


def store_urls(home: AdminHome, ledger: Ledger) -> tuple[str, ...]:
    """Where this administrator reads and publishes."""
    return tuple(dict.fromkeys((*home.mesh.stores, *ledger.chain.root.stores)))


def open_stores(urls: Sequence[str], credentials_path: Path | None) -> tuple[list[ObjectStore], list[str]]:
    """Each URL once; a store that cannot be opened is a failure text, not an end."""
    return open_each(urls, read_credentials(credentials_path) if credentials_path is not None else None)


def open_each(urls: Sequence[str], credentials: S3Credentials | None) -> tuple[list[ObjectStore], list[str]]:
    """As ``open_stores``, with credentials that were read before."""
    stores: list[ObjectStore] = []
    failures: list[str] = []
    for url in dict.fromkeys(urls):
        try:
            stores.append(open_store(url, credentials))
        except MeshError as error:
            failures.append(str(error))
    return stores, failures


def read_registry(options: Options, *, now: float, offline: bool) -> ReadRegistry:
    """The registry as this admin home knows it, or the one that this host's meshd has verified."""
    if not options.has_home:
        return ReadRegistry(ledger=_read_host_cache(options), current=False)
    with open_session(options) as session:
        if not offline:
            session.sync(now=now)
            session.report_failures()
        return ReadRegistry(ledger=session.ledger, current=bool(session.reached))


def adopt_log(options: Options, *, now: float) -> str:
    """Take the log that the stores show as our own; says what was adopted. For restored backups."""
    with open_session(options) as session:
        session.sync(now=now)
        session.require_store()
        kid = session.home.mesh.admin_kid
        log = session.ledger.reduction().logs.get(kid)
        if log is None or log.forked_at is not None:
            raise RegistryError(
                f"admin key {kid[:8]}: its log is forked or not in the root; a new root must retire it"
            )
        head = log.head
        seq, hash_hex = (head.statement.seq, head.hash) if head else (0, "")
        write_journal(session.home.directory, seq=seq, hash_hex=hash_hex, objects=())
        return f"this home goes on after statement {seq} of admin key {kid[:8]}"


def find_hids(ledger: Ledger, text: str) -> set[str]:
    """Hosts that a name, or at least four digits of a hid, can mean; revoked ones included."""
    grants = [entry.body for entry in ledger.entries() if isinstance(entry.body, Grant)]
    by_name = {grant.hid for grant in grants if grant.name == text}
    if by_name or len(text) < 4:
        return by_name
    return {grant.hid for grant in grants if grant.hid.startswith(text.lower())}


def _read_host_cache(options: Options) -> Ledger:
    try:
        directory = options.read_settings().state_dir / "registry"
    except ConfigError:
        open_home(options.home)  # says that there is no home, which is what was asked for
        raise
    cache = RegistryCache(directory)
    if not cache.exists():
        raise ConfigError(f"{options.home}: no admin home, and {directory}: no registry of a meshd either")
    return cache.load()
