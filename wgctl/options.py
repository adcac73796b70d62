"""The global options of one run, and where they lead: the socket and settings of this host's meshd."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click

from meshd.errors import ConfigError
from wgctl.admin.passphrase import PassphraseSource

if TYPE_CHECKING:
    from meshd.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """``config`` and ``socket`` None: the defaults of this system. ``chosen_home`` None: this user has no
    home directory, and named no other place."""

    chosen_home: Path | None
    config: Path | None
    socket: Path | None
    passphrase: PassphraseSource = field(default_factory=PassphraseSource)

    @property
    def config_path(self) -> Path:
        from meshd.settings import DEFAULT_CONFIG_PATH

        return self.config or DEFAULT_CONFIG_PATH

    @property
    def home(self) -> Path:
        """The admin home. ConfigError where there can be none: a uid without a line in passwd(5)."""
        if self.chosen_home is None:
            raise ConfigError(
                f"uid {os.getuid()} has no home directory, an admin home expected: set HOME or WGCTL_HOME, "
                "or name it with --home"
            )
        return self.chosen_home

    @property
    def has_home(self) -> bool:
        return self.chosen_home is not None and is_there(self.chosen_home)

    def read_settings(self) -> Settings:
        """This host's settings. ConfigError names the file and the fault."""
        from meshd.settings import read_settings

        return read_settings(self.config_path)

    def control_socket(self) -> Path:
        """Where meshd listens: ``--socket``, else the run directory of the settings file.

        Where this user can read no settings file at the default place, it is the default run directory, so
        that the answer is about meshd and not about a file nobody asked for.
        """
        from meshd.observe.protocol import SOCKET_NAME
        from meshd.settings import DEFAULT_RUN_DIR

        if self.socket is not None:
            return self.socket
        if self.config is None and not (is_there(self.config_path) and os.access(self.config_path, os.R_OK)):
            return Path(DEFAULT_RUN_DIR) / SOCKET_NAME
        return self.read_settings().run_dir / SOCKET_NAME


def is_there(path: Path) -> bool:
    """False only when there is certainly nothing: what may not be looked at is for its reader to report."""
    try:
        return path.exists()
    except OSError:
        return True


pass_options = click.make_pass_decorator(Options)
