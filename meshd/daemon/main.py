"""The ``meshd`` command. Each verb loads what it needs: only ``run`` has a use for an event loop."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
import msgspec
from msgspec.structs import replace

from meshd.daemon.leave import leave
from meshd.errors import ConfigError
from meshd.host.state import HostState
from meshd.lean import collect_what_comes, instead_of
from meshd.program import completion_script, run_program
from meshd.settings import DEFAULT_CONFIG_PATH, FREEBSD, Settings, read_settings
from meshd.terminal import confirm, echo
from meshd.text_files import refuse_to_replace, somebody_answers
from meshd.version import VERSION


class _MeshGroup(click.Group):
    """Every expected error is one line on stderr and its own exit code."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        if not kwargs.get("standalone_mode", True):
            return super().main(*args, **kwargs)
        kwargs["standalone_mode"] = False
        sys.exit(run_program("meshd", partial(super().main, *args, **kwargs)))


@click.group(
    cls=_MeshGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=False,
    invoke_without_command=True,
)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    default=DEFAULT_CONFIG_PATH,
    show_default=True,
    help="The settings file.",
)
@click.pass_context
def main(context: click.Context, config: Path) -> None:
    """Keep this host in its WireGuard mesh."""
    context.obj = config
    if context.invoked_subcommand is None:
        echo(context.get_help())


@main.command()
@click.pass_obj
def run(config: Path) -> int:
    """Run the daemon in the foreground; the mesh outlives it.

    Until SIGTERM.
    """
    settings = read_settings(config)
    _refuse_shared_interface(settings)

    run_daemon = load_daemon()
    collect_what_comes()
    run_daemon(config, settings)
    if threading.active_count() > 1:
        # A request to a store that hangs holds its thread for its whole time-out, and the
        # interpreter would wait for it. Nothing is lost: publishing is repeated at the next start.
        import logging

        logging.shutdown()
        os._exit(0)
    return 0


def load_daemon() -> Callable[[Path, Settings], None]:
    """What runs the daemon until SIGTERM, loaded without TLS: 0.8 MiB, which most hosts have no use for.

    Hosts talk inside WireGuard. A store or a service that is reached by TLS loads it when it is asked.
    """
    with instead_of("ssl", None):
        from meshd.daemon.serving import run_daemon

    return run_daemon


@main.command("bring-up")
@click.pass_obj
def bring_up(config: Path) -> int:
    """Configure the mesh once from the verified cache, and exit.

    Without the network: at boot, before the daemon.
    """
    from meshd.control.turn import Inputs
    from meshd.daemon.data_plane import build_data_plane
    from meshd.daemon.doors import Pace, open_doors
    from meshd.host.local import boot_file, local_device

    settings = read_settings(config)
    _refuse_shared_interface(settings)
    state = HostState(settings.state_dir)
    pace = Pace(initiator_delay_seconds=0.0)  # there is no next turn
    doors = replace(open_doors(settings, state), pace=pace)
    try:
        parts = build_data_plane(settings, doors)
        turn = parts.reconciler.turn(
            Inputs(
                membership=parts.ledger.membership(time.time()),
                local=local_device(settings, parts.rotation.keys.key, state.read_learned()),
                max_removed_share=settings.safety.max_removed_share,
                boot_file=boot_file(settings),
                path_mtus={} if settings.probe.path_mtu else None,
            )
        )
    finally:
        doors.backend.close()
    for condition in (*parts.conditions, *turn.conditions):
        echo(f"meshd: {condition.severity}: {condition.code}: {condition.text}", err=True)
    peers = len(turn.observed.device.peers) if turn.observed and turn.observed.device else 0
    echo(f"{settings.wireguard.interface}: {turn.outcome}, {turn.done} changes, {peers} peers")
    return {"applied": 0, "unchanged": 0, "held": 4}.get(turn.outcome, 1)


@main.command("check-config")
@click.option("--json", "as_json", is_flag=True, help="One JSON document: how far this host is on its way.")
@click.pass_obj
def check_config(config: Path, as_json: bool) -> None:
    """Check the settings and the host's own files.

    Says what is wrong, and changes nothing.
    """
    from meshd.daemon.caller import find_group
    from meshd.host.rulebook import refuse_unusable
    from meshd.services.config import read_modules

    settings = read_settings(config)
    _refuse_shared_interface(settings)
    read_modules(settings.services, str(config))
    state = HostState(settings.state_dir)
    refuse_unusable(settings, state, str(config))
    find_group(settings.control.group)
    if state.enrolled:
        state.read_identity()
        state.read_wireguard_key()
    if as_json:
        from meshd.host.readiness import read_readiness

        echo(msgspec.json.encode(read_readiness(str(config), state)).decode())
        return
    echo(f"{config}: ok")
    if not state.joined:
        echo("this host has not joined a mesh yet: meshd enroll, then meshd join", err=True)


@main.command("pf-anchor")
@click.pass_obj
def pf_anchor(config: Path) -> None:
    """Print rules for FreeBSD's pf that let the mesh through.

    An anchor to include in pf.conf, which meshd never touches: its first lines say how.
    """
    from meshd.plan.pf_anchor import render_pf_anchor
    from meshd.relay.table import PORT_OFFSET

    port = read_settings(config).wireguard.listen_port
    path = str(config.parent / "pf.anchor")
    echo(render_pf_anchor(port, path, relay_port=port + PORT_OFFSET), nl=False)


@main.command()
@click.option("--name", help="The name the host asks for: a DNS label. [default: this host's own]")
@click.option(
    "--new-identity",
    is_flag=True,
    help="Ask for another identity of this host, which keeps its id, name and addresses.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Write the request here instead of to stdout.")
@click.pass_obj
def enroll(config: Path, name: str | None, new_identity: bool, out: Path | None) -> None:
    """Make this host's keys; print its request for a place.

    The request is signed by the host and holds no secret. Hand it to wgctl add-host.
    """
    from meshd.host.enrollment import build_enrollment
    from meshd.registry.envelope import ENROLLMENT_TYPE

    if out is not None:
        refuse_to_replace(out, "an enrollment request", {"payloadType": ENROLLMENT_TYPE})
    request, fingerprint, asked = build_enrollment(read_settings(config), name, new_identity=new_identity)
    if out is None:
        echo(request)
    else:
        try:
            out.write_text(request + "\n")
        except OSError as error:
            raise ConfigError(f"{out}: cannot be written: {error.strerror}") from None
    echo(f"identity fingerprint of {asked}: {fingerprint}", err=True)


@main.command()
@click.argument("bundle", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--fingerprint", help="Of its root, as wgctl add-host showed it. [default: ask]")
@click.pass_obj
def join(config: Path, bundle: Path, fingerprint: str | None) -> None:
    """Verify a join bundle of wgctl add-host, and keep it.

    A bundle proves that it is whole, not that it is of your mesh: compare the fingerprint. BUNDLE may be -,
    standard input.
    """
    from meshd.host.enrollment import join_mesh, read_bundle

    settings = read_settings(config)
    text = read_bundle(bundle)
    with HostState(settings.state_dir).claimed():
        joined = join_mesh(settings, text, fingerprint, source=str(bundle), now=time.time())
    if joined.warning:
        echo(f"meshd: warning: {joined.warning}", err=True)
    echo(joined.line)


@main.command("trust-root")
@click.argument("what", metavar="FINGERPRINT|FILE")
@click.option("--fingerprint", help="With FILE: refuse it unless a root in it has this fingerprint.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--force",
    is_flag=True,
    help="Also when this host has no place there, or over a fifth of the hosts would fall away.",
)
@click.pass_obj
def trust_root(config: Path, what: str, fingerprint: str | None, yes: bool, force: bool) -> None:
    """Trust another root, because you know that it is right.

    For a mesh that has lost all its root keys; meshd must be stopped. FINGERPRINT: of a root of this mesh,
    from the stores; FILE: what wgctl export or wgctl root refound wrote. What was trusted before is kept.
    """
    from meshd.host.trust import adopt_root, examine_root

    if not yes and not somebody_answers():
        raise click.UsageError("--yes is needed where nobody can be asked")
    if yes and fingerprint is None and Path(what).exists():
        raise click.UsageError("--yes does not cover a root that nobody compared: type its --fingerprint")
    now, settings = time.time(), read_settings(config)
    with HostState(settings.state_dir).claimed():
        found = examine_root(settings, what, fingerprint, force=force, now=now)
        for line in found.lines:
            echo(line, err=True)
        if not yes:
            confirm("Trust it?")
        echo(adopt_root(found, now=now))


main.add_command(leave)


@main.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]), default="bash")
def completion(shell: str) -> None:
    """Print the shell's completion script.

    Where it goes: wgctl completion --help.
    """
    echo(completion_script(main, "meshd", shell))


@main.command()
def version() -> None:
    """Print the version."""
    echo(VERSION)


def _refuse_shared_interface(settings: Settings) -> None:
    """FreeBSD: rc.conf gives our interface to nobody else."""
    if FREEBSD:
        from meshd.backend.rc_conf import open_sysrc, refuse_shared_interface

        sysrc = open_sysrc()
        if sysrc is not None:
            names = (settings.wireguard.interface, settings.wireguard.rotation_interface)
            refuse_shared_interface(sysrc, filter(None, names))


if __name__ == "__main__":
    main()
