"""The control socket's words: one JSON line asks, one JSON line answers.

The socket is a unix stream socket in the run directory, mode 0600, with ``control.group`` 0666. A request is
``{"verb": "status"}`` with the fields of ControlRequest; the answer is a ControlAnswer whose
``result`` is the verb's document. One connection may ask many times, one at a time.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from meshd.observe.status import ServicesStatus
from meshd.observe.trend import HistoryRequest

SOCKET_NAME: Final = "control.sock"
MAX_LINE_BYTES: Final = 16 * 1024 * 1024

Verb = Literal[
    "status",
    "matrix",
    "history",
    "plan",
    "apply",
    "rollback",
    "poll",
    "reload",
    "objects",
    "offer",
    "service",
    "path",
    "drain",
]


_NOTHING: Final = msgspec.Raw(b"null")


class ServiceRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``module`` empty: all of this host. ``restart``, ``overwrite``: for ``apply``; ``original``: for
    ``rollback``, give the files back as they were before meshd."""

    action: Literal["list", "diff", "apply", "rollback", "retry", "advise"]
    module: str = ""
    restart: bool = False
    overwrite: bool = False
    original: bool = False


class ModuleReport(msgspec.Struct, frozen=True, kw_only=True):
    """How one run ended. ``diffs``: what was, or would be, changed, without secrets."""

    name: str
    outcome: str
    phase: str
    reason: str
    diffs: tuple[str, ...]
    notes: tuple[str, ...]


class ModuleRetry(msgspec.Struct, frozen=True, kw_only=True):
    """When a module is tried once more. ``running_seconds``: so long ago began what is under way there, after
    which it is tried. ``module_limit_seconds``: a module that answers nothing is ended so long after that."""

    name: str
    when: Literal["now", "after_run", "in_mesh"]
    running_seconds: float | None
    module_limit_seconds: float


class ServiceDocument(msgspec.Struct, frozen=True, kw_only=True, tag_field="format", tag="meshd-service/1"):
    """``wgctl service`` diff, apply, rollback and retry. ``view``: what modules see, as their schema says;
    for ``list`` alone; ``retries``: for ``retry``."""

    status: ServicesStatus
    reports: tuple[ModuleReport, ...] = ()
    retries: tuple[ModuleRetry, ...] = ()
    view: msgspec.Raw = msgspec.field(default_factory=lambda: _NOTHING)


class ControlRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``force``: for ``apply``, go ahead with a plan that is held as unsafe.

    ``objects``: for ``offer``, keys relative to the mesh and bodies. ``ask``: for ``objects``, what
    the asker holds, in the form that hosts use among each other. ``service``: for ``service``; ``history``:
    for ``history``. ``host``: for ``path``, a name. ``end``: for ``drain``, be as before.
    """

    verb: Verb
    force: bool = False
    objects: tuple[tuple[str, bytes], ...] = ()
    ask: msgspec.Raw = msgspec.Raw(b"null")
    service: ServiceRequest | None = None
    history: HistoryRequest = HistoryRequest()
    host: str = ""
    end: bool = False


class ChangeDocument(msgspec.Struct, frozen=True, kw_only=True):
    """One change of a plan: ``kind`` is the type's name, ``summary`` what, ``reason`` why."""

    kind: str
    summary: str
    reason: str


class PlanDocument(msgspec.Struct, frozen=True, kw_only=True, tag_field="format", tag="meshd-plan/1"):
    """``wgctl plan``. ``objections``: each reason why it is refused without ``force``, a line for
    people; ``held_because``: all of them in one line. ``conflicts``: what somebody else's routes keep from
    being done, with ``force`` too."""

    digest: str
    interface: str
    changes: tuple[ChangeDocument, ...]
    counts: dict[str, int]
    held_because: str | None = None
    objections: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()


class ApplyDocument(msgspec.Struct, frozen=True, kw_only=True, tag_field="format", tag="meshd-apply/1"):
    """``wgctl apply`` and ``wgctl rollback``: what is now true. ``outcome`` as in PlanStatus."""

    outcome: str
    plan: PlanDocument
    done: int
    failed: tuple[str, ...] = ()
    not_attempted: int = 0


class OfferDocument(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of ``offer``: an outcome an object, and how many other hosts hold all that was good."""

    mesh: str
    outcomes: tuple[str, ...]
    hosts: int


class ObjectsDocument(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of ``objects``: a page of what the asker lacks."""

    mesh: str
    page: msgspec.Raw


class ControlAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """``error`` None: done. ``exit_code`` is what wgctl ends with. ``is_denied``: this user may not ask."""

    error: str | None = None
    exit_code: int = 0
    is_denied: bool = False
    result: msgspec.Raw = msgspec.Raw(b"null")
