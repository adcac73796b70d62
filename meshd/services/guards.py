"""What must hold before a plan may touch a service. Pure.

Each guard answers with its name and a reason for people, or None. A held plan changes nothing: the service
goes on with what it has.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from meshd.model.service import Guard
from meshd.services.plan import PLAN_SCHEMA, Command, HttpCall, HttpGet, RedisCall, ServicePlan, SocketKeep
from meshd.services.view import ServiceView

MAX_LOST_SHARE: Final = 0.5
MAX_FILES: Final = 200
MAX_TEXT_BYTES: Final = 8 * 1024 * 1024
MAX_ACTIONS: Final = 500


class Hold(msgspec.Struct, frozen=True):
    """Why nothing is changed: by which guard, and in words."""

    guard: Guard
    reason: str


class Allowed(msgspec.Struct, frozen=True, kw_only=True):
    """What a module may name, from the host's own settings. None of a set: anything (a built-in module)."""

    files: frozenset[str] = frozenset()
    directories: tuple[str, ...] = ()
    programs: frozenset[str] | None = None
    urls: tuple[str, ...] | None = None
    secrets: frozenset[str] = frozenset()


class Before(msgspec.Struct, frozen=True, kw_only=True):
    """What this module did last. ``endpoints`` as the plan named them."""

    generation: int = 0
    endpoints: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


def check_view(view: ServiceView, before: Before) -> Hold | None:
    """An empty or older answer is never trusted."""
    if not view.hosts or view.self_name not in view.hosts:
        return Hold(Guard.EMPTY, "the view of the mesh is empty")
    if view.generation < before.generation:
        return Hold(
            Guard.OLDER,
            f"generation {view.generation} of the registry is older than {before.generation}, applied before",
        )
    return None


def check_plan(plan: ServicePlan, view: ServiceView, before: Before, *, too_old: bool = False) -> Hold | None:
    """What speaks against taking this plan now. ``too_old``: the view is beyond its maximum age."""
    if plan.schema != PLAN_SCHEMA:
        return Hold(Guard.BOUNDS, f"a plan of schema {plan.schema}, {PLAN_SCHEMA} expected")
    if before.files and not plan.files and not plan.calls:
        return Hold(Guard.EMPTY, "the module says nothing at all; an empty answer is not taken")
    for name in plan.services:
        service = view.services.get(name)
        active = len(service.active) if service is not None else 0
        if service is not None and active < service.min_endpoints:
            return Hold(
                Guard.TOO_FEW,
                f"service {name}: {active} active placements seen, at least {service.min_endpoints} expected",
            )
    lost = [each for each in before.endpoints if each not in plan.endpoints]
    unexplained = [each for each in lost if not is_explained(each, view)]
    if before.endpoints and len(unexplained) > MAX_LOST_SHARE * len(before.endpoints):
        return Hold(
            Guard.SHRINK,
            f"{len(unexplained)} of {len(before.endpoints)} endpoints would go without a signed word, "
            f"{unexplained[0]} among them",
        )
    if view.stale and lost:
        return Hold(Guard.STALE, f"nothing is taken away on a stale view: {lost[0]} would go")
    if too_old and set(plan.endpoints) - set(before.endpoints):
        return Hold(Guard.STALE, "nothing is added on a view that is too old")
    return None


def is_explained(endpoint: str, view: ServiceView) -> bool:
    """Whether a signed statement says that this endpoint is gone, moved, or drained."""
    service, _, rest = endpoint.partition("/")
    host = rest.partition("@")[0].partition("/")[0]
    if endpoint in view.removed or f"*/{host}" in view.removed:
        return True
    entry = view.services.get(service)
    place = endpoint.partition("@")[0]
    return entry is not None and any(
        each.id.partition("@")[0] == place and (each.id != endpoint or each.state == "draining")
        for each in entry.placements
    )


def check_bounds(plan: ServicePlan, allowed: Allowed) -> Hold | None:
    """What the plan names that its module may not touch."""
    beyond = _beyond_bounds(plan, allowed)
    return None if beyond is None else Hold(Guard.BOUNDS, beyond)


def _beyond_bounds(plan: ServicePlan, allowed: Allowed) -> str | None:
    actions: Sequence[object] = (*plan.checks, *plan.calls, *plan.verify)
    if len(plan.files) > MAX_FILES or len(actions) > MAX_ACTIONS:
        seen = f"{len(plan.files)} files and {len(actions)} actions"
        return f"{seen}, at most {MAX_FILES} and {MAX_ACTIONS} expected"
    if sum(len(file.text) for file in plan.files) > MAX_TEXT_BYTES:
        return f"files of over {MAX_TEXT_BYTES} bytes"
    paths = [file.path for file in plan.files]
    if len(set(paths)) != len(paths):
        return "one file twice"
    for file in plan.files:
        if not _may_write(file.path, allowed):
            return f"{file.path}: not a file that its settings name"
        if "\x00" in file.text or file.mode & ~0o777 or (file.secret and file.mode & 0o007):
            return f"{file.path}: mode {file.mode:o} or its text is not allowed"
        if file.mode & 0o022:
            return f"{file.path}: mode {file.mode:o}: others may not write it"
    if (plan.reload_argv or plan.live) and allowed.programs is not None:
        return "a reload of its own is for built-in modules"
    return _check_actions(actions, allowed)


def _check_actions(actions: Iterable[object], allowed: Allowed) -> str | None:
    for action in actions:
        if isinstance(action, Command):
            if not action.argv:
                return "a command without a program"
            if allowed.programs is not None and action.argv[0] not in allowed.programs:
                return f"{action.argv[0]}: not a program that its settings name"
            if allowed.programs is not None and action.user:
                return f"{action.argv[0]}: as another user is for built-in modules"
            if any("/" in name or name in ("", ".", "..") for name in action.beside):
                return f"{action.argv[0]}: beside its files only other files can be put"
            for pattern in filter(None, (action.refuse, action.ignore)):
                if not _is_pattern(pattern):
                    return f"{pattern[:40]!r}: not a regular expression"
        if isinstance(action, HttpGet | HttpCall):
            if allowed.urls is not None and not action.url.startswith(allowed.urls):
                return f"{action.url[:80]}: not a URL that its settings name"
            if not action.url.startswith(("http://", "https://")):
                return f"{action.url[:80]}: http:// or https:// expected"
        secret = getattr(action, "secret", "")
        if secret and secret not in allowed.secrets:
            return f"secret {secret[:40]!r}: not in its settings"
        if allowed.urls is not None and isinstance(action, RedisCall | SocketKeep):
            return "Redis commands and kept answers are for built-in modules"
    return None


def _may_write(path: str, allowed: Allowed) -> bool:
    if not path.startswith("/") or posixpath.normpath(path) != path:
        return False
    return path in allowed.files or posixpath.dirname(path) in allowed.directories


def _is_pattern(text: str) -> bool:
    try:
        re.compile(text)
    except re.error:
        return False
    return True
