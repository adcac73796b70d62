"""The rc.d script in a folder of its own. Its stand-in follows the flow of FreeBSD's run_rc_command."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "contrib" / "rc.d" / "meshd"
STUB = SCRIPT.parents[2] / "tests" / "contrib" / "rc_subr_stub.sh"
DEADLINE_SECONDS = 20
SHELLS = {"dash": ["dash"], "busybox": ["busybox", "sh"], "bash": ["bash", "--posix"], "sh": ["sh"]}
INSTALLED_SHELLS = {name: argv for name, argv in SHELLS.items() if shutil.which(argv[0])}
MESHD = """#!/bin/sh
# Writes down how it was called. An empty settings file is a wrong one.
echo "meshd $*" >>"{base}/log"
case "$3" in
check-config)
	[ -s "$2" ] || {{ echo "meshd: $2: empty" >&2; exit 2; }}
	echo "$2: ok" ;;
bring-up)
	[ ! -e "{base}/no-cache" ] || {{ echo "meshd: nothing in the cache" >&2; exit 1; }}
	echo "wg0: unchanged, 0 changes, 1 peers" ;;
run)
	trap 'kill $!; echo "meshd got HUP" >>"{base}/log"' HUP
	trap 'kill $!; exit 0' TERM
	echo "meshd is up" >>"{base}/log"
	while :; do sleep 60 & wait $!; done ;;
esac
"""
DAEMON = """#!{python}
import getopt, os, signal, subprocess, sys
options, program = getopt.getopt(sys.argv[1:], "fHST:o:P:p:R:")
options = dict(options)
with open("{base}/log", "a") as log:
    log.write("daemon " + " ".join(sys.argv[1:]) + "\\n")
if os.fork():
    os.wait()
    sys.exit(0)
os.setsid()
if os.fork():
    os._exit(0)
null = os.open(os.devnull, os.O_RDWR)
for number in (0, 1, 2):
    os.dup2(null, number)
signal.signal(signal.SIGHUP, lambda *_: open("{base}/log", "a").write("daemon got HUP\\n"))
child = subprocess.Popen(program)
signal.signal(signal.SIGTERM, lambda *_: child.terminate())
for option, pid in (("-p", child.pid), ("-P", os.getpid())):
    with open(options[option] + ".new", "w") as file:
        file.write(str(pid) + "\\n")
    os.rename(options[option] + ".new", options[option])
child.wait()
for option in ("-p", "-P"):
    os.unlink(options[option])
"""
SETFIB = """#!/bin/sh
echo "setfib $1 $2" >>"{base}/log"
shift 2
exec "$@"
"""
ENV = """#!/bin/sh
echo "env $1" >>"{base}/log"
exec /usr/bin/env "$@"
"""
INSTALL = """#!/bin/sh
# install(1) without the change of owner.
for last; do :; done
case "$*" in
*/dev/null*) : >"$last" && chmod 0640 "$last" ;;
*) mkdir -p "$last" ;;
esac
"""


@dataclass(frozen=True, kw_only=True)
class Answer:
    status: int
    output: str
    errors: str


@dataclass(frozen=True, kw_only=True)
class Service:
    """The script in a folder of its own, with everything it calls."""

    base: Path
    shell: list[str]

    @property
    def config(self) -> Path:
        return self.base / "meshd.toml"

    def __call__(self, verb: str) -> Answer:
        done = subprocess.run(
            [*self.shell, str(self.base / "rc.d-meshd"), verb],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=DEADLINE_SECONDS,
        )
        return Answer(status=done.returncode, output=done.stdout, errors=done.stderr)

    def log(self) -> list[str]:
        path = self.base / "log"
        return path.read_text().splitlines() if path.exists() else []

    def pid(self, name: str) -> int:
        return int((self.base / "run" / f"{name}.pid").read_text())

    def await_(self, what: str, true: Callable[[], bool]) -> None:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not true():
            assert time.monotonic() < deadline, f"{what} did not happen; the log: {self.log()}"
            time.sleep(0.01)

    def await_log(self, line: str) -> None:
        self.await_(f"{line!r} in the log", lambda: line in self.log())

    def start(self) -> Answer:
        answer = self("start")
        if answer.status == 0:
            self.await_up()
        return answer

    def await_up(self) -> None:
        """From here on the end of the test finds both processes, and both end at a SIGTERM."""
        self.await_("daemon.pid", (self.base / "run" / "daemon.pid").exists)
        self.await_log("meshd is up")


def write_program(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
