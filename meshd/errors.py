"""Every exception that the project raises on purpose.

A message names the thing, the value seen and the value expected. Foreign exceptions
stop at the module that calls the foreign library and become one of these.
"""

from __future__ import annotations

from typing import ClassVar


class MeshError(Exception):
    """Base of every error of the project; ``exit_code`` is what a command ends with."""

    exit_code: ClassVar[int] = 1


class ConfigError(MeshError):
    """Settings or arguments are wrong; on reload the old settings stay in force."""

    exit_code = 2


class StateClaimedError(ConfigError):
    """Another process works on this host's state directory."""


class RegistryError(MeshError):
    """Bytes that are not to be trusted; the last trusted view stays in force."""


class TrustStateError(RegistryError):
    """The local trust state is unreadable: fatal, never replaced by an empty one."""


class StoreError(MeshError):
    """Objects cannot be moved; the last view stays and the shell retries."""


class StoreDeniedError(StoreError):
    """The store answered, and refuses this access key or what it asked for."""


class UnusableObjectError(StoreError):
    """The store answered, but this one object cannot be used; it says nothing about any other."""


class UnfinishedListingError(StoreError):
    """There is more than one listing takes. ``after``: the last name seen, to go on from."""

    def __init__(self, text: str, after: str) -> None:
        super().__init__(text)
        self.after = after


class UnsafePlanError(MeshError):
    """The plan would change too much; it is held until an operator confirms it."""

    exit_code = 4


class BackendError(MeshError):
    """The kernel or a tool refused; the caller observes and plans again."""


class BackendSilentError(BackendError):
    """The kernel or a tool does not answer: whatever is asked next would wait as long."""


class ControlError(MeshError):
    """The daemon does not answer on its control socket."""

    exit_code = 3
