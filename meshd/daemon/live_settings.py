"""The settings in force, and how a reload brings other ones."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable

from meshd.control.host_services import HostServices
from meshd.control.jails import JailKeeper
from meshd.control.registry_feed import RegistryFeed
from meshd.control.turn_queue import TurnQueue
from meshd.control.wake import Wake
from meshd.errors import ConfigError
from meshd.host.reload import refuse_fixed
from meshd.host.rulebook import refuse_unsayable
from meshd.model.condition import Condition, Severity
from meshd.observe.board import ConditionBoard
from meshd.observe.logs import event, set_up_logging
from meshd.settings import Settings

log = logging.getLogger("meshd")


class LiveSettings:
    """A turn takes ``current`` into its World, where whoever follows it reads it."""

    def __init__(self, settings: Settings) -> None:
        self.current = settings

    def __call__(self) -> Settings:
        return self.current


class Reloader:
    """Reads the file again. Lives on the event loop."""

    def __init__(
        self,
        live: LiveSettings,
        read: Callable[[], Settings],
        *,
        board: ConditionBoard,
        queue: TurnQueue,
        feed: RegistryFeed,
        jails: JailKeeper,
        services: HostServices,
    ) -> None:
        """``read``: the settings as they are on disk; ConfigError when they are wrong."""
        self._live = live
        self._read = read
        self._board = board
        self._queue = queue
        self._feed = feed
        self._jails = jails
        self._services = services

    def reload(self) -> None:
        """Take other settings; wrong ones change nothing, open a condition and raise ConfigError."""
        try:
            fresh = self._read()
            refuse_fixed(self._live.current, fresh)
            refuse_unsayable(fresh, "settings")
            self._services.configure(fresh.services, "settings")
        except ConfigError as error:
            self._board.set(
                "settings",
                Condition(
                    code="settings_refused",
                    severity=Severity.WARNING,
                    text=f"{error}; the settings from before stay in force",
                ),
            )
            raise
        self._board.set("settings")
        if fresh.log != self._live.current.log:
            set_up_logging(fresh.log.level, fresh.log.format)
        self._live.current = fresh
        self._feed.use_settings(fresh.registry)
        event(log, logging.INFO, "reloaded")
        self._jails.notice()
        self._feed.want_round()
        self._queue.wake(Wake.SETTINGS)

    def reload_quietly(self) -> None:
        """``reload`` for a signal handler: the condition says what is wrong."""
        with contextlib.suppress(ConfigError):
            self.reload()
