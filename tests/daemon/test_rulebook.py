"""What a file may say is what a record may say: the check and the daemon go by one set of rules."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from daemon_rig import build_rig, running, settings_for
from meshes import SignedMesh

from meshd.errors import ConfigError
from meshd.host.rulebook import refuse_unusable
from meshd.host.state import HostState
from meshd.settings import parse_settings

NINE = [f"192.0.2.{n}:51820" for n in range(1, 10)]
UNSAYABLE: dict[str, dict[str, Any]] = {
    "nine endpoints": {"host": {"endpoints": NINE}},
    "more networks than a record holds": {"jails": {"networks": [f"10.17.{n}.0/24" for n in range(70)]}},
    "IPv4 inside IPv6": {"jails": {"networks": ["::ffff:10.17.0.0/112"]}},
}


def refuse(tmp_path: Path, document: dict[str, Any]) -> None:
    settings = parse_settings({"state_dir": str(tmp_path), **document}, source="meshd.toml")
    refuse_unusable(settings, HostState(settings.state_dir), "meshd.toml")


@pytest.mark.parametrize("what", UNSAYABLE)
def test_settings_that_no_record_could_say_are_refused_by_the_check(what: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"meshd\.toml: "):
        refuse(tmp_path, UNSAYABLE[what])


@pytest.mark.parametrize("url", ["file:relative", "ftp://192.0.2.1/mesh", "s3+http://192.0.2.1:99999/mesh"])
def test_a_store_that_cannot_be_opened_is_refused_by_the_check(url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="store"):
        refuse(tmp_path, {"registry": {"stores": [url]}})


def test_a_bucket_may_wait_for_the_credentials_that_the_bundle_brings(tmp_path: Path) -> None:
    refuse(tmp_path, {"registry": {"stores": ["s3+http://192.0.2.1:3900/mesh?region=garage"]}})


@pytest.mark.parametrize("count", [0, 1, 8])
def test_what_a_record_holds_passes(count: int, tmp_path: Path) -> None:
    refuse(tmp_path, {"host": {"endpoints": NINE[:count]}})


def test_settings_that_no_record_could_say_are_refused_by_a_reload(tmp_path: Path) -> None:
    mesh = SignedMesh.create()
    rig = build_rig(tmp_path, mesh, mesh.add("tesla"))

    async def scenario() -> None:
        async with running(rig):
            before = rig.world.settings
            rig.reload_with = settings_for(tmp_path, host={"endpoints": NINE})
            refused = await rig.ask("reload")
            assert refused.exit_code == 2 and "at most 8" in (refused.error or "")
            assert "settings_refused" in await rig.codes()
            assert (await rig.turn()).settings == before

    asyncio.run(scenario())
