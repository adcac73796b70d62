"""A clean Debian 12 with a systemd of its own, in a container: what a server is before meshd comes."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from typed_machines import read_blocks
from until import wait_until

ROOT = Path(__file__).parents[2]
TREE = Path("/var/cache/wg-meshd/debian-12-with-venv")
SEARCHED = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
BOOT_SECONDS = 120
COMMAND_SECONDS = 300
SETTINGS = '[host]\nendpoints = ["192.0.2.10:51820"]\n'
FOUND = """
cd /root
mkdir -p /srv/mesh
wgctl init --name home --no-passphrase --store file:///srv/mesh --range 10.99.0.0/16 --json >init.json
meshd enroll --name tesla --out tesla.request 2>said
fingerprint=$(sed -n 's/^identity fingerprint of tesla: //p' said)
wgctl add-host tesla --request tesla.request --fingerprint "$fingerprint" --json >granted.json
"""


class CleanDebian:
    """A copy of the tree that nobody else sees, and what runs in it."""

    def __init__(self, folder: Path) -> None:
        self.tree = folder / "tree"
        self._layers = folder / "upper", folder / "work"
        self._log = folder / "console"
        self._container: subprocess.Popen[bytes] | None = None

    def mount(self) -> None:
        for path in (self.tree, *self._layers):
            path.mkdir()
        upper, work = self._layers
        layers = f"lowerdir={TREE},upperdir={upper},workdir={work}"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", layers, self.tree], check=True, timeout=60)

    def boot(self) -> None:
        """Its network is loopback alone, and a tun device may be made in it."""
        argv = ["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--boot", "--console=pipe"]
        rights = ["--private-network", "--capability=CAP_NET_ADMIN", "--bind=/dev/net/tun"]
        with self._log.open("wb") as log:
            self._container = subprocess.Popen(
                [*argv, *rights, "--directory", str(self.tree)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        wait_until("systemd in the container is up", self._is_up, BOOT_SECONDS)

    def _is_up(self) -> bool:
        if self._container is None or self._container.poll() is not None:
            raise AssertionError(self._log.read_text(errors="replace"))
        said = self.run("systemctl", "is-system-running", check=False)
        return said.stdout.strip() in {"running", "degraded"}

    def run(self, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        enter = ["chroot", str(self.tree)]
        if self._container is not None:
            enter = ["nsenter", "--target", self._first_process(), "-m", "-p", "-n", "-u", "-i", "-r", "-w"]
        environment = [f"PATH={SEARCHED}", "HOME=/root", "LANG=C.UTF-8", "DEBIAN_FRONTEND=noninteractive"]
        done = subprocess.run(
            [*enter, "env", "-i", *environment, *argv],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        assert not check or done.returncode == 0, (argv, done.stdout, done.stderr)
        return done

    def _first_process(self) -> str:
        """The container's systemd: the one child of systemd-nspawn."""
        assert self._container is not None
        pid = self._container.pid
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return found[0] if found else "none yet"

    def end(self) -> None:
        if self._container is not None:
            self._container.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._container.wait(60)
            self._container.kill()
            self._container.wait(60)
        subprocess.run(["umount", "--lazy", self.tree], check=False, timeout=60)


@contextlib.contextmanager
def clean_debian(folder: Path) -> Iterator[CleanDebian]:
    subprocess.run(["sh", str(ROOT / "tools" / "setup.sh"), "package"], check=True, timeout=1200)
    machine = CleanDebian(folder)
    machine.mount()
    try:
        yield machine
    finally:
        machine.end()


def copy_into(machine: CleanDebian, path: Path) -> str:
    """Where ``path`` is in there."""
    shutil.copy(path, machine.tree / "root")
    return f"/root/{path.name}"


def found_mesh(machine: CleanDebian) -> None:
    """A mesh of this machine alone, by an admin home on it; meshd has joined and is not started."""
    folder = machine.tree / "etc" / "meshd"
    folder.mkdir(exist_ok=True)
    (folder / "meshd.toml").write_text(SETTINGS)
    machine.run("sh", "-ec", FOUND)
    granted = json.loads((machine.tree / "root" / "granted.json").read_text())
    machine.run("meshd", "join", "/root/tesla.bundle", "--fingerprint", granted["root_fingerprint"])


def works(machine: CleanDebian) -> bool:
    """A meshd answers, and nothing is wrong with it."""
    done = machine.run("wgctl", "status", "--local", "--json", check=False)
    return done.returncode == 0 and json.loads(done.stdout)["status"]["conditions"] == []


def carriers(machine: CleanDebian) -> list[str]:
    """The processes that carry WireGuard interfaces."""
    return machine.run("sh", "-c", "grep -lx wireguard-go /proc/[0-9]*/comm || :").stdout.split()


def type_page(machine: CleanDebian, title: str) -> None:
    """The commands below that title of docs/leaving.md, as they stand, by a person who says yes."""
    page = (ROOT / "docs" / "leaving.md").read_text()
    _, _, below = page.partition(f"\n## {title}\n")
    (block,) = read_blocks(below.partition("\n## ")[0], ["newton"])
    for line in block.text.splitlines():
        shown = machine.run("sh", "-c", f"echo y | script -qec '{line}' /dev/null", check=False)
        expected = 5 if "--dry-run" in line else 0
        assert shown.returncode == expected, (line, shown.stdout, shown.stderr)
        assert "--dry-run" not in line or carriers(machine), "a dry run changes nothing"


def assert_left(machine: CleanDebian) -> None:
    """Nothing of meshd is there any more but the keys, for their owner alone."""
    assert carriers(machine) == []
    assert "wg0" not in machine.run("ls", "/sys/class/net").stdout
    for path in ("var/lib/meshd", "etc/meshd", "opt/wg-meshd", "usr/lib/wg-meshd", "usr/local/bin/meshd"):
        assert not (machine.tree / path).exists(), path
    (kept,) = (machine.tree / "var" / "lib").glob("meshd.left-*")
    assert (kept / "identity.key").stat().st_mode & 0o777 == 0o600
    assert machine.run("systemctl", "is-enabled", "meshd", check=False).stdout.strip() != "enabled"
