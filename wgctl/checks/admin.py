"""Checks of an admin home: keys, own log, stores, clock. Nothing is written, nothing published."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from meshd.errors import MeshError
from meshd.registry.sync import poll_to_the_end
from wgctl.admin.session import AdminSession, open_session
from wgctl.checks.base import Check, fail, ok, warn
from wgctl.checks.daemon import check_clock
from wgctl.options import Options

MAX_NAMED: Final = 8


def check_home(options: Options, *, now: float) -> Iterator[Check]:
    """Open the home as a command would, and say where that stops."""
    try:
        with open_session(options) as session:
            yield _check_keys(session)
            yield from _check_stores(session, now)
            yield from _check_log(session)
            newest_at = session.ledger.membership(now).newest_signed_at
            yield check_clock(newest_at, now)
    except MeshError as error:
        yield fail("admin home", str(error), "docs/wgctl.md, The admin home")


def _check_keys(session: AdminSession) -> Check:
    """Looked at, not opened: a check asks for no passphrase."""
    files = [session.home.key_file(purpose) for purpose in session.home.purposes]
    bare = [file.path.name for file in files if not file.is_sealed]
    text = f"{session.home.directory}: keys are private, the verified registry is readable"
    if bare:
        text += f"; not sealed by a passphrase: {', '.join(bare)} (wgctl admin passphrase)"
    return ok("admin home", text)


def _check_stores(session: AdminSession, now: float) -> Iterator[Check]:
    for failure in session.failures:
        yield fail("store", failure, "correct the URL in mesh.toml, or the credentials")
    for store in session.stores:
        outcome = poll_to_the_end(store, session.ledger, now=now)
        if outcome.complete:
            yield ok("store", f"{store.url} answers")
        else:
            advice = "without any store nothing can be signed; hosts go on as they are"
            yield fail("store", outcome.error, advice)
        for line in outcome.remaining:
            yield warn("store", line, "wgctl explain store_overfull")
        for key, reason in outcome.unusable[:MAX_NAMED]:
            yield warn("store", f"{store.url}: {key[:120]}: {reason}", "wgctl explain store_object_unusable")
    for condition in session.ledger.membership(now).conditions:
        yield warn("registry", f"{condition.code}: {condition.text}", f"wgctl explain {condition.code}")


def _check_log(session: AdminSession) -> Iterator[Check]:
    try:
        session.check_own_log()
        yield ok("own log", f"{session.journal.seq} statements, all of them signed here")
    except MeshError as error:
        yield fail("own log", str(error), "docs/wgctl.md, Copied key")
