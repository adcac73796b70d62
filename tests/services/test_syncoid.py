"""The module ``syncoid``: cron lines, and keys that stand in the signed placements."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from copying_fleet import HOSTS, a_fleet, key
from hypothesis import given
from hypothesis import strategies as st
from real_service import need, open_folder
from service_rig import NOW
from trials import trials

from meshd.errors import ConfigError
from meshd.services.config import read_modules
from meshd.services.journal import Journal
from meshd.services.modules.syncoid import Syncoid, SyncoidConfig
from meshd.services.plan import ServicePlan
from meshd.services.schedule import Outcome
from meshd.services.transaction import Transaction
from meshd.services.view import ServiceView

CONFIG = SyncoidConfig(
    file="/etc/cron.d/mesh-syncoid",
    directory="/etc/meshd/syncoid",
    replicate="app",
    datasets=("zroot/data", "zroot/jails"),
)


def with_keys(view: ServiceView, but: tuple[str, ...] = ()) -> ServiceView:
    app = view.services["app"]
    tags = {"root_fs": "backup/mesh", "ssh_host_key": key("H"), "ssh_key": f"{key('C')} root@somewhere"}
    places = tuple(
        each if each.host in but else msgspec.structs.replace(each, tags={**each.tags, **tags})
        for each in app.placements
    )
    return msgspec.structs.replace(view, services={"app": msgspec.structs.replace(app, placements=places)})


def texts(plan: ServicePlan) -> dict[str, str]:
    return {file.path.rpartition("/")[2]: file.text for file in plan.files}


def runs(plan: ServicePlan) -> list[list[str]]:
    return [shlex.split(line) for line in texts(plan)["mesh-syncoid"].splitlines()[1:]]


def test_each_dataset_goes_to_the_next_of_the_ring_as_crontab_and_ssh_expect_it() -> None:
    plan = Syncoid().render(with_keys(a_fleet("syncoid")), CONFIG)
    first, second = runs(plan)
    assert first[:7] == ["15", "*", "*", "*", "*", "root", "/usr/local/bin/syncoid"]
    assert first[-2:] == ["zroot/data", "backup@10.77.0.2:backup/mesh/a/zroot-data"]
    assert second[-2:] == ["zroot/jails", "backup@10.77.0.2:backup/mesh/a/zroot-jails"]
    options = {word.partition("=")[0]: word.partition("=")[2] for word in first if word.startswith("--ssh")}
    assert options["--sshport"] == "8080" and options["--sshkey"] == "/root/.ssh/id_ed25519"
    assert "--sshoption=StrictHostKeyChecking=yes" in first and "--no-privilege-elevation" in first
    assert f"--sshoption=UserKnownHostsFile={CONFIG.directory}/known_hosts" in first


def test_who_may_come_in_is_known_by_key_and_address_together() -> None:
    view = with_keys(a_fleet("syncoid", self_name="b"))
    found = texts(Syncoid().render(view, CONFIG))
    assert found["authorized_keys"] == f'from="10.77.0.1",restrict {key("C")} a\n'
    assert found["known_hosts"] == f"[10.77.0.3]:8080 {key('H')}\n"


def test_without_a_signed_host_key_nothing_is_sent_and_it_is_noticed() -> None:
    plan = Syncoid().render(with_keys(a_fleet("syncoid"), but=("b", "f")), CONFIG)
    assert runs(plan) == [] and texts(plan)["authorized_keys"] == ""
    assert [note.split(":")[0] for note in plan.notes] == [
        "b gets no copy yet",
        "f may not come in yet",
    ]
    assert plan.checks == (), "ssh-keygen takes no empty file"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schedule": "* * * * * ; rm"}, "five fields of crontab"),
        ({"datasets": ("zroot/data; rm -rf",)}, "a ZFS filesystem expected"),
        ({"user": "$(id)"}, "syncoid.user"),
        ({"program": "/bin/sync oid"}, "syncoid.program"),
        ({"options": ("--recursive; id",)}, "syncoid.options"),
        ({"options": ("--sendoptions=$(id)",)}, "syncoid.options"),
        ({"directory": "/etc/a b"}, "syncoid.directory"),
    ],
)
def test_nothing_that_a_shell_would_read_gets_into_a_cron_line(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Syncoid().render(with_keys(a_fleet("syncoid")), msgspec.structs.replace(CONFIG, **changes))


@pytest.mark.parametrize(
    ("tag", "value"),
    [
        ("root_fs", "pool/x; id"),
        ("root_fs", "-o x"),
        ("ssh_key", 'ssh-ed25519 AAAA" command="id'),
        ("ssh_host_key", "ssh-rsa AAAA"),
    ],
)
def test_a_tag_that_is_no_key_or_no_filesystem_is_refused(tag: str, value: str) -> None:
    view = with_keys(a_fleet("syncoid"))
    app = view.services["app"]
    places = tuple(msgspec.structs.replace(each, tags={**each.tags, tag: value}) for each in app.placements)
    view = msgspec.structs.replace(view, services={"app": msgspec.structs.replace(app, placements=places)})
    with pytest.raises(ConfigError, match=f"{tag}"):
        Syncoid().render(view, CONFIG)


@trials()
@given(
    st.dictionaries(st.sampled_from(HOSTS), st.sampled_from(["active", "draining"]), min_size=2),
    st.sampled_from(["ring", "roles"]),
)
def test_whoever_is_sent_to_lets_the_sender_in(states: dict[str, str], topology: Any) -> None:
    view = with_keys(a_fleet("syncoid", states))
    config = msgspec.structs.replace(CONFIG, topology=topology)
    plans = {
        each.address: Syncoid().render(msgspec.structs.replace(view, self_name=each.host), config)
        for each in view.services["app"].placements
    }
    calls = {
        (caller, match[1])
        for caller, plan in plans.items()
        for run in runs(plan)
        if (match := re.match(r"backup@([^:]+):", run[-1]))
    }
    let_in = {
        (caller, address)
        for address, plan in plans.items()
        for caller in re.findall(r'from="([^"]+)"', texts(plan)["authorized_keys"])
    }
    assert calls == let_in


@pytest.fixture
def folder() -> Iterator[Path]:
    with open_folder() as made:
        yield made


@pytest.mark.real
def test_openssh_reads_the_keys_and_a_bad_one_changes_nothing(folder: Path) -> None:
    """Keys that ssh-keygen made; then one whose letters are right and whose bytes are none."""
    need("ssh-keygen")
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "id")], check=True, timeout=60
    )
    made = " ".join((folder / "id.pub").read_text().split()[:2])
    (folder / "keys").mkdir()
    table = {
        "file": str(folder / "mesh-syncoid"),
        "directory": str(folder / "keys"),
        "replicate": "app",
        "datasets": ["zroot/data"],
    }

    def apply(key: str, generation: int) -> Outcome:
        view = with_keys(a_fleet("syncoid", generation=generation))
        app = view.services["app"]
        places = tuple(
            msgspec.structs.replace(each, tags={**each.tags, "ssh_host_key": key, "ssh_key": key})
            for each in app.placements
        )
        view = msgspec.structs.replace(
            view, services={"app": msgspec.structs.replace(app, placements=places)}
        )
        config = read_modules({"syncoid": table}, "test")["syncoid"]
        plan = Syncoid().render(view, msgspec.convert(dict(config.own), SyncoidConfig))
        transaction = Transaction(config=config, journal=Journal(folder / "state"))
        return transaction.apply(plan, view, f"input {generation}", now=NOW).outcome

    assert apply(made, 1) is Outcome.APPLIED
    before = (folder / "keys" / "known_hosts").read_text()
    assert made in before
    assert apply(f"ssh-ed25519 {'A' * 68}", 2) is Outcome.REFUSED
    assert (folder / "keys" / "known_hosts").read_text() == before
