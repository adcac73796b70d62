"""doctor on healthy and unhealthy hosts: it never fails to answer, and says what to do."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
from admin_fixture import enroll, snapshot
from click.testing import Result
from control_fixture import NOW, Answer, FakeMeshd, answer_with, build_peer, build_status

from meshd.observe.status import ConditionStatus, PlanStatus
from wgctl.checks import system

Run = Callable[..., Result]
StartMeshd = Callable[[Answer], FakeMeshd]


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    config: Path
    state: Path


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """A host with settings, state and keys as they should be, and a kernel with WireGuard."""
    monkeypatch.setattr("time.time", lambda: NOW)
    monkeypatch.setattr(system, "_kernel_has_wireguard", lambda: True)
    monkeypatch.setattr(system, "read_forwarding", lambda version: True)
    monkeypatch.setattr(system, "read_ruleset", lambda network: '{"nftables": []}')
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    for name in ("identity.key", "wireguard.key"):
        (state / name).write_text("secret")
        (state / name).chmod(0o600)
    config = tmp_path / "meshd.toml"
    config.write_text(
        f'state_dir = "{state}"\nrun_dir = "{tmp_path}"\n'
        f'[jails]\nnetworks = ["10.17.1.0/24"]\n[wireguard]\nboot_file = "{tmp_path}/wg0.conf"\n'
    )
    (tmp_path / "wg0.conf").touch(mode=0o600)
    return Host(config=config, state=state)


def examine(run: Run, host: Host, socket: Path) -> dict[str, list[tuple[str, str, str]]]:
    """Results by check name: (result, text, advice)."""
    result = run("--config", host.config, "--socket", socket, "doctor", "--json")
    document = json.loads(result.stdout)
    assert result.exit_code == (1 if document["failed"] else 0)
    assert sorted(document) == ["checks", "failed", "format", "warned"]
    found: dict[str, list[tuple[str, str, str]]] = {}
    for check in document["checks"]:
        found.setdefault(check["name"], []).append((check["result"], check["text"], check["advice"]))
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="FreeBSD has more to look at: test_wgctl_doctor_freebsd")
def test_a_healthy_host_has_nothing_to_do(run: Run, start_meshd: StartMeshd, host: Host) -> None:
    meshd = start_meshd(answer_with(build_status(build_peer("newton"))))
    found = examine(run, host, meshd.path)
    assert {result for checks in found.values() for result, _, _ in checks} == {"ok"}
    assert {
        "settings",
        "state",
        "packet filter",
        "keys",
        "boot file",
        "wireguard",
        "forwarding IPv4",
        "meshd",
        "peers",
        "path MTU",
        "ports",
        "store",
        "registry",
        "plan",
        "clock",
        "interface",
    } == found.keys()


def test_a_narrow_path_is_shown_with_what_it_carries(run: Run, start_meshd: StartMeshd, host: Host) -> None:
    meshd = start_meshd(
        answer_with(
            build_status(
                build_peer("newton", mtu_bytes=1216),
                build_peer("bohr"),
                build_peer("curie", mtu_bytes=None),
            )
        )
    )
    ((result, text, _),) = examine(run, host, meshd.path)["path MTU"]
    assert result == "ok" and "newton 1216" in text and "1420" in text and "bohr" not in text


def test_it_works_when_meshd_is_down(run: Run, host: Host, tmp_path: Path) -> None:
    found = examine(run, host, tmp_path / "none.sock")
    assert found["meshd"][0][0] == "fail" and "start" in found["meshd"][0][2]
    assert found["keys"][0][0] == "ok"


def test_files_that_others_can_read(run: Run, start_meshd: StartMeshd, host: Host, tmp_path: Path) -> None:
    host.state.chmod(0o755)
    (host.state / "wireguard.key").chmod(0o644)
    (tmp_path / "wg0.conf").chmod(0o640)
    found = examine(run, host, start_meshd(answer_with(build_status())).path)
    assert ("fail", f"chmod 0700 {host.state}") == (found["state"][0][0], found["state"][0][2])
    assert [result for result, _, _ in found["keys"]] == ["ok", "fail"]
    assert found["boot file"][0][2].startswith("chmod 0600")


def test_what_meshd_sees_becomes_checks(run: Run, start_meshd: StartMeshd, host: Host) -> None:
    status = build_status(
        build_peer("newton", up=False),
        build_peer("bohr", endpoint=None),
        build_peer("curie", configured=False),
        conditions=(
            ConditionStatus(
                code="registry_fork", severity="critical", subject="ab", since=NOW - 60, text="twice"
            ),
        ),
        last_plan=PlanStatus(outcome="held", at=NOW, duration_seconds=0.1, held_because="too much"),
        store_up=False,
    )
    found = examine(run, host, start_meshd(answer_with(status)).path)
    assert found["peers"][0][:2] == ("fail", "1 of 2 do not answer: newton")
    assert found["peers"][1][0] == "warn" and "curie" in found["peers"][1][1]
    assert found["endpoints"][0][1] == "no endpoint known of bohr"
    assert found["condition"][0][:2] == ("fail", "registry_fork ab, for 60 s: twice")
    assert found["plan"][0][0] == "fail" and "apply --force" in found["plan"][0][2]
    assert found["store"][0][0] == "fail" and "503" in found["store"][0][1]


def test_a_clock_that_is_behind(
    run: Run, start_meshd: StartMeshd, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    meshd = start_meshd(answer_with(build_status(build_peer("newton"))))
    monkeypatch.setattr("time.time", lambda: NOW - 86400 * 3)
    assert examine(run, host, meshd.path)["clock"][0][:2] == (
        "warn",
        "the newest signed object is 3 d ahead of this host's clock",
    )


@pytest.mark.parametrize(
    ("freebsd", "advice"), [(False, "sysctl -w net.ipv4"), (True, "sysrc gateway_enable")]
)
def test_forwarding_for_jails(
    run: Run, start_meshd: StartMeshd, host: Host, monkeypatch: pytest.MonkeyPatch, freebsd: bool, advice: str
) -> None:
    monkeypatch.setattr(system, "FREEBSD", freebsd)
    monkeypatch.setattr(system, "read_forwarding", lambda version: False)
    found = examine(run, host, start_meshd(answer_with(build_status())).path)
    assert found["forwarding IPv4"][0][0] == "warn" and advice in found["forwarding IPv4"][0][2]


@pytest.mark.parametrize(("freebsd", "advice"), [(False, "wireguard-go"), (True, "kldload if_wg")])
def test_no_wireguard_at_all(
    run: Run, start_meshd: StartMeshd, host: Host, monkeypatch: pytest.MonkeyPatch, freebsd: bool, advice: str
) -> None:
    monkeypatch.setattr(system, "FREEBSD", freebsd)
    monkeypatch.setattr(system, "_kernel_has_wireguard", lambda: False)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    found = examine(run, host, start_meshd(answer_with(build_status())).path)
    assert found["wireguard"][0][0] == "fail" and advice in found["wireguard"][0][2]


def test_wrong_settings_do_not_stop_it(run: Run, host: Host, tmp_path: Path) -> None:
    host.config.write_text("[wireguard]\nlisten_port = 0\n")
    found = examine(run, host, tmp_path / "none.sock")
    assert found["settings"][0][0] == "fail" and "listen_port" in found["settings"][0][1]
    assert found["meshd"][0][0] == "fail"


def test_an_admin_home_is_examined_and_left_alone(run: Run, tmp_path: Path) -> None:
    store = tmp_path / "store"
    run("init", "--no-passphrase", "--name", "fleet", "--store", f"file://{store}")
    run("add-host", "newton", *enroll(tmp_path, "newton").compared, "--out", tmp_path / "b")
    before = snapshot(tmp_path)
    result = run("doctor", "--json")
    found = {check["name"]: check for check in json.loads(result.stdout)["checks"]}
    assert result.exit_code == 0
    assert found["own log"]["text"] == "1 statements, all of them signed here"
    assert (found["admin home"]["result"], found["store"]["result"]) == ("ok", "ok")
    assert snapshot(tmp_path) == before
    store.rename(tmp_path / "away")
    (tmp_path / "home" / "admin.key").chmod(0o644)
    again = run("doctor")
    assert again.exit_code == 1 and "0644" in again.stdout


def test_a_tunnel_of_somebody_else_is_no_reason_to_force_anything(
    run: Run, host: Host, start_meshd: StartMeshd
) -> None:
    taken = ConditionStatus(
        code="interface_taken",
        severity="critical",
        subject="wg0",
        text="wg0 has a key that is not this host's; give meshd another name (wireguard.interface)",
        since=NOW - 60,
    )
    held = PlanStatus(outcome="held", at=NOW - 5, duration_seconds=0.1)
    status = msgspec.structs.replace(build_status(), conditions=(taken,), last_plan=held)
    meshd = start_meshd(answer_with(status))
    found = examine(run, host, meshd.path)
    assert "--force" not in str(found)
    [(result, text, advice)] = found["interface"]
    assert result == "fail" and "somebody else's" in text and "wireguard.interface" in advice


@pytest.mark.parametrize(("version", "where"), [(None, "there"), (1_792_000_000_000, "on this host")])
def test_a_host_without_a_peer_here_is_looked_for_where_the_cause_is(
    run: Run, host: Host, start_meshd: StartMeshd, version: int | None, where: str
) -> None:
    peer = msgspec.structs.replace(build_peer("newton", configured=False), record_version=version)
    meshd = start_meshd(answer_with(msgspec.structs.replace(build_status(), peers=(peer,))))
    advice = " ".join(advice for _, _, advice in examine(run, host, meshd.path)["peers"])
    assert where in advice
    assert ("published" in advice) == (version is None)
