"""Services as an administrator declares them, and a host's modules as its operator sees them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest
from admin_fixture import enroll
from click.testing import CliRunner, Result
from daemon_rig import build_rig, running, settings_for
from meshes import SignedMesh, full_store

from meshd.observe.protocol import ModuleRetry, ServiceDocument
from meshd.observe.status import ServicesStatus
from wgctl.main import main
from wgctl.views.services import show_retries

Run = Callable[..., Result]


@pytest.fixture
def desk(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A mesh of two hosts; tesla has jails in 10.17.1.0/24."""
    monkeypatch.chdir(tmp_path)

    def good(*words: object) -> Result:
        result = run(*words)
        assert result.exit_code == 0, result.output
        return result

    good("init", "--no-passphrase", "--name", "fleet", "--store", f"file://{tmp_path}/store")
    for name, jails in (("tesla", ["--jails", "10.17.1.0/24"]), ("newton", [])):
        host = enroll(tmp_path, name, networks=("10.17.1.0/24",) if jails else ())
        good("add-host", name, *host.compared, *jails)
    return run


def listed(run: Run) -> dict[str, object]:
    found = json.loads(run("service", "list", "--json", "--offline").stdout)["services"]
    return {
        row["name"]: (
            row["state"],
            {f"{p['host']}/{p['jail']}@{p['address']}": p["state"] for p in row["placements"]},
        )
        for row in found
    }


@pytest.mark.slow
def test_a_service_from_its_declaration_to_its_end(desk: Run) -> None:
    added = desk(
        "service", "add", "postgres", "--kind", "patroni", "--port", 5432, "--check", "http=:8008/health"
    )
    assert added.exit_code == 0 and "signed: statement 3" in added.stdout
    placed = desk(
        "service",
        "place",
        "tesla/postgres",
        "--jail",
        "pg",
        "--address",
        "10.17.1.5",
        "--tag",
        "priority=100",
    )
    assert placed.exit_code == 0 and "postgres on tesla/pg at 10.17.1.5 priority=100: active" in placed.stdout
    assert desk("service", "place", "newton/postgres").exit_code == 0
    assert listed(desk) == {
        "postgres": ("active", {"tesla/pg@10.17.1.5": "active", "newton/@10.99.0.2": "active"})
    }
    again = desk("service", "place", "tesla/postgres")
    assert again.exit_code == 0 and "said before" in again.stdout
    assert desk("service", "drain", "tesla").exit_code == 0
    assert desk("service", "remove", "newton/postgres").exit_code == 0
    assert listed(desk)["postgres"] == (
        "active",
        {"tesla/pg@10.17.1.5": "draining", "newton/@10.99.0.2": "retired"},
    )
    table = desk("service", "list", "--offline").stdout
    assert "postgres" in table and "draining" in table and "10.99.0.2" not in table
    shown = desk("service", "show", "postgres").stdout
    assert "kind patroni" in shown and "priority=100" in shown
    assert desk("service", "remove", "postgres", "--yes").exit_code == 0
    assert desk("service", "add", "postgres", "--kind", "mysql", "--port", 3306).exit_code == 0


@pytest.mark.slow
def test_a_change_keeps_what_it_does_not_name(desk: Run) -> None:
    desk(
        "service",
        "add",
        "db",
        "--kind",
        "x",
        "--port",
        1,
        "--scope",
        "region",
        "--min-endpoints",
        2,
        "--check",
        "tcp",
    )
    desk("service", "add", "db", "--port", 2)
    shown = desk("service", "show", "db").stdout
    assert "port 2, scope region" in shown and "at least 2 placements, check tcp" in shown
    desk("service", "place", "newton/db", "--tag", "a=1", "--tag", "b=2")
    desk("service", "place", "newton/db", "--tag", "a=")
    assert (
        " b=2" in desk("service", "show", "db").stdout and " a=1" not in desk("service", "show", "db").stdout
    )


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("add", "db"), 2, "--kind and --port are needed"),
        (("add", "Db", "--kind", "x", "--port", "1"), 1, "a DNS label"),
        (("add", "app", "--kind", "other", "--port", "1"), 1, "'x' expected"),
        (("add", "app", "--check", "ping"), 1, "tcp, tcp=:PORT or http=:PORT/PATH expected"),
        (("place", "tesla"), 2, "HOST/SERVICE expected"),
        (("place", "tesla/db"), 1, "not declared"),
        (("place", "tesla/app", "--address", "10.17.2.5"), 1, "an address of tesla"),
        (("place", "tesla/app", "--jail", "pg"), 2, "needs its --address"),
        (("place", "curie/app"), 2, "not in the registry"),
        (("place", "tesla/app", "--tag", "x"), 2, "NAME=VALUE"),
        (("drain", "tesla/app"), 2, "not placed on this host"),
        (("drain", "tesla"), 2, "no placement on this host"),
        (("remove", "nothing", "--yes"), 2, "not declared"),
        (("show", "nothing"), 2, "neither a service nor a module"),
        (("apply",), 2, ""),
    ],
)
def test_what_cannot_be_said_is_refused_by_name(
    desk: Run, words: tuple[str, ...], code: int, said: str
) -> None:
    assert desk("service", "add", "app", "--kind", "x", "--port", 80).exit_code == 0
    before = listed(desk)
    result = desk("--config", "/nowhere/meshd.toml", "service", *words)
    assert result.exit_code == code and said in result.stderr
    assert listed(desk) == before


def test_a_draft_is_signed_where_the_key_is(desk: Run, tmp_path: Path) -> None:
    draft = tmp_path / "wishes"
    desk("service", "add", "app", "--kind", "x", "--port", 80)
    drafted = desk("service", "place", "newton/app", "--tag", "weight=5", "--draft", draft)
    assert drafted.exit_code == 0 and "1 to be signed" in drafted.stdout
    assert listed(desk)["app"] == ("active", {})
    assert desk("sign", draft, "--yes").exit_code == 1
    digest = drafted.stdout.partition("digest ")[2].split()[0]
    signed = desk("sign", draft, "--yes", "--fingerprint", digest)
    assert signed.exit_code == 0, signed.output
    assert listed(desk)["app"] == ("active", {"newton/@10.99.0.2": "active"})


def test_the_schemas_are_published_as_the_program_prints_them(run: Run) -> None:
    schemas = json.loads(run("service", "schema").stdout)
    assert set(schemas) == {"view", "plan"} and "ServicePlan" in schemas["plan"]["$defs"]
    published = Path(__file__).parents[2] / "docs" / "services" / "schema.json"
    assert json.loads(published.read_text()) == schemas


@pytest.mark.parametrize(
    ("when", "running", "said"),
    [
        ("now", None, "dns: tried now"),
        ("in_mesh", None, "dns: tried once this host has a place in the mesh"),
        (
            "after_run",
            12.4,
            "end of the run that began 12 s ago; if it hangs, it is ended in 23 s at most",
        ),
        ("after_run", 41.0, "began 41 s ago\n"),
    ],
)
def test_an_operator_is_told_when_a_module_is_tried_once_more(
    when: Literal["now", "in_mesh", "after_run"],
    running: float | None,
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    retry = ModuleRetry(name="dns", when=when, running_seconds=running, module_limit_seconds=35.0)
    show_retries(ServiceDocument(status=ServicesStatus(), retries=(retry,)))
    assert said in capsys.readouterr().out


@pytest.mark.slow
def test_an_operator_sees_applies_and_takes_back_what_a_module_does(tmp_path: Path) -> None:
    mesh = SignedMesh.create()
    for name in ("tesla", "newton"):
        mesh.add(name)
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 localhost\n")
    settings = settings_for(tmp_path, services={"hosts": {"file": str(hosts)}})
    rig = build_rig(tmp_path, mesh, mesh.hosts["tesla"], stores=(full_store(mesh),), settings=settings)

    async def ctl(*words: str) -> Result:
        arguments = ["--home", str(tmp_path / "no-home"), "--socket", str(rig.socket), "service", *words]
        return await asyncio.to_thread(CliRunner().invoke, main, arguments)

    async def scenario() -> None:
        async with running(rig):
            applied = await ctl("apply", "hosts")
            assert applied.exit_code == 0, applied.output
            assert "newton.mesh" in hosts.read_text()
            assert (await ctl("diff")).exit_code == 0
            hosts.write_text(hosts.read_text().replace("newton.mesh", "evil.mesh"))
            held = await ctl("apply", "hosts")
            assert held.exit_code == 4 and "--overwrite" in held.stdout
            assert (await ctl("apply", "hosts", "--overwrite")).exit_code == 0
            back = await ctl("rollback", "hosts", "--original")
            assert back.exit_code == 0 and hosts.read_text() == "127.0.0.1 localhost\n"
            again = await ctl("retry", "hosts")
            assert again.exit_code == 0 and again.stdout.startswith("hosts: tried now\n")
            unknown = await ctl("apply", "dns")
            assert unknown.exit_code == 2 and "no [services.dns]" in unknown.stderr
            assert (await ctl("advise")).exit_code == 0

    asyncio.run(scenario())
