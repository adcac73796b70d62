"""What happens to meshd and to the registry: restarts, upgrades, kills, changes, no store."""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path
from typing import Final

import meshd
from bench.faults.stage import Stage, expect_done
from bench.faults.trial import Scenario, Trial
from meshd.errors import BackendError
from meshd.lab.pace import PACE
from meshd.model.keys import PrivateKey
from meshd.model.network import Endpoint, parse_network
from meshd.registry.bundle import build_request
from meshd.registry.record import build_record
from meshd.registry.signing import SigningKey

NEXT_VERSION: Final = "upgraded-in-place"
STRANGER_JAILS: Final = "10.17.250.0/24"
MESHD: Final = str(Path(sys.executable).parent / "meshd")
STORELESS_SECONDS: Final = 10.0


def restart(trial: Trial) -> None:
    for _ in range(trial.times(10, emulated=2)):
        trial.fault()
        trial.stage.fleet.stop(trial.stage.victim)
        trial.stage.fleet.start(trial.stage.victim)
        trial.stage.wait_started(trial.stage.victim)


def kill(trial: Trial) -> None:
    for _ in range(trial.times(10, emulated=2)):
        trial.fault()
        trial.stage.fleet.kill(trial.stage.victim)
        trial.stage.fleet.start(trial.stage.victim)
        trial.stage.wait_started(trial.stage.victim)


def upgrade(trial: Trial) -> None:
    """As a service manager does it: the old program ends, the new one's bring-up, the new one runs."""
    stage, victim = trial.stage, trial.stage.victim
    tree = _copy_program(stage.lab_directory / "next")
    run_new = [
        "env", f"PYTHONPATH={tree}", sys.executable, "-P", "-c", "from meshd.daemon.main import main; main()",
        "--config", str(victim.config),
    ]  # fmt: skip
    trial.fault()
    stage.fleet.stop(victim)
    expect_done(victim, [*run_new, "bring-up"])
    victim.process = victim.host.spawn([*run_new, "run"], log=victim.log)
    if (version := stage.wait_started(victim).version) != NEXT_VERSION:
        raise BackendError(f"{victim.name}: version {version!r} seen, {NEXT_VERSION!r} expected")
    stage.settle()
    trial.fault()
    stage.fleet.stop(victim)
    expect_done(victim, [MESHD, "--config", str(victim.config), "bring-up"])
    stage.fleet.start(victim)
    stage.wait_started(victim)


def _copy_program(tree: Path) -> Path:
    """This program as another version of itself."""
    shutil.copytree(Path(meshd.__file__ or "").parent, tree / "meshd", dirs_exist_ok=True)
    text = f'def read_version() -> str:\n    return "{NEXT_VERSION}"\n'
    (tree / "meshd/version.py").write_text(text)
    return tree


def strangers(trial: Trial) -> None:
    """A host that nobody hears from is added and removed: each is an apply on every host."""
    stage = trial.stage
    for number in range(trial.times(50, emulated=5)):
        name, request, key = _enrollment(stage.lab_directory, number)
        trial.fault()
        stage.fleet.wgctl(
            "add-host", name, *stage.fleet.compared(request), "--jails", STRANGER_JAILS,
            "--out", stage.lab_directory / f"{name}.bundle",
        )  # fmt: skip
        stage.until(f"{name} is no peer", lambda key=key: _is_peer(stage, key) == {True})  # type: ignore[misc]
        trial.fault()
        stage.fleet.wgctl("remove-host", name, "--yes")
        stage.until(f"{name} is a peer", lambda key=key: _is_peer(stage, key) == {False})  # type: ignore[misc]


def _is_peer(stage: Stage, key: str) -> set[bool]:
    return {key in stage.fleet.wireguard_peers(member) for member in stage.members}


def _enrollment(directory: Path, number: int) -> tuple[str, Path, str]:
    """-> name, request file, WireGuard key of a host that does not exist."""
    identity, key = SigningKey.generate(), PrivateKey.generate()
    record = build_record(
        mesh="", hid=identity.kid, gen=1, version=0, private_key=key, listen_port=51820,
        endpoints=[Endpoint.parse("198.18.255.1:51820")], networks=[parse_network(STRANGER_JAILS)],
    )  # fmt: skip
    name = f"stranger{number}-{os.urandom(3).hex()}"
    path = directory / f"{name}.request"
    path.write_text(build_request(name, identity, record))
    return name, path, str(key.public())


def guests(trial: Trial) -> None:
    """A whole host with its daemon joins, is reached by all, is revoked and goes."""
    stage = trial.stage
    for _ in range(trial.times(10, emulated=2)):
        trial.fault()
        guest = stage.join(stage.next_place())
        jail = guest.host.jails[0].name
        pairs = [(member.host.jails[0].name, jail) for member in stage.members]
        if None in stage.oracle.wait_all(pairs, 60.0 * PACE).values():
            raise BackendError(f"{guest.name}: not reached by all")
        stage.leave(guest)


def no_store(trial: Trial) -> None:
    """The store is gone, the daemon starts without it, and it comes back."""
    stage = trial.stage
    away = stage.store.with_name("store.away")
    trial.fault()
    stage.store.rename(away)
    try:
        stage.until("the store is not missed", lambda: _misses_store(stage))
        stage.fleet.kill(stage.victim)
        stage.fleet.start(stage.victim)
        stage.wait_started(stage.victim)
        time.sleep(STORELESS_SECONDS)
    finally:
        away.rename(stage.store)


def _misses_store(stage: Stage) -> bool:
    status = stage.status(stage.victim)
    return status is not None and any(store.up is False for store in status.registry.stores)


SCENARIOS: Final = (
    Scenario(
        name="applies", title="100 applies", run=strangers, touches="none",
        what="a peer comes and goes 50 times on every host; nobody's own pair changes",
    ),
    Scenario(
        name="guests", title="a host added and revoked, 10 times", run=guests, touches="none",
        what="a whole host joins, is reached by all, is revoked and switched off",
    ),
    Scenario(
        name="restart", title="meshd restarted, 10 times", run=restart,
        what="SIGTERM, and started again",
    ),
    Scenario(
        name="upgrade", title="meshd upgraded in place, and back", run=upgrade,
        what="SIGTERM, `bring-up` of another version, which adopts the interface, and its `run`",
    ),
    Scenario(name="kill", title="kill -9 of meshd, 10 times", run=kill, what="and started again"),
    Scenario(
        name="no-store", title="store gone", run=no_store, touches="all",
        what="meshd killed and started while it is away; 10 s later it is there again",
    ),
)  # fmt: skip
