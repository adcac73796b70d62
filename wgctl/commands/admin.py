"""``wgctl admin``: who may grant and revoke, within which pools, and until which statement."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from meshd.errors import ConfigError, RegistryError, UnsafePlanError
from meshd.model.network import IPNetwork
from meshd.terminal import echo
from wgctl.admin.key_addition import (
    finish_addition,
    key_fingerprint_option,
    print_request,
    read_key_request,
    require_compared_key,
)
from wgctl.admin.root_signing import Consent, report, root_options, sign_root
from wgctl.completing import ADMIN, FILE
from wgctl.files import MAX_BUNDLE_BYTES, check_writable, read_text
from wgctl.options import Options, pass_options
from wgctl.output import FAINT, NOTHING, Cell, build_table, json_option, note, say, show, write_json
from wgctl.parameters import NETWORK

if TYPE_CHECKING:
    from meshd.registry.ledger import Ledger
    from meshd.registry.signing import SigningKey
    from wgctl.admin.keyfile import KeyFile
    from wgctl.admin.passphrase import PassphraseSource


@click.group("admin", invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Administrators: list, add, retire, cut.

    A new administrator's machine makes its own key (`request`), whoever holds a root key names it in the
    next root (`add`), the new machine opens the bundle (`join`).
    """
    if ctx.invoked_subcommand is None:
        echo(ctx.get_help())


@command.command("list")
@click.option("--offline", is_flag=True, help="Ask no store: show what was verified before.")
@json_option
@pass_options
def list_admins(options: Options, offline: bool, as_json: bool) -> None:
    """Administrators, their pools and logs; retired ones too."""
    from wgctl.admin.session import read_registry
    from wgctl.views.root import build_key_rows

    ledger = read_registry(options, now=time.time(), offline=offline).ledger
    rows = [row for row in build_key_rows(ledger, ledger.chain.root) if "admin" in row.roles or row.retired]
    if as_json:
        from wgctl.documents.signing import AdminList

        document = AdminList(
            mesh_id=ledger.mesh_id,
            root_version=ledger.chain.version,
            threshold=ledger.chain.root.thresholds.admin,
            admins=tuple(rows),
        )
        write_json(document)
        return
    cells: list[list[Cell]] = [
        [
            (row.name, FAINT if row.retired else ""),
            row.kid[:8],
            (f"retired at statement {row.cut}", FAINT) if row.retired else "active",
            " ".join(row.pools) or NOTHING,
            str(row.statements),
            str(row.hosts),
        ]
        for row in rows
    ]
    headers = ["NAME", "KEY", "STATE", "POOLS", "STATEMENTS", "HOSTS"]
    show(build_table(headers, cells, right=["STATEMENTS", "HOSTS"]))
    threshold = ledger.chain.root.thresholds.admin
    if threshold > 1:
        say(f"{threshold} administrators must agree before a grant counts: wgctl endorse")


@command.command("request")
@click.option("--name", required=True, help="What the log will call you.")
@click.option(
    "--out", default="-", type=FILE, metavar="FILE|-", help="Where it goes. [default: standard output]"
)
@click.option("--no-passphrase", is_flag=True, help="Leave the key file unprotected.")
@pass_options
def request(options: Options, name: str, out: str, no_passphrase: bool) -> None:
    """Make this machine's own admin key and print the request to be named."""
    from wgctl.admin.home_setup import request_key

    print_request(*request_key(options, "admin", name, protect=not no_passphrase), name=name, out=out)


@command.command("add")
@click.argument("name")
@click.option("--key", required=True, type=FILE, metavar="FILE|-", help="What `wgctl admin request` printed.")
@click.option(
    "--pool",
    "pools",
    type=NETWORK,
    multiple=True,
    help="What this administrator may grant; may be given again.",
)
@click.option("--split", is_flag=True, help="Take the pools out of those of other administrators.")
@click.option(
    "--out", type=FILE, metavar="FILE|-", help="Where the admin bundle goes. [default: NAME.bundle]"
)
@key_fingerprint_option
@root_options
@pass_options
def add(
    options: Options,
    name: str,
    key: str,
    pools: tuple[IPNetwork, ...],
    split: bool,
    out: str | None,
    fingerprint: str | None,
    consent: Consent,
) -> None:
    """Name a further administrator in the next root, and print the bundle for the new machine."""
    from meshd.registry.export import EXPORT_FORMAT
    from meshd.registry.root_changes import add_key
    from wgctl.admin.session import open_session

    target = out or f"{name}.bundle"
    asked = read_key_request(key, name, "admin")
    require_compared_key(asked, fingerprint, consent)
    check_writable(target, "an export of a registry", {"format": EXPORT_FORMAT})
    now = time.time()
    with open_session(options) as session:
        session.sync(now=now)
        root = add_key(
            session.ledger,
            public=asked.public,
            kid=asked.kid,
            name=name,
            role="admin",
            pools=pools,
            split=split,
            now=now,
        )
        outcome = sign_root(session, root, consent)
        session.report_failures()
        finish_addition(session.ledger, outcome, consent, asked, target, now=now)


@command.command("pool")
@click.argument("name", metavar="NAME|KEY", type=ADMIN)
@click.option("--add", "added", type=NETWORK, multiple=True, help="May be given again.")
@click.option("--remove", "removed", type=NETWORK, multiple=True, help="May be given again.")
@click.option("--split", is_flag=True, help="Take what is added out of the pools of others.")
@root_options
@pass_options
def pool(
    options: Options,
    name: str,
    added: tuple[IPNetwork, ...],
    removed: tuple[IPNetwork, ...],
    split: bool,
    consent: Consent,
) -> None:
    """Change what an administrator may grant. Hosts keep what they have."""
    from meshd.registry.root_changes import change_pools, find_key
    from wgctl.admin.session import open_session

    if not added and not removed:
        raise click.UsageError("--add or --remove is needed")
    now = time.time()
    with open_session(options) as session:
        session.sync(now=now)
        chain = session.ledger.chain
        kid = find_key(chain.root, name)
        root = change_pools(session.ledger, kid, add=added, remove=removed, split=split, now=now)
        outcome = sign_root(session, root, consent)
        session.report_failures()
    report(outcome, consent)


@command.command("join")
@click.argument("bundle", metavar="BUNDLE|-", type=FILE)
@click.option("--fingerprint", help="Of its root, as the other administrator reads it out. [default: ask]")
@click.option("--store", "stores", multiple=True, metavar="URL", help="Instead of those that the root names.")
@click.option(
    "--credentials",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="S3 access key and secret key as JSON, mode 0600.",
)
@click.option(
    "--air-gapped",
    is_flag=True,
    help="This machine never asks a store: wgctl export and import carry everything.",
)
@json_option
@pass_options
def join(
    options: Options,
    bundle: str,
    fingerprint: str | None,
    stores: tuple[str, ...],
    credentials: Path | None,
    air_gapped: bool,
    as_json: bool,
) -> None:
    """Open the bundle in the home that made the request, or in a new one without keys.

    A home without keys reads, exports and imports, and publishes what others signed.
    """
    from meshd.registry.signing import render_fingerprint
    from wgctl.admin.home_setup import join_home

    text = read_text(bundle, "an admin bundle", MAX_BUNDLE_BYTES)
    joined = join_home(
        options,
        text,
        fingerprint,
        source=bundle,
        credentials=credentials,
        air_gapped=air_gapped,
        stores=stores,
    )
    shown = render_fingerprint(joined.ledger.chain.fingerprint)
    root = joined.ledger.chain.root
    if joined.warning:
        note(f"wgctl: warning: {joined.warning}")
    if as_json:
        from wgctl.documents.signing import AdminJoined

        document = AdminJoined(
            mesh_id=root.mesh,
            mesh_name=root.mesh_name,
            roles=joined.roles,
            root_version=root.version,
            root_fingerprint=shown,
            home=str(options.home),
        )
        write_json(document)
        return
    echo(f"joined {root.mesh_name} as {' and '.join(joined.roles) or 'reader, without a key'}")
    echo(f"  root {root.version}      {shown}")
    echo(f"  home        {options.home}")


@command.command("retire")
@click.argument("name", metavar="NAME|KEY", type=ADMIN)
@click.option("--pools-to", type=ADMIN, metavar="NAME|KEY", help="The administrator who gets the pools.")
@root_options
@pass_options
def retire(options: Options, name: str, pools_to: str | None, consent: Consent) -> None:
    """End an administrator in good standing: everything signed so far counts, nothing later does."""
    from meshd.registry.root_changes import find_key, newest_cut, retire_admin
    from wgctl.admin.session import open_session

    now = time.time()
    with open_session(options) as session:
        session.sync(now=now)
        ledger = session.ledger
        kid = find_key(ledger.chain.root, name)
        _check_not_last(ledger, kid, consent)
        heir = find_key(ledger.chain.root, pools_to) if pools_to else None
        log = ledger.reduction().logs.get(kid)
        cut = newest_cut(log) if log is not None else (0, "")
        outcome = sign_root(session, retire_admin(ledger, kid, cut, now=now, heir=heir), consent)
        session.report_failures()
    report(outcome, consent)


@command.command("cut")
@click.argument("name", metavar="NAME|KEY", type=ADMIN)
@click.option(
    "--at",
    required=True,
    metavar="SEQ|STATEMENT",
    help="The last good statement, by number or first digits of its hash; 0 for none.",
)
@click.option("--pools-to", type=ADMIN, metavar="NAME|KEY", help="The administrator who gets the pools.")
@root_options
@pass_options
def cut(options: Options, name: str, at: str, pools_to: str | None, consent: Consent) -> None:
    """End a compromised administrator at the last good statement; what came later never was.

    Shows which hosts fall away and which come back before it asks.
    """
    from meshd.registry.root_changes import find_cut, find_key, retire_admin
    from wgctl.admin.session import open_session

    now = time.time()
    with open_session(options) as session:
        session.sync(now=now)
        ledger = session.ledger
        kid = find_key(ledger.chain.root, name, retired=True)
        if kid in ledger.chain.root.keys:
            _check_not_last(ledger, kid, consent)
        heir = find_key(ledger.chain.root, pools_to) if pools_to else None
        end = find_cut(ledger.entries(), kid, at)
        outcome = sign_root(session, retire_admin(ledger, kid, end, now=now, heir=heir), consent)
        session.report_failures()
    report(outcome, consent)


@command.command("passphrase")
@click.option(
    "--new-passphrase-file",
    "new_source",
    metavar="FILE|fd:N",
    help="The new passphrase, in its first line. [default: ask on the terminal]",
)
@click.option("--no-passphrase", is_flag=True, help="Leave the key files unprotected from now on.")
@pass_options
def passphrase(options: Options, new_source: str | None, no_passphrase: bool) -> None:
    """Change the passphrase of this home's key files."""
    from wgctl.admin.home import open_any_home
    from wgctl.admin.keyfile import write_key_file
    from wgctl.admin.passphrase import choose_new

    if no_passphrase and new_source is not None:
        raise click.UsageError("--no-passphrase and --new-passphrase-file exclude each other")
    home = open_any_home(options.home, options.passphrase)
    with home.locked():
        files = [home.key_file(purpose) for purpose in home.purposes]
        if not files:
            raise ConfigError(f"{home.directory}: this home has no key")
        new = None if no_passphrase else choose_new(new_source)
        keys = [_open(file, home.passphrase, new) for file in files]
        for file, key in zip(files, keys, strict=True):
            write_key_file(file.path, file.purpose, key, new)
    names = " and ".join(file.path.name for file in files)
    echo(f"{names}: {'no longer sealed' if new is None else 'sealed by the new passphrase'}")


def _open(file: KeyFile, old: PassphraseSource, new: bytes | None) -> SigningKey:
    """With the old passphrase, or with the new one where an interrupted run has been before."""
    from wgctl.admin.keyfile import PassphraseError

    try:
        return file.open(old.get)
    except PassphraseError:
        if new is None:
            raise
    try:
        return file.open(lambda: new)
    except PassphraseError:
        raise PassphraseError(f"{file.path}: the present passphrase is wrong") from None


def _check_not_last(ledger: Ledger, kid: str, consent: Consent) -> None:
    root = ledger.chain.root
    if "admin" not in root.keys[kid].roles:
        name = root.keys[kid].name
        raise RegistryError(f"key {name}: it is no admin key: wgctl root remove-key takes it out")
    others = [other for other, key in root.keys.items() if other != kid and "admin" in key.roles]
    if not others and not consent.force:
        raise UnsafePlanError(
            f"{root.keys[kid].name} is the only administrator: nobody could grant or revoke any more; "
            "add another one first, or --force"
        )
