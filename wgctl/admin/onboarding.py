"""A host's way into the mesh, step by step over ssh: each says what it did, and all may be done again.

What can fail without a trace is done first: reaching the host, its programs, its settings, its service.
Only then is anything signed. After that each step leaves the host as it found it or further on.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
import tomli_w

from meshd.errors import ConfigError
from meshd.host.readiness import Readiness
from meshd.model.network import IPNetwork
from meshd.registry.bundle import parse_request
from meshd.registry.envelope import matches_fingerprint
from wgctl.admin.ssh import Answer, RemoteError, Ssh

LINUX_CONFIG: Final = "/etc/meshd/meshd.toml"
BEHIND_NAT: Final = "none"
FREEBSD_CONFIG: Final = "/usr/local/etc/meshd/meshd.toml"
START_SECONDS: Final = 120.0
LOOK_SECONDS: Final = 1.0
MAX_SHOWN: Final = 200
MAX_LINE: Final = 400

_LOOK: Final = (
    'echo "system=$(uname -s)"; '
    'if command -v meshd >/dev/null && command -v wgctl >/dev/null; then echo "programs=yes"; fi; '
    "if [ -d /run/systemd/system ]; then "
    'if systemctl cat meshd.service >/dev/null 2>&1; then echo "service=systemd"; fi; '
    'elif [ -x /usr/local/etc/rc.d/meshd ]; then echo "service=rc"; fi'
)
_IS_THERE: Final = 'test -e "$1"'
# Judged under another name, then renamed: meshd never finds half of it, nor a wrong one.
_WRITE: Final = (
    'umask 077; mkdir -p -m 755 "$(dirname "$1")" && cat >"$1.new" && meshd --config "$1.new" check-config '
    '>/dev/null && mv "$1.new" "$1" || { code=$?; rm -f "$1.new"; exit $code; }'
)
_CHECK: Final = 'exec meshd --config "$1" check-config --json'
_ENROLL: Final = 'exec meshd --config "$1" enroll --name "$2"'
_JOIN: Final = 'exec meshd --config "$1" join - --fingerprint "$2"'
_STATUS: Final = 'exec wgctl --config "$1" status --local --json'
_START: Final = {
    "systemd": "exec systemctl enable --now meshd.service",
    "rc": "sysrc meshd_enable=YES >/dev/null && { service meshd status >/dev/null || service meshd start; } "
    "</dev/null >/dev/null",
}


class SshWishes(msgspec.Struct, frozen=True, kw_only=True):
    """What was typed for a host that is reached by ssh.

    ``options``: as ssh's ``-o``. ``endpoints``: for a host without settings; ``none`` alone: behind NAT.
    ``config``: the settings file there, empty: the system's own place. ``start``: the command that starts
    meshd there, empty: the system's service manager.
    """

    destination: str
    options: tuple[str, ...]
    endpoints: tuple[str, ...]
    config: str
    start: str

    def settings(self, networks: Sequence[IPNetwork]) -> str:
        """The text of a settings file that says no more than must be said; empty: that is not known."""
        if not self.endpoints:
            return ""
        endpoints = [each for each in self.endpoints if each != BEHIND_NAT]
        tables: dict[str, Any] = {"host": {"endpoints": endpoints}}
        if networks:
            tables["jails"] = {"networks": list(map(str, networks))}
        return tomli_w.dumps(tables)


class Onboarding:
    """One host at the other end of ``ssh``. ``say`` is told of each step that is done."""

    def __init__(
        self,
        ssh: Ssh,
        name: str,
        wishes: SshWishes,
        networks: Sequence[IPNetwork],
        say: Callable[[str], None],
    ) -> None:
        self._ssh = ssh
        self._name = name
        self._wishes = wishes
        self._settings = wishes.settings(networks)
        self._tell = say
        self._config = wishes.config
        self._start = ""

    def prepare(self, mesh_id: str) -> None:
        """Everything that needs no signature: programs, settings, service. RemoteError for a host that is
        in another mesh than ``mesh_id``."""
        found = dict(line.partition("=")[::2] for line in self._must("look", _LOOK).output.splitlines())
        where = self._ssh.destination
        if "programs" not in found:
            raise RemoteError(f"{where}: no meshd and wgctl there: install the package, then type this again")
        self._config = self._config or (FREEBSD_CONFIG if found.get("system") == "FreeBSD" else LINUX_CONFIG)
        self._start = self._wishes.start or _START.get(found.get("service", ""), "")
        if not self._start:
            raise RemoteError(
                f"{where}: no service meshd there, contrib/systemd/meshd.service or contrib/rc.d/meshd "
                "expected: install it, or say what starts meshd: --start COMMAND"
            )
        self._say(f"reached {where}: {found.get('system', '')}, meshd is installed")
        self._write_settings()
        readiness = self._check()
        if readiness.mesh_id not in ("", mesh_id):
            raise RemoteError(
                f"{where}: in mesh {readiness.mesh_id[:MAX_SHOWN]} already, {mesh_id} expected; "
                f"a host is in one mesh: name settings with another state_dir, --host-config FILE"
            )
        self._say(f"settings {self._config}: ok, meshd {readiness.version}")

    def enroll(self) -> tuple[str, str]:
        """-> the request, and the fingerprint that the host itself has of its identity."""
        request = self._must("enroll", _ENROLL, self._config, self._name).output
        fingerprint = self._check().fingerprint
        if not matches_fingerprint(fingerprint, parse_request(request).kid):
            raise RemoteError(
                f"{self._ssh.destination}: enroll: identity {fingerprint[:MAX_SHOWN]} expected, as the host "
                "says, the request is of another one"
            )
        self._say(f"enrolled, fingerprint {fingerprint} (as the host says, over ssh)")
        return request, fingerprint

    def join(self, bundle: str, mesh_id: str, root_fingerprint: str) -> None:
        """Hand the bundle over; a daemon that runs as a member of this mesh takes news by itself."""
        readiness = self._check()
        if readiness.mesh_id == mesh_id and readiness.is_running:
            self._say("joined before, and meshd runs: it takes the news by itself")
            return
        self._must("join", _JOIN, self._config, root_fingerprint, stdin=bundle)
        if self._check().mesh_id != mesh_id:
            raise RemoteError(f"{self._ssh.destination}: join: the host is in another mesh afterwards")
        self._say(f"joined, root fingerprint {root_fingerprint}")

    def start(self) -> str:
        """Have it started now and at boot, and wait until it answers; what it says of its peers."""
        self._must("start", f"sh -c {shlex.quote(self._start)} </dev/null >/dev/null")
        began_at = time.monotonic()
        while True:
            answer = self._ssh.run(_STATUS, self._config)
            if answer.exit_code == 0:
                break
            if time.monotonic() - began_at > START_SECONDS:
                raise self._failure("start", answer)
            time.sleep(LOOK_SECONDS)
        line = describe_status(answer.output)
        self._say(f"started: {line}")
        return line

    def _say(self, line: str) -> None:
        """A step is a line, however much of it the host has said."""
        self._tell(line if len(line) <= MAX_LINE else f"{line[:MAX_LINE]}...")

    def _write_settings(self) -> None:
        if self._ssh.run(_IS_THERE, self._config).exit_code == 0:
            return
        if not self._settings:
            raise ConfigError(
                f"{self._ssh.destination}: {self._config}: no settings there: say where the others reach it "
                "(--endpoint ADDRESS:PORT, or --endpoint none behind NAT), or write the file there"
            )
        self._must("settings", _WRITE, self._config, stdin=self._settings)
        self._say(f"settings {self._config}: written")

    def _check(self) -> Readiness:
        answer = self._must("settings", _CHECK, self._config)
        try:
            return msgspec.json.decode(answer.output, type=Readiness)
        except (msgspec.DecodeError, RecursionError) as error:
            why = str(error)[:MAX_SHOWN]
            raise RemoteError(f"{self._ssh.destination}: check-config: {why}; another version?") from None

    def _must(self, step: str, script: str, *words: str, stdin: str = "") -> Answer:
        answer = self._ssh.run(script, *words, stdin=stdin)
        if answer.exit_code != 0:
            raise self._failure(step, answer)
        return answer

    def _failure(self, step: str, answer: Answer) -> RemoteError:
        return RemoteError(
            f"{self._ssh.destination}: {step}: {answer.reason}; "
            "when that is mended, the same command goes on here"
        )


def describe_status(document: str) -> str:
    """How many peers answer, and the codes of open conditions; ``document``: of ``wgctl status --json``."""
    try:
        status: dict[str, Any] = msgspec.json.decode(document)["status"]
        peers, conditions = status["peers"], status["conditions"]
        answering = sum(bool(peer["path"]["up"]) for peer in peers)
        codes = sorted({str(each["code"]) for each in conditions})
    except (ValueError, KeyError, TypeError, RecursionError):
        return "meshd answers"
    return f"meshd answers, {answering} of {len(peers)} peers so far" + (
        f"; conditions: {', '.join(codes)[:MAX_SHOWN]}" if codes else ""
    )
