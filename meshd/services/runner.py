"""The child that turns a view into a plan: ``python -I -m meshd.services.runner LIFELINE USER MODULE``.

RenderRequest on standard input, ServicePlan on standard output, both JSON. ``--exec FILE`` in place of a
module becomes that executable. It is two processes. The first one keeps the daemon's rights and does nothing
but end whatever the second one started. The second one gives the rights up and limits itself before it loads
anything that is not meshd's own. LIFELINE is a descriptor whose other end the daemon holds, and closes when
its patience or its life is over. USER is the UID:GID to be where none of its own is to be had, or nothing to
stay as it is.
"""

from __future__ import annotations

import contextlib
import os
import resource
import sys
from pathlib import Path
from typing import Final

from meshd.privileges import give_up_rights
from meshd.services.reaper import Reaper

CPU_SECONDS: Final = 20
MEMORY_BYTES: Final = 1024 * 1024 * 1024
OPEN_FILES: Final = 64
NICENESS: Final = 15
NICENESS_OF_MANY: Final = 19
"""Of a module that may start processes: 64 weigh less than one at nice 0, and at nice 15 twice as much."""
FILE_BYTES: Final = 0
"""It has nothing to write but its answer, and a pipe is no file."""
PROCESSES: Final = 64
"""Of its user id, all taken together. A built-in module or plug-in starts none."""


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


def give_way(niceness: int) -> None:
    """Nothing waits for a module, so WireGuard and the daemon go first to the processor.

    Where Linux groups processes by session, a nice value counts within one alone: sched(7), autogroup.
    """
    os.nice(niceness)
    with contextlib.suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(niceness))


def main(arguments: list[str]) -> int:
    lifeline, user, *what = arguments
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # it ends as the module did, and leaves nothing behind
    reaper = Reaper()
    child = os.fork()
    if child:
        reaper.watch(child, int(lifeline))
    reaper.forget()
    give_way(NICENESS_OF_MANY if what[0] == "--exec" else NICENESS)
    os.close(int(lifeline))
    if what[0] != "--exec":
        load_own_code(what[0])
    if user:
        uid, gid = map(int, user.split(":"))
        give_up_rights(uid, gid)
    return _become(what)


def load_own_code(name: str) -> None:
    """Import what is ours while this process may still read it: a checkout may lie below ``/root``.

    A plug-in is somebody else's and is loaded without rights.
    """
    from meshd.services.module import is_built_in, load_module

    if is_built_in(name):
        load_module(name)


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
