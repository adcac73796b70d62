"""``wgctl root``: the root documents, who signs them, and what to do when keys are lost.

Over 400 lines: ten small verbs that share one way of showing and signing a next root.
"""

from __future__ import annotations

import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from meshd.errors import ConfigError, RegistryError
from meshd.terminal import confirm, echo
from wgctl.admin.root_signing import (
    Consent,
    key_fingerprint_option,
    report,
    root_options,
    sign_proposal,
    sign_root,
)
from wgctl.commands.admin import (
    MAX_BUNDLE_BYTES,
    finish_addition,
    join,
    print_request,
    read_key_request,
    require_compared_key,
)
from wgctl.files import check_writable, read_text, write_text
from wgctl.options import Options, pass_options
from wgctl.output import (
    FAIR,
    NOTHING,
    Cell,
    build_table,
    json_option,
    note,
    render_time,
    say,
    show,
    write_json,
)

if TYPE_CHECKING:
    from meshd.registry.document import TrustedRoot
    from meshd.registry.ledger import Ledger
    from meshd.registry.root_assembly import Proposal
    from wgctl.views.root import ProposalRow

LIST_FORMAT: Final = "wgctl-root-list/1"
SHOW_FORMAT: Final = "wgctl-root-show/1"
RECOVER_FORMAT: Final = "wgctl-root-recover/1"
REFOUND_FORMAT: Final = "wgctl-root-refound/1"
TRUST_FORMAT: Final = "wgctl-root-trust/1"
MIN_HASH_DIGITS: Final = 4


@click.group("root", invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Root documents: list, sign, thresholds, recovery.

    A root names the administrators and their pools. The next one counts when enough root keys of the
    last one and of itself have signed it.
    """
    if ctx.invoked_subcommand is None:
        echo(ctx.get_help())


command.add_command(join)


@command.command("list")
@click.option("--offline", is_flag=True, help="Ask no store: show what was verified before.")
@json_option
@pass_options
def list_roots(options: Options, offline: bool, as_json: bool) -> None:
    """The chain of roots, and those that wait for signatures."""
    from meshd.registry.signing import render_fingerprint
    from wgctl.admin.session import read_registry
    from wgctl.views.root import build_proposal_rows, key_name
    from wgctl.views.root_changes import describe_changes

    ledger = read_registry(options, now=time.time(), offline=offline).ledger
    roots, proposals = ledger.chain.roots, build_proposal_rows(ledger)
    changes = [("the first one trusted here",)] + [
        tuple(describe_changes(old.root, new.root)) for old, new in pairwise(roots)
    ]
    signers = [
        [key_name(root.root, root.root, signature.kid) for signature in root.envelope.signatures]
        for root in roots
    ]
    if as_json:
        write_json(
            {
                "format": LIST_FORMAT,
                "mesh_id": ledger.mesh_id,
                "proposals": proposals,
                "roots": [
                    {
                        "version": root.root.version,
                        "hash": root.hash,
                        "created_at": root.root.created_at,
                        "fingerprint": render_fingerprint(root.hash),
                        "signed_by": by,
                        "changes": what,
                    }
                    for root, by, what in zip(roots, signers, changes, strict=True)
                ],
            }
        )
        return
    rows: list[list[Cell]] = [
        [
            str(root.root.version),
            render_fingerprint(root.hash),
            render_time(root.root.created_at),
            " ".join(by),
            "; ".join(text.strip() for text in what) or NOTHING,
        ]
        for root, by, what in zip(roots, signers, changes, strict=True)
    ]
    show(build_table(["ROOT", "FINGERPRINT", "MADE", "SIGNED BY", "WHAT CHANGED"], rows))
    _show_proposals(proposals)


@command.command("show")
@click.argument("which", metavar="[VERSION|HASH]", default="")
@click.option("--offline", is_flag=True, help="Ask no store: show what was verified before.")
@json_option
@pass_options
def show_root(options: Options, which: str, offline: bool, as_json: bool) -> None:
    """One root, the newest by default: keys, pools, thresholds, ranges."""
    import msgspec

    from meshd.registry.signing import render_fingerprint
    from wgctl.admin.session import read_registry
    from wgctl.views.root import build_key_rows

    ledger = read_registry(options, now=time.time(), offline=offline).ledger
    root = _find_root(ledger, which)
    keys = build_key_rows(ledger, root.root)
    if as_json:
        write_json(
            {
                "format": SHOW_FORMAT,
                "version": root.root.version,
                "hash": root.hash,
                "fingerprint": render_fingerprint(root.hash),
                "keys": keys,
                "document": msgspec.to_builtins(root.root),
            }
        )
        return
    document = root.root
    lines: list[list[Cell]] = [
        ["root", f"{document.version} of {document.mesh_name} ({document.mesh})"],
        ["fingerprint", render_fingerprint(root.hash)],
        ["made", render_time(document.created_at)],
        ["thresholds", f"{document.thresholds.root} root keys, {document.thresholds.admin} admins"],
        ["hosts", f"{' '.join(document.ranges.overlay)}, at most {document.max_hosts}"],
        ["jails", " ".join(document.ranges.jail) or NOTHING],
        ["stores", " ".join(document.stores) or NOTHING],
    ]
    show(build_table(["", ""], lines))
    cells: list[list[Cell]] = [
        [
            row.name,
            row.fingerprint,
            f"retired at {row.cut}" if row.retired else " ".join(row.roles),
            " ".join(row.pools) or NOTHING,
        ]
        for row in keys
    ]
    show(build_table(["KEY", "FINGERPRINT", "ROLES", "POOLS"], cells))


@command.command("sign")
@click.argument("which", metavar="VERSION|FINGERPRINT")
@root_options
@pass_options
def sign(options: Options, which: str, consent: Consent) -> None:
    """Add a signature to a root that somebody proposed.

    Shows what differs from the root in force. With --yes only its FINGERPRINT will do.
    """
    from dataclasses import replace

    from wgctl.admin.session import open_session

    now = time.time()
    with open_session(options) as session:
        session.sync(now=now)
        proposal = _find_proposal(session.ledger, which)
        outcome = sign_proposal(session, proposal, replace(consent, fingerprints=(which,)))
        session.report_failures()
    report(outcome, consent)


@command.command("threshold")
@click.option("--root", "roots", type=click.IntRange(min=1), help="How many root keys sign a root.")
@click.option("--admin", "admins", type=click.IntRange(min=1), help="How many administrators make a grant.")
@root_options
@pass_options
def threshold(options: Options, roots: int | None, admins: int | None, consent: Consent) -> None:
    """Change how many keys must agree.

    A higher number of administrators also judges the grants of the past: let the others endorse those
    first (wgctl endorse --all), or hosts fall away.
    """
    from meshd.registry.root_changes import change_thresholds
    from wgctl.admin.session import open_session

    if roots is None and admins is None:
        raise click.UsageError("--root or --admin is needed")
    now = time.time()
    with open_session(options) as session:
        session.sync(now=now)
        root = change_thresholds(session.ledger, root=roots, admin=admins, now=now)
        outcome = sign_root(session, root, consent)
        session.report_failures()
    report(outcome, consent)


@command.command("request")
@click.option("--name", required=True, help="What root documents will call the key.")
@click.option("--out", default="-", metavar="FILE|-", help="Where it goes. [default: standard output]")
@click.option("--no-passphrase", is_flag=True, help="Leave the key file unprotected.")
@pass_options
def request(options: Options, name: str, out: str, no_passphrase: bool) -> None:
    """Make a root key in this home and print the request to be named."""
    from wgctl.admin.home_setup import request_key

    print_request(*request_key(options, "root", name, protect=not no_passphrase), name=name, out=out)


@command.command("add-key")
@click.argument("name")
@click.option("--key", metavar="FILE|-", help="What `wgctl root request` printed.")
@click.option("--new-paper", is_flag=True, help="Make the key here and show it once, for paper.")
@click.option("--out", metavar="FILE|-", help="Where the holder's bundle goes. [default: NAME.bundle]")
@key_fingerprint_option
@root_options
@pass_options
def add_root_key(
    options: Options,
    name: str,
    key: str | None,
    new_paper: bool,
    out: str | None,
    fingerprint: str | None,
    consent: Consent,
) -> None:
    """Name a further root key in the next root."""
    from meshd.registry.key_request import KeyRequest
    from meshd.registry.root_changes import add_key
    from meshd.registry.signing import SigningKey, render_recovery_words
    from wgctl.admin.paper import render_paper_key
    from wgctl.admin.session import open_session

    if (key is None) != new_paper:
        raise click.UsageError("either --key or --new-paper is needed")
    paper = SigningKey.generate() if new_paper else None
    if paper is not None:
        asked = KeyRequest(name=name, role="root", public=paper.public)
    else:
        asked = read_key_request(key or "", name, "root")
        require_compared_key(asked, fingerprint, consent)
    target = out or f"{name}.bundle"
    if paper is None:
        check_writable(target, "the bundle")
    now = time.time()
    with open_session(options) as session:
        session.sync(now=now)
        root = add_key(session.ledger, public=asked.public, kid=asked.kid, name=name, role="root", now=now)
        if paper is not None and not consent.as_json:
            # Before it is signed: a key that nobody wrote down must not be in a root.
            echo(f"ROOT KEY {name}, shown this once. Write it on paper:\n", err=True)
            echo(f"{render_paper_key(paper)}\n", err=True)
        outcome = sign_root(session, root, consent)
        session.report_failures()
        if paper is None:
            finish_addition(session.ledger, outcome, consent, asked, target, now=now)
            return
    report(outcome, consent, kid=asked.kid, recovery_key=render_recovery_words(paper))


@command.command("remove-key")
@click.argument("name", metavar="NAME|KEY")
@root_options
@pass_options
def remove_key(options: Options, name: str, consent: Consent) -> None:
    """A root key no longer signs root documents."""
    from meshd.registry.root_changes import find_key, remove_root_key
    from wgctl.admin.session import open_session

    now = time.time()
    with open_session(options) as session:
        session.sync(now=now)
        chain = session.ledger.chain
        outcome = sign_root(
            session, remove_root_key(session.ledger, find_key(chain.root, name), now=now), consent
        )
        session.report_failures()
    report(outcome, consent)


@command.command("recover")
@click.option("--name", required=True, help="What the log will call the new administrator.")
@click.option(
    "--lost",
    multiple=True,
    metavar="NAME|KEY",
    help="A key to replace, with its NAME-root; again for more. [default: the only administrator]",
)
@click.option(
    "--cut",
    "cuts",
    multiple=True,
    metavar="NAME=STATEMENT",
    help="The last good statement of a lost administrator, by number or hash; 0: none was. "
    "[default: the newest]",
)
@click.option("--store", "stores", multiple=True, metavar="URL", help="Where the registry is.")
@click.option(
    "--from",
    "source",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="A registry export, instead of what the stores show first.",
)
@click.option("--mesh", "mesh_id", metavar="ID", help="Which mesh, when the store holds several of that key.")
@click.option("--fingerprint", help="Of a root, when the paper key signed none of them.")
@click.option(
    "--credentials",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="S3 access key and secret key as JSON, mode 0600.",
)
@click.option("--no-passphrase", is_flag=True, help="Leave the key files unprotected.")
@click.option("--force", is_flag=True, help="Also when over a fifth of the hosts would fall away.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@pass_options
def recover(
    options: Options,
    name: str,
    lost: tuple[str, ...],
    cuts: tuple[str, ...],
    stores: tuple[str, ...],
    source: Path | None,
    mesh_id: str | None,
    fingerprint: str | None,
    credentials: Path | None,
    no_passphrase: bool,
    force: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Replace a lost admin home by this new one, with the recovery key from paper.

    The key is typed in, or read from standard input.
    """
    from wgctl.admin.home import refuse_existing
    from wgctl.admin.paper import read_paper_key
    from wgctl.admin.recovery import find_registry, open_registry_file, parse_cuts, recover_home
    from wgctl.admin.session import open_stores

    if not stores and source is None:
        raise click.UsageError("--store or --from is needed: where the registry is")
    consent = Consent(yes=yes, force=force, replace=False, paper=False, as_json=as_json)
    consent.check()
    refuse_existing(options.home)
    passphrase = options.passphrase.choose(protect=not no_passphrase)
    opened, failures = open_stores(stores, credentials)
    if failures:
        raise ConfigError(failures[0])
    paper, now = read_paper_key(), time.time()
    if source is not None:
        ledger = open_registry_file(source, paper, fingerprint, now=now)
    else:
        ledger = find_registry(paper, opened, mesh_id=mesh_id, fingerprint=fingerprint, now=now)
    outcome, failure = recover_home(
        options,
        ledger,
        paper,
        consent,
        name=name,
        lost=lost,
        cuts=parse_cuts(cuts),
        stores=stores,
        credentials=credentials,
        passphrase=passphrase,
        now=now,
    )
    if failure:
        raise RegistryError(failure)
    report(
        outcome,
        consent,
        f"  home         {options.home}",
        "  the paper key stays a root key: keep it as it was",
        home=str(options.home),
    )


@command.command("refound")
@click.option("--name", required=True, help="What the new root key is called: NAME-root.")
@click.option("--out", required=True, metavar="FILE", help="Where the registry for meshd trust-root goes.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@pass_options
def refound_mesh(options: Options, name: str, out: str, yes: bool, as_json: bool) -> None:
    """All root keys are lost: begin a new chain of roots for the same mesh.

    Nobody believes it by itself. Every host goes on as it is until its operator types `meshd trust-root`
    there, every other admin home until `wgctl root trust`.
    """
    from meshd.registry.export import build_export, render_export
    from meshd.registry.root import root_objects
    from meshd.registry.signing import SigningKey, render_fingerprint, render_recovery_words
    from wgctl.admin.paper import render_paper_key
    from wgctl.admin.recovery import carry_registry, refound
    from wgctl.admin.session import open_session
    from wgctl.admin.trust_root import reanchor_home

    if not yes and not sys.stdin.isatty():
        raise click.UsageError("--yes is needed where nobody can be asked")
    check_writable(out, "the registry")
    now = time.time()
    with open_session(options) as session:
        session.sync(now=now)
        session.check_own_log()
        roles = session.ledger.chain.current.roles(session.home.mesh.root_kid)
        if "root" in session.home.purposes and "root" in roles:
            raise RegistryError("this home holds a root key that is in force: sign the next root with it")
        admin = session.home.read_admin_key()
        root, paper = SigningKey.generate(), SigningKey.generate()
        chain = refound(session.ledger, root, paper, name=name, now=now)
        ledger = carry_registry(session.ledger, chain)
        if not yes:
            note(f"root {chain.version} begins a new chain; every host must be told by hand to trust it")
            confirm("Begin it?")
        if not as_json:
            echo("RECOVERY KEY, shown this once, for paper; the old one is worthless:\n", err=True)
            echo(f"{render_paper_key(paper)}\n", err=True)
        backup = reanchor_home(session, ledger, root, now=now, opened=admin)
        write_text(out, render_export(build_export(ledger, now=now)) + "\n")
        session.publish(root_objects(chain.current.envelope), what="the new root is")
        session.report_failures()
    shown = render_fingerprint(chain.fingerprint)
    if as_json:
        write_json(
            {
                "format": REFOUND_FORMAT,
                "version": chain.version,
                "hash": chain.fingerprint,
                "fingerprint": shown,
                "recovery_key": render_recovery_words(paper),
                "registry": out,
                "backup": str(backup),
            }
        )
        return
    echo(f"root {chain.version} begins a new chain; fingerprint {shown}")
    echo(f"  what was trusted here before is kept in {backup}")
    echo("Now on every host, with meshd stopped:")
    echo(f"    meshd trust-root {shown}      (or with {out}, where no store is reached)")
    echo("and in every other admin home:")
    echo(f"    wgctl root trust {shown}")


@command.command("trust")
@click.argument("what", metavar="FINGERPRINT|FILE")
@click.option("--fingerprint", help="With FILE: of a root in it. Needed with --yes.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--force", is_flag=True, help="Also when over a fifth of the hosts would fall away.")
@json_option
@pass_options
def trust(
    options: Options, what: str, fingerprint: str | None, yes: bool, force: bool, as_json: bool
) -> None:
    """Make this home trust another root of its mesh, because you know that it is right.

    Only after `wgctl root refound` elsewhere. What was trusted before is kept.
    """
    from wgctl.admin.session import open_session
    from wgctl.admin.trust_root import find_ledger, reanchor_home

    if not yes and not sys.stdin.isatty():
        raise click.UsageError("--yes is needed where nobody can be asked")
    if yes and fingerprint is None and Path(what).exists():
        raise click.UsageError("--yes does not cover a root that nobody compared: type its --fingerprint")
    now = time.time()
    text = read_text(what, "a registry export", MAX_BUNDLE_BYTES) if Path(what).exists() else None
    with open_session(options) as session:
        session.sync(now=now)
        ledger, lines = find_ledger(session, what, text, fingerprint, force=force, now=now)
        for line in lines:
            note(line)
        if not yes:
            confirm("Trust it?")
        backup = reanchor_home(session, ledger, None, now=now)
    if as_json:
        write_json(
            {
                "format": TRUST_FORMAT,
                "version": ledger.chain.version,
                "hash": ledger.chain.fingerprint,
                "backup": str(backup),
            }
        )
        return
    echo(f"this home trusts root {ledger.chain.version} now; what it trusted before is in {backup}")


def _find_root(ledger: Ledger, which: str) -> TrustedRoot:
    """A root in force or proposed; the newest in force for an empty text."""
    roots = ledger.chain.roots
    if not which:
        return roots[-1]
    for root in roots:
        if which == str(root.root.version) or (
            len(which) >= MIN_HASH_DIGITS and root.hash.startswith(which.lower().replace("-", ""))
        ):
            return root
    return _find_proposal(ledger, which).root


def _find_proposal(ledger: Ledger, which: str) -> Proposal:
    proposals = ledger.proposals()
    found = [each for each in proposals if which == str(each.root.root.version)]
    digits = which.lower().replace("-", "")
    if not found and len(digits) >= MIN_HASH_DIGITS:
        found = [each for each in proposals if each.root.hash.startswith(digits)]
    if len(found) == 1:
        return found[0]
    if found:
        hashes = ", ".join(each.root.hash[:12] for each in found)
        raise RegistryError(f"root {which}: several are proposed ({hashes}); name one by its hash")
    waiting = ", ".join(f"{each.root.root.version} ({each.root.hash[:12]})" for each in proposals) or "none"
    raise RegistryError(
        f"root {which[:80]!r}: neither in force (up to {ledger.chain.version}) nor proposed ({waiting})"
    )


def _show_proposals(proposals: list[ProposalRow]) -> None:
    for row in proposals:
        by = ", ".join(row.signed_by) or "nobody"
        say(f"root {row.version} ({row.fingerprint}) is proposed, signed by {by}:", FAIR)
        for line in (*row.changes, *row.missing):
            say(f"  {line}")
