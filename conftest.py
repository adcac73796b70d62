"""The fixtures that every test knows, and how hard the property tests try.

    make check, test           the profile "default": enough to see a careless change
    make test-long, mutation   --hypothesis-profile=thorough
    a night's run              --hypothesis-profile=long

No profile has a deadline: how long an example takes says how loaded the machine is.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import termios

from hypothesis import settings

pytest_plugins = ["mesh_fixture", "namespace_fixture"]


def pytest_configure() -> None:
    """No test asks whoever started the tests: programs with a file on standard input ask the terminal."""
    with contextlib.suppress(OSError):
        descriptor = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)
        try:
            fcntl.ioctl(descriptor, termios.TIOCNOTTY)
        finally:
            os.close(descriptor)


settings.register_profile("default", max_examples=25, deadline=None)
settings.register_profile("thorough", max_examples=150, deadline=None)
settings.register_profile("long", max_examples=5_000, deadline=None)
