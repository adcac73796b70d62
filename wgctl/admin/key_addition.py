"""A further key on its way into a root: the request of its holder, the comparison, the bundle back."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from meshd.errors import ConfigError
from wgctl.admin.root_signing import Consent, SignedRoot, report
from wgctl.files import check_writable, read_text, write_text
from wgctl.output import note

if TYPE_CHECKING:
    from meshd.registry.key_request import KeyRequest
    from meshd.registry.ledger import Ledger

F = TypeVar("F", bound=Callable[..., Any])

MAX_REQUEST_BYTES: Final = 65536


def key_fingerprint_option(function: F) -> F:
    """--fingerprint of the key that is to be named."""
    option = click.option(
        "--fingerprint", help="Of the key, as its request showed it over there. Needed with --yes."
    )
    return option(function)


def read_key_request(source: str, name: str, role: str) -> KeyRequest:
    """The verified request. ConfigError when it asks for another name or role."""
    from meshd.registry.key_request import parse_key_request

    asked = parse_key_request(read_text(source, "a key request", MAX_REQUEST_BYTES))
    if (asked.name, asked.role) != (name, role):
        raise ConfigError(f"the request is of {asked.role} {asked.name!r}, {role} {name!r} expected")
    return asked


def require_compared_key(asked: KeyRequest, fingerprint: str | None, consent: Consent) -> None:
    """A key request proves that it is whole, not whose it is. The question before the root shows the
    fingerprint; without that question it must have been typed."""
    from meshd.host.comparison import require_compared

    if fingerprint is not None or consent.yes:
        verb = "admin" if asked.role == "admin" else "root"
        typed = [fingerprint] if fingerprint is not None else []
        shown_by = f"wgctl {verb} request --name {asked.name}"
        require_compared(f"key request of {asked.name}", asked.kid, typed, shown_by=shown_by, source="-")


def print_request(text: str, kid: str, *, name: str, out: str) -> None:
    from meshd.registry.envelope import KEY_REQUEST_TYPE
    from meshd.registry.signing import render_fingerprint

    check_writable(out, "a key request", {"payloadType": KEY_REQUEST_TYPE})
    write_text(out, text + "\n")
    note(f"key fingerprint of {name}: {render_fingerprint(kid)}")


def finish_addition(
    ledger: Ledger, outcome: SignedRoot, consent: Consent, asked: KeyRequest, target: str, *, now: float
) -> None:
    """Write the bundle once the root is in force, and say what to do with it."""
    from meshd.registry.export import build_export, render_export
    from meshd.registry.signing import render_fingerprint

    shown = render_fingerprint(asked.kid)
    if not outcome.in_force:
        lines = [f"once it is in force: wgctl export --out {target}, for {asked.name}"]
        report(outcome, consent, *lines, kid=asked.kid, bundle=None)
        return
    write_text(target, render_export(build_export(ledger, now=now)) + "\n")
    root = render_fingerprint(ledger.chain.fingerprint)
    report(
        outcome,
        consent,
        f"  fingerprint  {shown}   the new machine must have shown the same",
        f"  bundle       {target} (no secret in it)",
        f"  over there:  wgctl admin join {target} --fingerprint {root}",
        kid=asked.kid,
        bundle=target,
    )
