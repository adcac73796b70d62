"""``wgctl add-host --ssh`` against a real sshd on a host of the lab, and what stops it half-way."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from real_service import need
from until import wait_until

from meshd.lab.fleet import Fleet, Member
from meshd.lab.geography import PLACES
from meshd.lab.namespaces import NamespaceHost, NamespaceLab

pytestmark = [pytest.mark.root, pytest.mark.slow]

PROGRAMS = Path(sys.executable).parent
PORT = 2222
NEWCOMER = "newcomer"


class Site:
    """A mesh of one host, a machine with nothing but meshd and sshd, and an admin who may log in there."""

    def __init__(self) -> None:
        self.lab = NamespaceLab()
        self.fleet = Fleet(self.lab)
        self.fleet.found()
        self.first = self.fleet.prepare(PLACES[0], jails=0)
        self.fleet.admit(self.first)
        host = self.lab.add_host(NEWCOMER)
        assert isinstance(host, NamespaceHost)
        self.host = host
        self.ssh = host.directory / "ssh"
        self.ssh.mkdir(mode=0o700)
        self.config = host.directory / "meshd" / "meshd.toml"
        self._serve()

    def close(self) -> None:
        self.fleet.close()
        self.lab.close()

    def _serve(self) -> None:
        for name in ("host", "admin"):
            words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.ssh / name)]
            subprocess.run(words, check=True, timeout=30)
        settings = self.ssh / "sshd_config"
        settings.write_text(
            f"Port {PORT}\nListenAddress {self.host.address}\nHostKey {self.ssh}/host\nPidFile none\n"
            f"AuthorizedKeysFile {self.ssh}/admin.pub\nStrictModes no\nPasswordAuthentication no\n"
            f"PermitRootLogin prohibit-password\nUsePAM no\nSetEnv PATH={PROGRAMS}:/usr/bin:/bin\n"
        )
        # Of its own: /run/sshd, the host's state directory, and /run/meshd.
        script = (
            "mount -t tmpfs tmpfs /var/lib && mkdir -p /run/sshd && "
            f"exec /usr/sbin/sshd -D -e -f {shlex.quote(str(settings))}"
        )
        self.host.spawn(["sh", "-c", script], log=self.ssh / "log")
        wait_until("sshd listens", self._listens, seconds=30)
        key = (self.ssh / "host.pub").read_text().split()[:2]
        self.known = self.ssh / "known_hosts"
        self.known.write_text(f"[{self.host.address}]:{PORT} {' '.join(key)}\n")

    def _listens(self) -> bool:
        return self.host.run(["sh", "-c", f"ss -ltn | grep -q :{PORT}"]).returncode == 0

    def add(self, *words: object) -> subprocess.CompletedProcess[str]:
        """As an admin types it on another machine of the same network, without a terminal."""
        log = self.host.directory / "meshd.log"
        start = f"setsid meshd --config {self.config} run >{log} 2>&1 &"
        options = (
            f"IdentityFile={self.ssh}/admin",
            f"UserKnownHostsFile={self.known}",
            "GlobalKnownHostsFile=none",
        )
        command = [
            str(PROGRAMS / "wgctl"), "--home", str(self.fleet.home), "add-host", NEWCOMER,
            "--ssh", f"ssh://root@{self.host.address}:{PORT}",
            *(word for option in options for word in ("--ssh-option", option)),
            "--host-config", str(self.config), "--start", start, "--region", "eu", *map(str, words),
        ]  # fmt: skip
        assert isinstance(self.first.host, NamespaceHost)
        return subprocess.run(
            ["ip", "netns", "exec", self.first.host.netns, *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=180,
            start_new_session=True,
            check=False,
        )

    def statements(self) -> int:
        return len(json.loads(self.fleet.wgctl("log", "--offline", "--json"))["statements"])


@pytest.fixture
def site() -> Iterator[Site]:
    need("sshd")
    opened = Site()
    try:
        yield opened
    finally:
        opened.close()


def test_one_command_brings_a_bare_host_into_the_mesh(site: Site) -> None:
    endpoint = f"{site.host.address}:51820"
    before = site.statements()

    # Nobody has said where the others reach it: asked for before anything is made or signed.
    refused = site.add()
    assert refused.returncode == 2 and "--endpoint ADDRESS:PORT" in refused.stderr
    wrong = site.add("--endpoint", "nowhere:99999999")
    assert wrong.returncode == 1 and "settings: meshd: error" in wrong.stderr
    assert not list(site.config.parent.glob("*")) and site.statements() == before

    # What starts meshd there fails: granted and joined, and the same command goes on from there.
    half = site.add("--endpoint", endpoint, "--start", "echo no such service >&2; exit 5")
    assert half.returncode == 1 and "start: no such service" in half.stderr, half.stderr
    assert site.statements() == before + 1

    done = site.add("--endpoint", endpoint)
    assert done.returncode == 0, done.stderr
    steps = ("reached", "settings", "enrolled", "was granted so before", "joined", "started")
    seen = [line.removeprefix(f"{NEWCOMER}: ") for line in done.stderr.splitlines()]
    assert [line.startswith(step) for line, step in zip(seen, steps, strict=True)] == [True] * 6, done.stderr
    assert site.statements() == before + 1
    assert (site.config.stat().st_mode & 0o777, list(site.config.parent.iterdir())) == (0o600, [site.config])
    wait_until("they meet", lambda: _meets(site.fleet, site.first), seconds=60)

    again = site.add()
    assert again.returncode == 0 and "joined before, and meshd runs" in again.stderr, again.stderr
    assert "1 of 1 peers" in again.stdout and site.statements() == before + 1


def test_a_machine_with_another_host_key_gets_nothing(site: Site) -> None:
    """Somebody in between answers in its place, and ~/.ssh/config takes every key."""
    before = site.statements()
    thief = site.known.read_text().split()
    words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(site.ssh / "thief")]
    subprocess.run(words, check=True, timeout=30)
    site.known.write_text(" ".join([thief[0], *(site.ssh / "thief.pub").read_text().split()[:2]]) + "\n")
    anything = ("--ssh-option", "StrictHostKeyChecking=no", "--endpoint", f"{site.host.address}:51820")
    done = site.add(*anything)
    assert done.returncode == 1 and "ssh could not log in" in done.stderr, done.stderr
    site.known.write_text("")  # nobody has ever seen it
    done = site.add(*anything)
    assert done.returncode == 1 and "ssh could not log in" in done.stderr, done.stderr
    assert site.statements() == before and not site.config.parent.exists()


def _meets(fleet: Fleet, member: Member) -> bool:
    return any(peer.name == NEWCOMER and peer.path.up for peer in fleet.status(member).peers)
