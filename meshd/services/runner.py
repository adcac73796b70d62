"""The child that turns a view into a plan: ``python -I -m meshd.services.runner LIFELINE USER MODULE``.

RenderRequest on standard input, ServicePlan on standard output, both JSON. ``--exec FILE`` in place of a
module becomes that executable. It is two processes. The first one keeps the daemon's rights and does nothing
but end whatever the second one started. The second one gives the rights up and limits itself before it loads
anything of the module. LIFELINE is a descriptor whose other end the daemon holds, and closes when its
patience or its life is over. USER is UID:GID, or nothing to stay as it is.
"""

from __future__ import annotations

import contextlib
import os
import resource
import sys
from pathlib import Path
from typing import Final

from meshd.services.reaper import Reaper

CPU_SECONDS: Final = 20
MEMORY_BYTES: Final = 1024 * 1024 * 1024
OPEN_FILES: Final = 64
NICENESS: Final = 15
FILE_BYTES: Final = 0
"""It has nothing to write but its answer, and a pipe is no file."""
PROCESSES: Final = 64
"""Of the unprivileged user, all taken together. A built-in module or plug-in starts none."""


def limit(*, may_fork: bool) -> None:
    """For this process and all that it becomes or starts."""
    limits = [
        (resource.RLIMIT_CPU, CPU_SECONDS),
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_FSIZE, FILE_BYTES),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, PROCESSES if may_fork else 0),
    ]
    for kind, wanted in limits:
        _, hard = resource.getrlimit(kind)
        value = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(kind, (value, value))


def give_way() -> None:
    """Nothing waits for a module, so WireGuard and the daemon go first to the processor.

    Where Linux groups processes by session, a nice value counts within one alone: sched(7), autogroup.
    """
    os.nice(NICENESS)
    with contextlib.suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(NICENESS))


def main(arguments: list[str]) -> int:
    lifeline, user, *what = arguments
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # it ends as the module did, and leaves nothing behind
    reaper = Reaper()
    child = os.fork()
    if child:
        reaper.watch(child, int(lifeline))
    reaper.forget()
    give_way()
    os.close(int(lifeline))
    if user:
        uid, gid = map(int, user.split(":"))
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    return _become(what)


def _become(what: list[str]) -> int:
    if len(what) == 2 and what[0] == "--exec":
        limit(may_fork=True)
        os.execv(what[1], [what[1]])
    [name] = what
    limit(may_fork=False)
    return _render(name)


def _render(name: str) -> int:
    import msgspec

    from meshd.errors import MeshError
    from meshd.services.module import load_module, read_config
    from meshd.services.plan import RenderRequest
    from meshd.services.view import ServiceView

    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what the module prints is no answer
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=RenderRequest)
    view = msgspec.json.decode(request.view, type=ServiceView)
    try:
        module = load_module(name)
        plan = module.render(view, read_config(module, request.settings))
    except MeshError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    answer.write(msgspec.json.encode(plan))
    answer.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
