"""A module's plan, made by a child that may fail in any way it likes."""

from __future__ import annotations

import hashlib
import json
from typing import Final

import msgspec

from meshd.errors import BackendError, ConfigError
from meshd.services.config import ModuleConfig
from meshd.services.isolation import RENDER_SECONDS, run_module
from meshd.services.module import Signals, load_module, read_config
from meshd.services.plan import RenderRequest, ServicePlan
from meshd.services.view import ServiceView
from meshd.version import VERSION

SHOWN: Final = 300
USAGE: Final = 2


def input_digest(config: ModuleConfig, view: ServiceView) -> str:
    """Of all that decides about the plan: the topology, the settings, this program."""
    parts = (view.digest.encode(), config.fingerprint(), VERSION.encode())
    return hashlib.sha256(b"\n".join(parts)).hexdigest()


def render_plan(config: ModuleConfig, view: ServiceView, *, seconds: float = RENDER_SECONDS) -> ServicePlan:
    """Ask the module. BackendError names what it did instead of answering; ConfigError: its settings."""
    what = ["--exec", config.executable] if config.kind == "executable" else [config.name]
    request = RenderRequest(view=msgspec.Raw(msgspec.json.encode(view)), settings=dict(config.own))
    try:
        done = run_module(what, msgspec.json.encode(request), seconds=seconds)
    except BackendError as error:
        raise BackendError(f"{config.name}: {str(error).removeprefix(what[-1] + ': ')}") from None
    if done.status == USAGE:
        raise ConfigError(f"{config.name}: {done.errors.strip()[-SHOWN:]}")
    if done.status != 0:
        how = f"killed by signal {-done.status}" if done.status < 0 else f"exit status {done.status}"
        raise BackendError(f"{config.name}: {how}: {done.errors.strip()[-SHOWN:] or 'no word'}")
    try:
        return msgspec.json.decode(done.output, type=ServicePlan)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BackendError(f"{config.name}: its answer is no plan: {error}") from None


def read_signals(config: ModuleConfig, view: ServiceView) -> Signals | None:
    """What a built-in module makes of measurements, in this process: pure, and as fast as it is short."""
    if config.kind != "built-in":
        return None
    module = load_module(config.name)
    make = getattr(module, "signals", None)
    if make is None:
        return None
    found: Signals = make(view, read_config(module, config.own))
    return found


def schemas() -> dict[str, object]:
    """The JSON schemas of what a module is given and of what it answers (JSON Schema 2020-12)."""
    from inspect import cleandoc  # no daemon needs it

    found = {name: msgspec.json.schema(kind) for name, kind in (("view", ServiceView), ("plan", ServicePlan))}
    for schema in found.values():
        for definition in schema["$defs"].values():
            if "description" in definition:  # indented as in the source, before msgspec 0.23
                definition["description"] = cleandoc(definition["description"])
    return dict(found)


def render_schemas() -> str:
    return json.dumps(schemas(), indent=2, sort_keys=True) + "\n"
