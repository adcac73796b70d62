"""How the relaying process ends when its parent does. Here alone, as the daemon has no use for ctypes."""

from __future__ import annotations

import ctypes
import signal
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_P_PID: Final = 0
_PROC_PDEATHSIG_CTL: Final = 11


def end_with_parent() -> None:
    """Be killed when the thread that started this process ends: prctl(2), on FreeBSD procctl(2).

    After rights were given up, as that takes it back. A process that was stopped ends too, which the end of
    its standard input would not do. Where the kernel has no such thing, that end is what there is.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if sys.platform.startswith("linux"):
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    elif sys.platform.startswith("freebsd"):
        number = ctypes.c_int(signal.SIGKILL)
        libc.procctl(_P_PID, ctypes.c_int64(0), _PROC_PDEATHSIG_CTL, ctypes.byref(number))
