"""The global options of one run, and where they lead: the socket and settings of this host's meshd."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click

from wgctl.admin.passphrase import PassphraseSource

if TYPE_CHECKING:
    from meshd.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """``config`` and ``socket`` None: the defaults of this system."""

    home: Path
    config: Path | None
    socket: Path | None
    passphrase: PassphraseSource = field(default_factory=PassphraseSource)

    @property
    def config_path(self) -> Path:
        from meshd.settings import DEFAULT_CONFIG_PATH

        return self.config or DEFAULT_CONFIG_PATH

    @property
    def has_home(self) -> bool:
        return is_there(self.home)

    def read_settings(self) -> Settings:
        """This host's settings. ConfigError names the file and the fault."""
        from meshd.settings import read_settings

        return read_settings(self.config_path)

    def control_socket(self) -> Path:
        """Where meshd listens: ``--socket``, else the run directory of the settings file.

        Without a settings file at the default place it is the default run directory, so that
        the answer is about meshd and not about a file nobody asked for.
        """
        from meshd.observe.protocol import SOCKET_NAME
        from meshd.settings import DEFAULT_RUN_DIR

        if self.socket is not None:
            return self.socket
        if self.config is None and not is_there(self.config_path):
            return Path(DEFAULT_RUN_DIR) / SOCKET_NAME
        return self.read_settings().run_dir / SOCKET_NAME


def is_there(path: Path) -> bool:
    """False only when there is certainly nothing: what may not be looked at is for its reader to report."""
    try:
        return path.exists()
    except OSError:
        return True


pass_options = click.make_pass_decorator(Options)
