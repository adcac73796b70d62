"""How ``meshd`` and ``wgctl`` end: every error is one line on standard error, and its own exit code.

They run where streams are closed (cron, CI), readers leave (``| head``), disks are full, the user has no
home (containers with a bare uid) and no rights. None of that is a traceback.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Callable
from typing import Any, Final

import click

from meshd.errors import MeshError
from meshd.terminal import fail

FAILED: Final = 1
INTERRUPTED: Final = 130
_DENIED: Final = frozenset({errno.EACCES, errno.EPERM})


def run_program(name: str, command: Callable[[], Any]) -> int:
    """Run ``command`` -> the exit code. ``name`` stands before an error."""
    try:
        code = command()
        if sys.stdout is not None:
            sys.stdout.flush()
    except MeshError as error:
        return _fail(name, str(error), error.exit_code)
    except click.UsageError as error:
        hint = f" (see: {error.ctx.command_path} --help)" if error.ctx else ""
        return _fail(name, error.format_message() + hint, error.exit_code)
    except click.ClickException as error:
        return _fail(name, error.format_message(), error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        return _fail(name, "interrupted", INTERRUPTED)
    except OSError as error:
        return _fail_by_system(name, error)
    return code if isinstance(code, int) else 0


def completion_script(program: click.Command, name: str, shell: str) -> str:
    """What ``shell`` (bash, zsh, fish) sources to complete the words of ``name``."""
    from click.shell_completion import get_completion_class

    completion = get_completion_class(shell)
    assert completion is not None
    return completion(program, {}, name, f"_{name.upper()}_COMPLETE").source()


def _fail_by_system(name: str, error: OSError) -> int:
    if error.errno == errno.EPIPE:
        # The reader went away (as in `wgctl log | head`): what is left has no taker.
        _discard_output()
        return FAILED
    hint = ""
    if error.errno in _DENIED and os.geteuid() != 0:
        hint = "; run it as root, or as the user whose file that is"
    if error.filename is None and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
        _discard_output()
        return _fail(name, f"standard output: {error.strerror}: not all of it was written", FAILED)
    return _fail(name, f"{error.filename or 'system'}: {error.strerror or error}{hint}", FAILED)


def _discard_output() -> None:
    """What is buffered would be tried again at the exit of the interpreter, and complained about there."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _fail(name: str, message: str, code: int) -> int:
    fail(name, message)
    return code
