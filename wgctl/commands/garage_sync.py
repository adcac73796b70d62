"""``wgctl garage-sync``: Garage's buckets and keys as the registry wants them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from meshd.errors import ConfigError
from meshd.terminal import echo
from wgctl.options import Options, pass_options
from wgctl.output import json_option, note, write_json
from wgctl.parameters import garage_options

if TYPE_CHECKING:
    from wgctl.admin.garage import GarageKeys
    from wgctl.admin.home import AdminHome
    from wgctl.admin.session import AdminSession


class _Done(msgspec.Struct):
    """``without_key``: hosts of which neither Garage nor this home knows a key."""

    buckets: list[str] = msgspec.field(default_factory=list)
    own_key: bool = False
    keys: list[str] = msgspec.field(default_factory=list)
    deleted: list[str] = msgspec.field(default_factory=list)
    without_key: list[str] = msgspec.field(default_factory=list)


@click.command("garage-sync")
@garage_options
@json_option
@pass_options
def command(
    options: Options, garage_admin: tuple[str, ...], garage_token_file: Path | None, as_json: bool
) -> None:
    """Make Garage's buckets and keys what the registry wants.

    And publish what it lacks: for a Garage that has just begun to run, that lost everything, or in
    which a command could not finish. With --garage-admin that place is remembered, and add-host makes
    keys from then on.
    """
    from wgctl.admin.garage import open_garage
    from wgctl.admin.session import open_session

    _adopt(options, garage_admin, garage_token_file)
    now = time.time()
    with open_session(options) as session:
        home = session.home
        with open_garage(home.mesh, session.store_urls) as garage:
            if garage is None:
                raise ConfigError("no Garage is known here; name its admin API with --garage-admin")
            done = _prepare(garage, home)
            session.sync(now=now)
            _sync_hosts(garage, session, done)
        session.report_failures()
        session.require_store()
    _show(done, as_json)


def _adopt(options: Options, urls: tuple[str, ...], token_file: Path | None) -> None:
    """Remember where Garage is, once it has answered; make up our own key if we have none."""
    from meshd.store.credentials import generate_credentials, write_credentials
    from wgctl.admin.garage import open_garage
    from wgctl.admin.home import open_home
    from wgctl.admin.host_keys import OWN_KEY

    home = open_home(options.home)
    with home.locked():
        if urls:
            with open_garage(home.mesh, home.mesh.stores, urls, token_file) as garage:
                assert garage is not None
                garage.check()
            token_path = str(token_file.absolute()) if token_file else home.mesh.garage_token_file
            home = home.with_mesh(garage_admin=urls, garage_token_file=token_path)
        if home.mesh.garage_admin and home.credentials_path is None:
            write_credentials(home.directory / OWN_KEY, generate_credentials())
            home.with_mesh(credentials=OWN_KEY)


def _prepare(garage: GarageKeys, home: AdminHome) -> _Done:
    from meshd.store.credentials import read_credentials

    assert home.credentials_path is not None
    credentials = read_credentials(home.credentials_path)
    done = _Done(buckets=garage.provide_buckets())
    done.own_key = garage.provide_admin(home.mesh.admin_kid, credentials)
    if done.own_key:
        for failure in garage.wait_until_usable(credentials):
            note(f"wgctl: warning: {failure}")
    return done


def _sync_hosts(garage: GarageKeys, session: AdminSession, done: _Done) -> None:
    """Keys of members that this home chose are made, keys of revoked hosts deleted."""
    from meshd.store.garage_admin import KeyGoneError
    from wgctl.admin.host_keys import HOST_KEYS, KeyFolder
    from wgctl.views.registry import host_names

    folder = KeyFolder(session.home.directory / HOST_KEYS)
    reduction, names = session.ledger.reduction(), host_names(session.ledger)
    for hid in sorted(reduction.revoked.keys() & (garage.hids_with_keys() | set(folder.hids()))):
        garage.remove_host(hid)
        folder.remove(hid)
        done.deleted.append(names.get(hid, hid))
    for hid in sorted(reduction.effective):
        credentials = folder.read(hid) or garage.find_host(hid)
        try:
            if credentials is None:
                done.without_key.append(names[hid])
            elif garage.provide_host(hid, credentials):
                done.keys.append(names[hid])
        except KeyGoneError as error:
            done.without_key.append(names[hid])
            session.failures.append(f"{names[hid]}: {error}")


def _show(done: _Done, as_json: bool) -> None:
    if as_json:
        from wgctl.documents.services import GarageSynced

        document = GarageSynced(
            buckets_created=tuple(done.buckets),
            own_key_created=done.own_key,
            keys_created=tuple(done.keys),
            keys_deleted=tuple(done.deleted),
            without_key=tuple(done.without_key),
        )
        write_json(document)
        return
    lines = [
        ("buckets made", done.buckets),
        ("own key made", ["yes"] if done.own_key else []),
        ("keys made", done.keys),
        ("keys deleted", done.deleted),
    ]
    for what, names in lines:
        if names:
            echo(f"{what:13} {' '.join(names)}")
    if not any(names for _, names in lines):
        echo("Garage is as the registry wants it")
    for name in done.without_key:
        note(f"wgctl: warning: {name} has no S3 key; give it one with its request: wgctl add-host {name} ...")
