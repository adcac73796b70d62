"""``wgctl root recover``: a lost admin home replaced by this new one, with the key on paper."""

from __future__ import annotations

import time
from pathlib import Path

import click

from meshd.errors import ConfigError, RegistryError
from wgctl.admin.root_signing import Consent, report
from wgctl.completing import ADMIN
from wgctl.options import Options, pass_options
from wgctl.output import json_option


@click.command("recover")
@click.option("--name", required=True, help="What the log will call the new administrator.")
@click.option(
    "--lost",
    multiple=True,
    type=ADMIN,
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
def command(
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
        ledger = open_registry_file(source, paper, fingerprint)
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
