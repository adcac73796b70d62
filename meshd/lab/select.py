"""The lab that this operating system can run."""

from __future__ import annotations

import sys
from collections.abc import Callable

from meshd.errors import ConfigError
from meshd.lab.base import Lab

Say = Callable[[str], None]


def open_lab(say: Say = lambda text: None) -> Lab:
    """An empty lab; the caller closes it. ``say`` receives what is done to the machine itself.

    Raises ConfigError where hosts cannot be made.
    """
    if sys.platform == "linux":
        from meshd.lab.namespaces import NamespaceLab

        return NamespaceLab()
    _expect_freebsd()
    from meshd.backend.runner import ToolRunner
    from meshd.lab.jailhosts import JailLab
    from meshd.lab.vnet import find_tools

    tools = find_tools()
    return JailLab(ToolRunner(tools), tools["jexec"], say=say)


def sweep_labs(say: Say) -> tuple[str, ...]:
    """Take away the labs whose owner was killed; their names. ConfigError where there are none."""
    if sys.platform == "linux":
        from meshd.lab.leftovers import cleanup_leftovers

        return cleanup_leftovers()
    _expect_freebsd()
    from meshd.backend.runner import ToolRunner
    from meshd.lab.jailleftovers import sweep
    from meshd.lab.vnet import VnetCommands, find_tools

    return sweep(VnetCommands(ToolRunner(find_tools())), say)


def _expect_freebsd() -> None:
    if not sys.platform.startswith("freebsd"):
        raise ConfigError(f"lab: {sys.platform} seen, linux or freebsd expected: hosts are made of its parts")
