"""A host's jails become the words of an administrator, and those that he has signed are asked for no more."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from daemon_rig import build_rig, settings_for
from fakebsd import FakeBSD
from freebsd_host import addressed, made
from meshes import NOW, SignedMesh
from quick_tools import QuickTools

from meshd.backend.freebsd_jails import FreeBSDJails
from meshd.registry.statement import Place, Service

Run = Callable[..., Result]


@pytest.fixture
def mesh() -> SignedMesh:
    mesh = SignedMesh.create()
    mesh.add("tesla", jails=("10.17.1.0/24",))
    declared = Service(
        name="db", kind="x", port=5432, scope="mesh", min_endpoints=1, check="", state="active"
    )
    key, envelope = mesh.signer.service(declared, now=NOW)
    mesh.objects[key] = envelope
    return mesh


@pytest.fixture
def bsd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeBSD:
    """tesla, with two VNET jails in its granted network, and one on the host's own addresses elsewhere."""
    bsd = FakeBSD(tmp_path / "bsd")
    lines = (
        "ifconfig bridge create",
        "ifconfig bridge0 inet 10.17.1.1/24 up",
        *(line for number in (0, 1) for line in (*made(number), *addressed(number))),
        "ifconfig lo0 inet 192.0.2.7/32 alias",
        "jail -c name=elsewhere path=/ ip4.addr=192.0.2.7 persist",
    )
    for line in lines:
        assert bsd.answer(line.split()).returncode == 0, line
    monkeypatch.setattr("meshd.backend.select.open_jail_host", lambda: FreeBSDJails(QuickTools(bsd)))
    return bsd


def discovered(run: Run, directory: Path, mesh: SignedMesh, *words: str) -> str:
    """What the command prints on tesla, which has joined the mesh as it is now."""
    build_rig(directory, mesh, mesh.hosts["tesla"], settings=settings_for(directory))
    config = directory / "meshd.toml"
    config.write_text(f'state_dir = "{directory}/state"\nrun_dir = "{directory}/run"\n')
    result = run("--config", config, "service", "discover", *words)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_jails_without_a_placement_are_proposed_until_an_administrator_has_signed_them(
    run: Run, tmp_path: Path, mesh: SignedMesh, bsd: FakeBSD
) -> None:
    lines = discovered(run, tmp_path / "first", mesh).splitlines()
    assert lines == [
        f"wgctl service place tesla/SERVICE --jail v{number} --address 10.17.1.2{number}" for number in (0, 1)
    ]
    words = shlex.split(lines[0])
    place = Place(
        hid=mesh.hosts["tesla"].hid,
        service="db",
        jail=words[words.index("--jail") + 1],
        address=words[words.index("--address") + 1],
        tags={},
        state="active",
    )
    key, envelope = mesh.signer.place(place, now=NOW)
    mesh.objects[key] = envelope
    left = json.loads(discovered(run, tmp_path / "second", mesh, "--json"))
    assert left == {
        "format": "wgctl-service-discover/1",
        "host": "tesla",
        "jails": [
            {"jail": "v1", "address": "10.17.1.21", "service": "", "port": None, "declared_port": None}
        ],
    }


def a_bastille_jail(bsd: FakeBSD, root: Path, name: str, address: str, *tags: str) -> Path:
    """As Bastille lays it out and keeps its tags: a line each, sorted."""
    (root / name / "root").mkdir(parents=True)
    (root / name / "tags").write_text("".join(f"{tag}\n" for tag in sorted(tags)))
    for line in (
        f"ifconfig lo0 inet {address}/32 alias",
        f"jail -c name={name} path={root / name / 'root'} ip4.addr={address} persist",
    ):
        assert bsd.answer(line.split()).returncode == 0, line
    return root / name / "tags"


def sign(mesh: SignedMesh, words: list[str]) -> None:
    """What an administrator's machine makes of a proposed ``wgctl service place``."""
    host, _, service = words[3].partition("/")
    found = dict(zip(words[4::2], words[5::2], strict=True))
    body = Place(
        hid=mesh.hosts[host].hid,
        service=service,
        jail=found["--jail"],
        address=found["--address"],
        tags={},
        state="active",
    )
    key, envelope = mesh.signer.place(body, now=NOW)
    mesh.objects[key] = envelope


def test_what_bastilles_tags_say_is_proposed_by_name_until_it_is_signed(
    run: Run, tmp_path: Path, mesh: SignedMesh, bsd: FakeBSD
) -> None:
    root = tmp_path / "bastille"
    a_bastille_jail(bsd, root, "pg", "10.17.1.30", "svc.db.5433", "svc.cache.6379", "production")
    a_bastille_jail(bsd, root, "away", "192.0.2.9", "svc.db.5432")
    lines = discovered(run, tmp_path / "first", mesh).splitlines()
    assert lines[:4] == [
        "wgctl service add cache --kind WORD --port 6379",
        "wgctl service place tesla/cache --jail pg --address 10.17.1.30",
        "# db is declared with port 5432, jail pg says 5433",
        "wgctl service place tesla/db --jail pg --address 10.17.1.30",
    ]
    assert not any("away" in line for line in lines), "its address was not granted to this host"
    sign(mesh, shlex.split(lines[3]))
    left = discovered(run, tmp_path / "second", mesh).splitlines()
    assert left == [*lines[:2], *lines[4:]]


def test_a_tag_that_names_no_service_and_tags_that_cannot_be_read_are_warnings(
    run: Run, tmp_path: Path, mesh: SignedMesh, bsd: FakeBSD
) -> None:
    """Beside a jail's root lie its tags. Whoever links them elsewhere reads nothing."""
    root = tmp_path / "bastille"
    a_bastille_jail(bsd, root, "odd", "10.17.1.31", "svc.Db.5432", "svc.x;id", "svc.db.70000")
    link = a_bastille_jail(bsd, root, "link", "10.17.1.32")
    link.unlink()
    link.symlink_to("/etc/passwd")
    build_rig(tmp_path, mesh, mesh.hosts["tesla"], settings=settings_for(tmp_path))
    config = tmp_path / "meshd.toml"
    config.write_text(f'state_dir = "{tmp_path}/state"\nrun_dir = "{tmp_path}/run"\n')
    result = run("--config", config, "service", "discover")
    assert result.exit_code == 0, result.output
    assert "jail odd: tag 'svc.x;id' seen, svc.NAME or svc.NAME.PORT expected" in result.stderr
    assert "svc.db.70000" in result.stderr and f"{link}: " in result.stderr
    assert "wgctl service place tesla/SERVICE --jail odd --address 10.17.1.31" in result.stdout


def test_where_containers_are_not_known_nothing_is_proposed(
    run: Run, tmp_path: Path, mesh: SignedMesh
) -> None:
    """A bridge's address is the host's: as a placement it would lead clients to where no service is."""
    build_rig(tmp_path, mesh, mesh.hosts["tesla"], settings=settings_for(tmp_path))
    config = tmp_path / "meshd.toml"
    config.write_text(f'state_dir = "{tmp_path}/state"\nrun_dir = "{tmp_path}/run"\n')
    result = run("--config", config, "service", "discover")
    assert result.exit_code == 2 and "does not say" in result.stderr and result.stdout == ""
