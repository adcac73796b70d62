"""Servers of the example fleet that are asked before anything is signed, or run in a jail.

Garage's node makes its id, SSH's two ends their keys: files in ``requests/``, as the example's README has it.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import fake_alloy
from until import wait_until

from meshd.errors import BackendError
from meshd.lab.commands import CommandServer
from meshd.lab.fleet import Fleet, Member
from meshd.lab.garage import GarageSecrets

STAND_IN: Final = Path(__file__).with_name("stand_in_process.py")
GARAGE_ADMIN: Final = "http://127.0.0.1:3903"
COMMAND_SECONDS: Final = 60.0

_GARAGE: Final = """metadata_dir = "{folder}/garage/meta"
data_dir = "{folder}/garage/data"
db_engine = "sqlite"
replication_factor = 3
rpc_bind_addr = "[::]:3901"
rpc_secret = "{secret}"
[s3_api]
s3_region = "garage"
api_bind_addr = "[::]:3900"
[admin]
api_bind_addr = "[::]:3903"
admin_token_file = "{folder}/meshd/garage.token"
"""
_SSHD: Final = """Port 22
ListenAddress {address}
HostKey {folder}/ssh/host
AuthorizedKeysFile {folder}/meshd/syncoid/authorized_keys
PidFile none
PermitRootLogin prohibit-password
PasswordAuthentication no
StrictModes no
UsePAM no
"""
_DOVECOT: Final = """base_dir = {folder}/dovecot/run
state_dir = {folder}/dovecot/state
log_path = /dev/stderr
ssl = no
protocols = imap
listen = 127.0.0.1
default_login_user = nobody
default_internal_user = nobody
default_internal_group = nogroup
passdb {{
  driver = static
  args = password=of the lab
}}
userdb {{
  driver = static
  args = uid=nobody gid=nogroup home={folder}/dovecot/home
}}
!include_try conf.d/*.conf
"""
_JLS: Final = """#!/bin/sh
names=$(sed 's/.*/{{"name":"&"}}/' {running} | paste -sd, -)
printf '{{"__version": "2", "jail-information": {{"jail": [%s]}}}}\\n' "$names"
"""
_BASTILLE: Final = '#!/bin/sh\n[ "$1" = start ] && echo "$2" >>{running}\n'
_WHEN_STARTED: Final = 'until grep -qx www "$0"; do sleep 0.2; done; exec "$@"'


def write_secret(file: Path, text: str) -> Path:
    """Mode 0600 from its first byte on."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch(mode=0o600)
    file.write_text(text)
    return file


def start_garage(member: Member, folder: Path, binary: Path, shared: GarageSecrets) -> str:
    """A node that knows nobody yet; -> its id, which its first start makes."""
    write_secret(folder / "meshd/garage.token", shared.admin_token)
    file = write_secret(folder / "garage.toml", _GARAGE.format(folder=folder, secret=shared.rpc_secret))
    member.host.spawn([str(binary), "-c", str(file), "server"], log=folder / "garage.log")
    wait_until(f"{member.name}: Garage starts", (folder / "garage/meta/node_key.pub").exists)
    argv = [str(binary), "-c", str(file), "node", "id", "-q"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=True)
    return done.stdout.strip().partition("@")[0]


def apply_layout(fleet: Fleet, member: Member, token_file: Path) -> str:
    """As an administrator does it who is logged in on a host of the core; -> what ``wgctl`` said."""
    operator = CommandServer(enter=member.host.enter_command(), patience=fleet.patience)
    place = ("--garage-admin", GARAGE_ADMIN, "--garage-token-file", token_file)
    layout = ("--home", fleet.home, "service", "garage", "layout")
    try:
        operator.run("wgctl", *layout, "stage", *place)
        return operator.run("wgctl", *layout, "apply", "--yes", *place)
    finally:
        operator.close()


def make_ssh(folder: Path) -> tuple[str, str]:
    """Keys of both ends; -> the public halves of the server's and of the client's."""
    (folder / "ssh").mkdir(parents=True)
    for name in ("host", "client"):
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "of the lab", "-f"]
        subprocess.run([*words, str(folder / "ssh" / name)], check=True, timeout=COMMAND_SECONDS)
    server, client = ((folder / "ssh" / f"{name}.pub").read_text().strip() for name in ("host", "client"))
    return server, client


def sshd_command(folder: Path, address: str) -> list[str]:
    """It reads the keys that meshd writes, and no others."""
    (folder / "meshd/syncoid").mkdir(parents=True)
    (folder / "sshd_config").write_text(_SSHD.format(folder=folder, address=address))
    script = f"mkdir -p /run/sshd && exec /usr/sbin/sshd -D -e -f {shlex.quote(str(folder / 'sshd_config'))}"
    return ["sh", "-c", script]


def log_in_by_cron(member: Member, file: Path) -> bool:
    """What syncoid does first, by the words of its first cron line: log in over SSH."""
    lines = [line for line in file.read_text().splitlines() if " --sshkey=" in line]
    words = shlex.split(lines[0]) if lines else []
    named = {"--sshkey": "-i", "--sshport": "-p", "--sshoption": "-o"}
    options = [(name, value) for name, _, value in (word.partition("=") for word in words) if name in named]
    if not options:
        return False
    target = words[-1].rpartition(":")[0]
    argv = ["ssh", "-F", "none", *(each for name, value in options for each in (named[name], value)), target]
    try:
        return member.host.run([*argv, "true"], timeout_seconds=COMMAND_SECONDS).returncode == 0
    except BackendError:
        return False


def dovecot_command(folder: Path) -> list[str]:
    """It believes nobody yet."""
    (folder / "dovecot/conf.d").mkdir(parents=True)
    main = folder / "dovecot/dovecot.conf"
    main.write_text(_DOVECOT.format(folder=folder))
    return ["dovecot", "-F", "-c", str(main)]


def make_jail_tools(folder: Path) -> Mapping[str, Any]:
    """jls(8) and Bastille of the lab: which jails run stands in a file. -> settings for the module."""
    running = folder / "jails.running"
    running.touch()
    for name, text in (("jls", _JLS), ("bastille", _BASTILLE)):
        tool = folder / "tools" / name
        tool.parent.mkdir(exist_ok=True)
        tool.write_text(text.format(running=running))
        tool.chmod(0o755)
    return {"jls": f"{folder}/tools/jls", "start": [f"{folder}/tools/bastille", "start"]}


def in_a_jail_that_waits(folder: Path, argv: list[str]) -> list[str]:
    """Runs when somebody has started the jail www."""
    return ["sh", "-c", _WHEN_STARTED, str(folder / "jails.running"), *argv]


def alloy_command(folder: Path) -> list[str]:
    """The stand-in, on a directory with a file of the operator's own."""
    directory = folder / "alloy"
    directory.mkdir(parents=True)
    own = 'loki.source.journal "own" {\n\tforward_to = [loki.write.mesh.receiver]\n}\n'
    (directory / "own.alloy").write_text(own)
    return [sys.executable, str(fake_alloy.FAKE_ALLOY), "run", str(directory)]


def heard_by_loki(lines: Any) -> set[tuple[str, str]]:
    """Host and region of each line that the stand-in of Loki was sent."""
    return {(each.get("host", ""), each.get("region", "")) for each in lines or []}
