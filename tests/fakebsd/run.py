"""What every imitated executable does: lock the state, act, save, speak, exit."""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time

from .call import Call, Exit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .shapes import Failure, Host

STDIN_COMMANDS = ("addconf", "setconf", "syncconf", "pubkey")
STDIN_PATH = "/dev/stdin"


def main(tool: str, directory: str) -> None:
    args = sys.argv[1:]
    reads = tool == "wg" and args and (args[0] in STDIN_COMMANDS or STDIN_PATH in args)
    reads = reads or (tool == "pfctl" and "-f" in args)
    stdin = sys.stdin.read() if reads else ""
    call = Call(tool, args, os.environ, stdin)
    log(directory, call)
    code = answer(directory, call)
    sys.stdout.write("".join(f"{line}\n" for line in call.lines))
    sys.stdout.flush()
    sys.stderr.write("".join(f"{line}\n" for line in call.errors))
    sys.stderr.flush()
    if call.follow_up:
        enter(directory, call)
    os._exit(code)


def enter(directory: str, call: Call) -> None:
    """Become the program: an imitated tool in the jail's stack, or whatever else the system has."""
    environment = {**os.environ, "FAKEBSD_JAIL": call.jail}
    tool = f"{directory}/bin/{call.follow_up[0].rpartition('/')[2]}"
    try:
        if os.access(tool, os.X_OK):
            os.execve(tool, call.follow_up, environment)
        os.execvpe(call.follow_up[0], call.follow_up, environment)
    except OSError as error:
        sys.stderr.write(f"jexec: execvp: {call.follow_up[0]}: {error.strerror}\n")
        os._exit(1)


def log(directory: str, call: Call) -> None:
    line = json.dumps([call.tool, *call.args]) + "\n"
    descriptor = os.open(f"{directory}/calls", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, line.encode())
    os.close(descriptor)


def answer(directory: str, call: Call) -> int:
    with open(f"{directory}/lock", "w") as lock:  # noqa: PTH123 (pathlib costs milliseconds a call)
        fcntl.flock(lock, fcntl.LOCK_EX)
        host = read_state(directory)
        command = " ".join([call.tool, *call.args])
        hanging = any(command.startswith(prefix) for prefix in host["hangs"])
        failure = next((one for one in host["failures"] if command.startswith(one["command"])), None)
        if failure is not None:
            code = fail(host, call, failure)
        elif not hanging:
            code = act(host, call)
        write_state(directory, host)
    while hanging and failure is None:
        time.sleep(60)
    return code


def fail(host: Host, call: Call, failure: Failure) -> int:
    call.lines += failure["stdout"].splitlines()
    call.errors += failure["stderr"].splitlines()
    failure["times"] -= 1
    if failure["times"] == 0:
        host["failures"].remove(failure)
    return failure["code"]


def act(host: Host, call: Call) -> int:
    try:
        return perform(host, call)
    except Exit as end:
        if end.error:
            call.errors += end.error.splitlines()
        return end.code


def perform(host: Host, call: Call) -> int:
    """Only the tool's own module is loaded."""
    if call.tool == "wg":
        from . import wg

        return wg.run(host, call)
    if call.tool == "ifconfig":
        from . import ifconfig

        return ifconfig.run(host, call)
    if call.tool in ("route", "netstat"):
        from . import netstat, route

        return route.run(host, call) if call.tool == "route" else netstat.run(host, call)
    if call.tool in ("jls", "jail", "jexec"):
        from . import jails

        return jails.run(host, call)
    if call.tool == "pfctl":
        from . import pf

        return pf.run(host, call)
    from . import system

    return system.run(host, call)


def read_state(directory: str) -> Host:
    with open(f"{directory}/state.json") as file:  # noqa: PTH123
        state: Host = json.load(file)
    return state


def write_state(directory: str, host: Host) -> None:
    with open(f"{directory}/state.json.new", "w") as file:  # noqa: PTH123
        json.dump(host, file)
    os.replace(f"{directory}/state.json.new", f"{directory}/state.json")  # noqa: PTH105
