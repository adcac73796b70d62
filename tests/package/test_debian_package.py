"""The package for Debian: installed on a clean one, run by its systemd, upgraded, and removed again."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from clean_debian import (
    SETTINGS,
    CleanDebian,
    assert_left,
    carriers,
    clean_debian,
    copy_into,
    found_mesh,
    type_page,
    works,
)
from until import wait_until

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.long]

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def package() -> Path:
    subprocess.run(["sh", str(ROOT / "tools" / "package.sh")], check=True, timeout=900)
    (built,) = (ROOT / "dist").glob("wg-meshd_*.deb")
    return built


@pytest.fixture(scope="module")
def machine(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CleanDebian]:
    """A Debian with the package on it, booted, and no settings yet."""
    with clean_debian(tmp_path_factory.mktemp("debian")) as made:
        made.boot()
        made.run(
            "apt-get", "install", "-y", copy_into(made, package), "wireguard-go", "--no-install-recommends"
        )
        yield made


@pytest.fixture(scope="module")
def without_settings(machine: CleanDebian) -> str:
    """What became of the unit that was started before there were settings."""
    machine.run("systemctl", "start", "meshd")
    return machine.run("systemctl", "is-active", "meshd", check=False).stdout.strip()


@pytest.fixture(scope="module")
def member(machine: CleanDebian, without_settings: str) -> CleanDebian:
    """The same, in a mesh of its own, with a meshd that runs as its unit says."""
    assert without_settings == "inactive"
    found_mesh(machine)
    machine.run("systemctl", "start", "meshd")
    wait_until("meshd works", lambda: works(machine))
    return machine


def key(machine: CleanDebian) -> str:
    """The WireGuard key of the host, as its meshd sees it."""
    done = machine.run("wgctl", "status", "--local", "--json")
    return str(json.loads(done.stdout)["status"]["host"]["public_key"])


def main_pid(machine: CleanDebian) -> int:
    return int(machine.run("systemctl", "show", "--property", "MainPID", "--value", "meshd").stdout)


def test_it_brings_what_servers_need_and_nothing_that_developers_need(machine: CleanDebian) -> None:
    listed = (machine.tree / "usr/share/doc/wg-meshd/libraries").read_text().splitlines()
    names = {line.partition("==")[0] for line in listed}
    assert {"botocore", "PyNaCl", "segno", "wg-meshd"} <= names
    assert not names & {"pytest", "hypothesis", "mypy", "ruff", "pip"}
    pages = sorted(path.name for path in (machine.tree / "usr/share/man").rglob("*.gz"))
    assert {"meshd.8.gz", "meshd.toml.5.gz", "wgctl.8.gz"} <= set(pages)
    assert machine.run("wgctl", "explain", "plan_held").stdout.startswith("plan_held")
    assert machine.run("dpkg", "--verify", "wg-meshd").stdout == ""


def test_the_unit_is_enabled_and_waits_for_settings(machine: CleanDebian, without_settings: str) -> None:
    assert machine.run("systemctl", "is-enabled", "meshd").stdout.strip() == "enabled"
    assert without_settings == "inactive"


def test_the_unit_leaves_meshd_one_device_and_one_folder_of_kernel_settings(member: CleanDebian) -> None:
    def in_unit(script: str) -> str:
        entered = ("nsenter", "--target", str(main_pid(member)), "--mount", "sh", "-c", script)
        return member.run(*entered, check=False).stdout.strip()

    assert in_unit("echo 2 >/proc/sys/net/ipv4/conf/lo/rp_filter && echo written") == "written"
    assert in_unit("echo 1 >/proc/sys/net/ipv4/ip_forward && echo written") == ""
    assert in_unit("test -c /dev/net/tun && echo there") == "there"
    assert in_unit("find /dev -type b -o -name mem -o -name kmsg -o -name rtc0") == ""


def test_restarts_and_rotations_leave_no_unclean_termination(member: CleanDebian) -> None:
    carried_by = carriers(member)
    member.run("systemctl", "restart", "meshd")
    wait_until("meshd is back", lambda: works(member))
    assert carriers(member) == carried_by, "a restart loses no packet"
    before = key(member)
    member.run("wgctl", "rotate-keys", "tesla")
    member.run("wgctl", "apply")
    wait_until("the new key carries the mesh", lambda: key(member) != before, 180)
    member.run("systemctl", "restart", "meshd")
    wait_until("meshd is back", lambda: works(member))
    journal = member.run("journalctl", "--unit", "meshd", "--no-pager").stdout
    assert "Started meshd.service" in journal
    assert [line for line in journal.splitlines() if "unclean" in line or "remains running" in line] == []


def test_a_host_that_relays_for_nobody_works_with_the_narrow_drop_in(member: CleanDebian) -> None:
    examples, folder = "/usr/share/doc/wg-meshd/examples", "/etc/systemd/system/meshd.service.d"
    member.run("cp", "-p", "/etc/meshd/meshd.toml", "/root/meshd.toml")
    member.run("sh", "-c", "printf '[relay]\\nenabled = false\\n' >>/etc/meshd/meshd.toml")
    member.run("install", "-D", "-m", "644", f"{examples}/narrow.conf", f"{folder}/narrow.conf")
    member.run("systemctl", "daemon-reload")
    member.run("systemctl", "restart", "meshd")
    wait_until("meshd works", lambda: works(member))
    before = key(member)
    member.run("wgctl", "rotate-keys", "tesla")
    member.run("wgctl", "apply")
    wait_until("the new key carries the mesh", lambda: key(member) != before, 180)
    assert works(member)
    judged = member.run("systemd-analyze", "security", "--no-pager", "meshd").stdout.splitlines()[-1]
    assert float(judged.partition("meshd.service:")[2].split()[0]) < 2.0, judged
    member.run("rm", "-r", folder)
    member.run("mv", "/root/meshd.toml", "/etc/meshd/meshd.toml")
    member.run("systemctl", "daemon-reload")
    member.run("systemctl", "restart", "meshd")
    wait_until("meshd is back", lambda: works(member))


def test_an_upgrade_restarts_meshd_and_keeps_the_mesh(member: CleanDebian, package: Path) -> None:
    carried_by, pid = carriers(member), main_pid(member)
    member.run("dpkg", "--install", copy_into(member, package))
    assert main_pid(member) not in {0, pid}
    assert carriers(member) == carried_by


def test_an_upgrade_over_wrong_settings_keeps_the_meshd_that_runs(member: CleanDebian, package: Path) -> None:
    wait_until("meshd works", lambda: works(member))
    settings, pid = member.tree / "etc/meshd/meshd.toml", main_pid(member)
    settings.write_text(SETTINGS + "[nonsense]\n")
    done = member.run("dpkg", "--install", copy_into(member, package))
    settings.write_text(SETTINGS)
    assert "goes on with the old version" in done.stderr
    assert main_pid(member) == pid


def test_a_removal_names_the_interface_that_stays_and_keeps_the_identity(member: CleanDebian) -> None:
    said = member.run("apt-get", "purge", "-y", "wg-meshd").stdout
    assert "interface wg0 stays as it is" in said and "ip link delete wg0" in said
    assert "kept: /var/lib/meshd" in said
    assert (member.tree / "var/lib/meshd/identity.key").exists()
    assert not (member.tree / "usr/lib/wg-meshd").exists()
    assert member.run("systemctl", "is-active", "meshd", check=False).stdout.strip() == "inactive"


def test_the_page_of_leaving_typed_as_it_stands_leaves_nothing_but_the_keys(
    member: CleanDebian, package: Path
) -> None:
    """After the removal above, which it is said to be the way out of."""
    member.run("dpkg", "--install", copy_into(member, package))
    member.run("systemctl", "start", "meshd")
    wait_until("meshd works", lambda: works(member))
    refused = member.run("meshd", "leave", "--yes", check=False)
    assert refused.returncode == 4 and "systemctl disable --now meshd" in refused.stderr
    assert works(member) and carriers(member), "nothing was taken away from a meshd that runs"
    type_page(member, "From a Debian package")
    assert_left(member)
