"""``wgctl init``: found a mesh."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from meshd.errors import ConfigError, RegistryError, StoreError
from meshd.model.network import IPNetwork, parse_network
from meshd.terminal import echo
from wgctl.options import Options, pass_options
from wgctl.output import json_option, note, write_json
from wgctl.parameters import NETWORK, NETWORK_OR_NONE, garage_options

if TYPE_CHECKING:
    from meshd.registry.signer import NewMesh
    from meshd.store.base import ObjectStore
    from meshd.store.credentials import S3Credentials
    from wgctl.admin.home import MeshFile
    from wgctl.admin.ranges import MeshRanges
    from wgctl.documents.signing import MeshFounded

DEFAULT_RANGE: Final = "10.99.0.0/16"
DEFAULT_JAIL_RANGE: Final = "10.17.0.0/16"


@click.command("init")
@click.option("--name", required=True, metavar="MESH", help="The mesh's name, for people.")
@click.option(
    "--store",
    "stores",
    required=True,
    multiple=True,
    metavar="URL",
    help="file:///path or s3+https://host:port/bucket?region=garage; may be given again.",
)
@click.option(
    "--range",
    "overlay",
    type=NETWORK,
    default=DEFAULT_RANGE,
    show_default=True,
    help="IPv4 addresses of the hosts.",
)
@click.option(
    "--range6", type=NETWORK_OR_NONE, help="IPv6 addresses of the hosts. [default: a random ULA /48]"
)
@click.option(
    "--jail-range",
    "jails",
    type=NETWORK,
    multiple=True,
    help=f"Networks that jails live in; may be given again. [default: {DEFAULT_JAIL_RANGE}]",
)
@click.option(
    "--pool",
    "pools",
    type=NETWORK,
    multiple=True,
    help="What this administrator may grant. [default: all of it]",
)
@click.option(
    "--max-hosts",
    type=click.IntRange(1, 10_000),
    help="Hosts and clients. [default: as many as --range has addresses for, and at most 1000]",
)
@click.option("--admin-name", default="admin", show_default=True, help="Your name in the registry's log.")
@click.option(
    "--credentials",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="S3 access key and secret key as JSON, mode 0600.",
)
@click.option(
    "--no-passphrase",
    is_flag=True,
    help="Leave the key files unprotected: for scripts, and for homes on an encrypted disk.",
)
@click.option(
    "--air-gapped",
    is_flag=True,
    help="This machine never asks a store: wgctl export and import carry everything.",
)
@garage_options
@click.option("--offline", is_flag=True, help="Ask no store: for a store that is to run in this very mesh.")
@json_option
@pass_options
def command(
    options: Options,
    name: str,
    stores: tuple[str, ...],
    overlay: IPNetwork,
    range6: IPNetwork | None,
    jails: tuple[IPNetwork, ...],
    pools: tuple[IPNetwork, ...],
    max_hosts: int | None,
    admin_name: str,
    credentials: Path | None,
    no_passphrase: bool,
    air_gapped: bool,
    garage_admin: tuple[str, ...],
    garage_token_file: Path | None,
    offline: bool,
    as_json: bool,
) -> None:
    """Found a mesh: keys, first root document, store.

    With --garage-admin the buckets and your own S3 key are made too, and add-host makes one a host.
    Shows the recovery key once: write it on paper. Nothing is left behind when it fails.
    """
    from wgctl.admin.home import refuse_existing
    from wgctl.admin.ranges import check_pools, choose_max_hosts
    from wgctl.admin.session import open_each

    refuse_existing(options.home)
    ranges = _choose_ranges(overlay, range6, jails)
    check_pools(pools, ranges)
    most = choose_max_hosts(max_hosts, ranges.overlay)
    own = _choose_credentials(garage_admin, credentials)
    opened, failures = open_each(() if air_gapped else stores, own)
    if failures:
        raise ConfigError(failures[0])
    passphrase = options.passphrase.choose(protect=not no_passphrase)
    mesh = _create_mesh(
        name=name,
        ranges=ranges,
        stores=stores,
        pools=pools,
        max_hosts=most,
        admin_name=admin_name,
    )
    found = _Founding(
        mesh=mesh,
        stores=opened,
        credentials=own,
        credentials_path=str(credentials.absolute()) if credentials else "",
        garage_admin=garage_admin,
        garage_token_file=garage_token_file,
        offline=offline,
        air_gapped=air_gapped,
        passphrase=passphrase,
    )
    _make_home(options.home, found)
    if as_json:
        write_json(_document(options.home, mesh))
    else:
        _show(options.home, mesh, sealed=passphrase is not None)


def _is_given(parameter: str) -> bool:
    """Whether the option was typed; its value may be none for both."""
    source = click.get_current_context().get_parameter_source(parameter)
    return source is click.core.ParameterSource.COMMANDLINE


def _choose_ranges(overlay: IPNetwork, range6: IPNetwork | None, jails: tuple[IPNetwork, ...]) -> MeshRanges:
    """What was typed and the defaults for the rest. ConfigError where no mesh can have them."""
    from wgctl.admin.ranges import MeshRanges, check_ranges

    ranges = MeshRanges(
        overlay=overlay,
        overlay6=range6 if _is_given("range6") else _random_ula(),
        jails=jails or (parse_network(DEFAULT_JAIL_RANGE),),
    )
    check_ranges(ranges)
    return ranges


def _choose_credentials(garage_admin: Sequence[str], credentials: Path | None) -> S3Credentials | None:
    """Made up here where a Garage's administrator can make them good, else those that are given."""
    from meshd.store.credentials import generate_credentials, read_credentials

    if garage_admin and credentials is not None:
        raise click.UsageError("--credentials and --garage-admin: give a key, or let one be made")
    if garage_admin:
        return generate_credentials()
    return read_credentials(credentials) if credentials is not None else None


def _create_mesh(
    *,
    name: str,
    ranges: MeshRanges,
    stores: Sequence[str],
    pools: Sequence[IPNetwork],
    max_hosts: int,
    admin_name: str,
) -> NewMesh:
    """With new keys. ConfigError where no mesh can be as it is wanted."""
    from meshd.registry.signer import create_mesh
    from meshd.registry.signing import SigningKey

    try:
        return create_mesh(
            name=name,
            overlay=ranges.overlays,
            jail=ranges.jails,
            stores=tuple(dict.fromkeys(stores)),
            pools=list(pools) or None,
            max_hosts=max_hosts,
            admin_name=admin_name,
            root_key=SigningKey.generate(),
            now=time.time(),
        )
    except RegistryError as error:
        raise ConfigError(f"no mesh can be founded so: {error}") from None


def _random_ula() -> IPNetwork:
    """RFC 4193 section 3.2: fd, 40 random bits, so that two meshes can be joined one day."""
    import ipaddress
    import secrets

    return ipaddress.IPv6Network((0xFD << 120 | secrets.randbits(40) << 80, 48))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Founding:
    """A mesh that only exists in memory, and where it is to go.

    ``credentials_path`` empty with ``credentials``: they were made up here and stay in the home.
    """

    mesh: NewMesh
    stores: Sequence[ObjectStore]
    credentials: S3Credentials | None
    credentials_path: str
    garage_admin: tuple[str, ...]
    garage_token_file: Path | None
    offline: bool
    air_gapped: bool
    passphrase: bytes | None = field(repr=False)

    def mesh_file(self) -> MeshFile:
        from wgctl.admin.home import MeshFile
        from wgctl.admin.host_keys import OWN_KEY

        root, token_file = self.mesh.chain.root, self.garage_token_file
        return MeshFile(
            format="wgctl-home/1",
            mesh_id=root.mesh,
            mesh_name=root.mesh_name,
            admin_kid=self.mesh.admin_key.kid,
            root_kid=self.mesh.root_key.kid,
            stores=root.stores,
            credentials=self.credentials_path or (OWN_KEY if self.credentials else ""),
            garage_admin=self.garage_admin,
            garage_token_file=str(token_file.absolute()) if token_file else "",
            air_gapped=self.air_gapped,
        )


def _make_home(directory: Path, founding: _Founding) -> None:
    """Keys and cache first, in a directory that only becomes the home once a store has the root."""
    from meshd.registry.cache import RegistryCache
    from meshd.registry.ledger import Ledger
    from meshd.store.credentials import write_credentials
    from wgctl.admin.home import REGISTRY_DIRECTORY, new_home, write_home
    from wgctl.admin.host_keys import OWN_KEY

    mesh, mesh_file = founding.mesh, founding.mesh_file()
    with new_home(directory) as building:
        write_home(building, mesh_file, {"admin": mesh.admin_key, "root": mesh.root_key}, founding.passphrase)
        if mesh_file.credentials == OWN_KEY and founding.credentials is not None:
            write_credentials(building / OWN_KEY, founding.credentials)
        RegistryCache(building / REGISTRY_DIRECTORY).create(Ledger(mesh.chain))
        if founding.offline:
            note("wgctl: warning: no store was asked; the next command that reaches one publishes the root")
        elif founding.air_gapped:
            pass  # wgctl export carries it
        elif mesh_file.garage_admin:
            _publish_with_garage(founding, mesh_file)
        else:
            _publish_root(founding)


def _publish_root(founding: _Founding) -> None:
    """StoreError when no store takes the root."""
    from meshd.registry.sync import publish

    mesh, failures = founding.mesh, []
    for store in founding.stores:
        try:
            publish(store, mesh.objects, mesh_id=mesh.chain.mesh_id)
        except StoreError as error:
            failures.append(str(error))
    if len(failures) == len(founding.stores):
        raise StoreError(f"no mesh was founded, as no store takes its root: {'; '.join(failures)}")
    for failure in failures:
        note(f"wgctl: warning: {failure}; the next wgctl command tries again")


def _publish_with_garage(founding: _Founding, mesh_file: MeshFile) -> None:
    """Make buckets and our own key first; on failure take the key away again."""
    from wgctl.admin.garage import open_garage

    kid, credentials = founding.mesh.admin_key.kid, founding.credentials
    assert credentials is not None
    with open_garage(mesh_file, mesh_file.stores, (), founding.garage_token_file) as garage:
        assert garage is not None
        try:
            garage.provide_admin(kid, credentials)
            for failure in garage.wait_until_usable(credentials):
                note(f"wgctl: warning: {failure}")
            _publish_root(founding)
        except BaseException:
            with contextlib.suppress(StoreError):
                garage.remove_admin(kid)
            raise


def _document(home: Path, mesh: NewMesh) -> MeshFounded:
    from meshd.registry.signing import render_fingerprint, render_recovery_words
    from wgctl.documents.signing import MeshFounded

    root = mesh.chain.root
    return MeshFounded(
        mesh_id=root.mesh,
        mesh_name=root.mesh_name,
        fingerprint=render_fingerprint(mesh.chain.fingerprint),
        admin_kid=mesh.admin_key.kid,
        root_kid=mesh.root_key.kid,
        recovery_kid=mesh.recovery_key.kid,
        recovery_key=render_recovery_words(mesh.recovery_key),
        ranges=root.ranges.overlay,
        jail_ranges=root.ranges.jail,
        stores=root.stores,
        home=str(home),
    )


def _show(home: Path, mesh: NewMesh, *, sealed: bool) -> None:
    from meshd.registry.signing import render_fingerprint, render_recovery_words

    root = mesh.chain.root
    words = render_recovery_words(mesh.recovery_key).split(" ")
    echo(f"mesh         {root.mesh_name} ({root.mesh})")
    echo(f"fingerprint  {render_fingerprint(mesh.chain.fingerprint)}")
    echo(f"hosts        {' '.join(root.ranges.overlay)}")
    echo(f"jails        {' '.join(root.ranges.jail)}")
    echo(f"stores       {' '.join(root.stores)}")
    keys = (
        "keys inside, sealed by your passphrase"
        if sealed
        else ("keys inside, not sealed: keep it on an encrypted disk")
    )
    echo(f"home         {home} ({keys})")
    echo("\nRECOVERY KEY, shown this once. Write it on paper and keep it away from this machine:\n")
    echo(f"    {' '.join(words[:7])}\n    {' '.join(words[7:])}\n")
    echo("Whoever has it can take the mesh over; without it, losing this home means founding anew.")
    echo("Whether the paper is right: wgctl root check-paper\n")
    echo("Next, for each host, say newton:")
    echo("    on newton:   meshd enroll --name newton --out newton.request")
    echo("    here:        wgctl add-host newton --request newton.request --jails 10.17.2.0/24")
    echo(
        "    on newton:   meshd join newton.bundle --fingerprint "
        f"{render_fingerprint(mesh.chain.fingerprint)}"
    )
