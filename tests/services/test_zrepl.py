"""The module ``zrepl``: what one end sends to, the other end serves, and knows by its address."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from copying_fleet import HOSTS, a_fleet
from hypothesis import given
from hypothesis import strategies as st
from trials import trials

from meshd.errors import ConfigError
from meshd.services.modules.zrepl import Zrepl, ZreplConfig
from meshd.services.view import ServiceView

FILE = "/usr/local/etc/zrepl/zrepl.yml"
CONFIG = ZreplConfig(file=FILE, filesystems={"zroot/data<": True}, replicate="app", root_fs="zroot/copies")


def jobs(view: ServiceView, config: ZreplConfig = CONFIG) -> dict[str, dict[str, Any]]:
    [file] = Zrepl().render(view, config).files
    return {job["name"]: job for job in json.loads(file.text)["jobs"]}


def seen_by(view: ServiceView, host: str) -> ServiceView:
    return msgspec.structs.replace(view, self_name=host)


def test_a_host_of_a_ring_serves_the_one_before_and_sends_to_the_one_after() -> None:
    found = jobs(a_fleet("zrepl", self_name="b"))
    assert found["mesh_sink"]["serve"] == {
        "type": "tcp",
        "listen": "10.77.0.2:8080",
        "listen_freebind": True,
        "clients": {"10.77.0.1": "a"},
    }
    assert found["mesh_to_c"]["connect"] == {"type": "tcp", "address": "10.77.0.3:8080"}
    assert found.keys() == {"mesh_sink", "mesh_to_c"}


def test_nothing_is_destroyed_unless_the_operator_says_so() -> None:
    """zrepl destroys each snapshot that no rule keeps."""
    keep_all = {"type": "regex", "regex": ".*"}
    pruning = jobs(a_fleet("zrepl"))["mesh_to_b"]["pruning"]
    assert keep_all in pruning["keep_sender"] and keep_all in pruning["keep_receiver"]
    grid = {"type": "grid", "grid": "1x1h(keep=all) | 24x1h", "regex": "^zrepl_"}
    config = msgspec.structs.replace(CONFIG, keep_sender=(grid,), keep_receiver=(grid,))
    pruning = jobs(a_fleet("zrepl"), config)["mesh_to_b"]["pruning"]
    assert pruning == {"keep_sender": [grid, {"type": "not_replicated"}], "keep_receiver": [grid]}


def test_a_jail_has_an_identity_and_an_address_of_its_own() -> None:
    view = a_fleet("zrepl", {"a": "active", "b": "active"}, self_name="b")
    app = view.services["app"]
    jailed = msgspec.structs.replace(app.placements[0], jail="Backup.1", address="10.78.1.9")
    app = msgspec.structs.replace(app, placements=(jailed, app.placements[1]))
    found = jobs(msgspec.structs.replace(view, services={"app": app}))
    assert found["mesh_sink"]["serve"]["clients"] == {"10.78.1.9": "a_Backup_1"}
    assert found["mesh_to_a_Backup_1"]["connect"]["address"] == "10.78.1.9:8080"


def test_a_host_is_known_by_every_address_that_it_may_call_from() -> None:
    view = a_fleet("zrepl", self_name="b")
    both = msgspec.structs.replace(view.hosts["a"], addresses=("10.77.0.1", "fd77::1"))
    found = jobs(msgspec.structs.replace(view, hosts={**view.hosts, "a": both}))
    assert found["mesh_sink"]["serve"]["clients"] == {"10.77.0.1": "a", "fd77::1": "a"}


def test_what_is_the_operators_is_handed_on_as_it_is() -> None:
    config = msgspec.structs.replace(
        CONFIG,
        settings={"logging": [{"type": "syslog", "level": "info", "format": "human"}]},
        metrics="127.0.0.1:9811",
        send={"encrypted": True},
        snapshotting={"type": "periodic", "prefix": "zrepl_", "interval": "10m"},
    )
    plan = Zrepl().render(a_fleet("zrepl"), config)
    document = json.loads(plan.files[0].text)
    assert document["global"] == {
        **config.settings,
        "monitoring": [{"type": "prometheus", "listen": "127.0.0.1:9811"}],
    }
    job = document["jobs"][1]
    assert job["send"] == config.send and job["snapshotting"] == config.snapshotting
    assert [probe.url for probe in plan.verify if hasattr(probe, "url")] == ["http://127.0.0.1:9811/metrics"]
    assert plan.reload == "restart" and plan.restart_why
    assert plan.checks[0].argv == ("zrepl", "--config", f"{{staged:{FILE}}}", "configcheck")


@pytest.mark.parametrize(
    ("changes", "states", "words"),
    [
        ({"root_fs": ""}, HOSTS, "zrepl.root_fs: needed, as f sends here"),
        ({"root_fs": "/zroot"}, HOSTS, "a ZFS filesystem expected"),
        ({"root_fs": "zroot/../x"}, HOSTS, "a ZFS filesystem expected"),
        ({"filesystems": {}}, HOSTS, "zrepl.filesystems: empty"),
        ({"included": True, "metrics": "127.0.0.1:1"}, HOSTS, "an included file holds jobs alone"),
        ({}, ("a",), "nobody to send to or to receive from"),
        ({}, ("b", "c"), "a/app: 0 placements seen, one expected"),
        ({"replicate": "other"}, HOSTS, "no service 'other' of kind zrepl"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(
    changes: dict[str, Any], states: tuple[str, ...], words: str
) -> None:
    view = a_fleet("zrepl", dict.fromkeys(states, "active"))
    with pytest.raises(ConfigError, match=words):
        Zrepl().render(view, msgspec.structs.replace(CONFIG, **changes))


@trials()
@given(
    st.dictionaries(st.sampled_from(HOSTS), st.sampled_from(["active", "draining"]), min_size=2),
    st.sampled_from(["ring", "roles"]),
)
def test_every_connection_has_an_end_that_expects_it(states: dict[str, str], topology: Any) -> None:
    """Of any mesh: whoever calls an address is a client there, under the name that the copies have."""
    view = a_fleet("zrepl", states)
    config = msgspec.structs.replace(CONFIG, topology=topology)
    files = {}
    for each in view.services["app"].placements:
        try:
            files[each.address] = (each.host, jobs(seen_by(view, each.host), config))
        except ConfigError as error:
            assert "nobody to send to" in str(error)
    for address, (host, found) in files.items():
        for name, job in found.items():
            if name != "mesh_sink":
                there = files[job["connect"]["address"].rpartition(":")[0]][1]["mesh_sink"]["serve"]
                assert there["clients"][address] == host and there["listen"] == job["connect"]["address"]
        for caller in found.get("mesh_sink", {}).get("serve", {}).get("clients", {}):
            targets = [job["connect"]["address"] for job in files[caller][1].values() if "connect" in job]
            assert f"{address}:8080" in targets, "nobody may connect who does not send"
