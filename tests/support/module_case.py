"""What a module is tested by, alike for all: its settings, and what its files say when they are read again.

``folder`` is where a case's files are. ``read`` gives the endpoints of a rendered text, as somebody else than
the module reads it; ``meant`` those that the view has for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from meshd.services.config import ModuleConfig, read_modules
from meshd.services.module import load_module, read_config
from meshd.services.plan import ServicePlan
from meshd.services.view import ServiceView

Endpoints = frozenset[str]


@dataclass(frozen=True, kw_only=True)
class ModuleCase:
    """``programs``: what its checks run. ``table``: settings for six_hosts, and ``drawn`` for any view.
    ``secrets``: name to a text that its checker takes for one of that sort. ``takes_over``: its files are
    wholly its own, in place of somebody else's. ``prepare``: makes what is the operator's. ``own``: a
    service that is on this host, in any view. ``declare``: gives it the kind and the tags of this module.
    ``of_hundred``: the share of examples that its checker can afford."""

    name: str
    programs: tuple[str, ...]
    table: Callable[[str], dict[str, Any]]
    drawn: Callable[[str], dict[str, Any]]
    read: Callable[[ServicePlan], Endpoints]
    meant: Callable[[ServiceView], Endpoints]
    secrets: Mapping[str, str] = field(default_factory=dict)
    takes_over: bool = True
    prepare: Callable[[Path], object] = lambda folder: None
    own: str = ""
    of_hundred: int = 5
    declare: Callable[[ServiceView], ServiceView] = lambda view: view

    def config(self, table: Mapping[str, Any]) -> ModuleConfig:
        return read_modules({self.name: {"reload_command": ["/bin/true"], **table}}, "test")[self.name]

    def plan(self, view: ServiceView, table: Mapping[str, Any]) -> ServicePlan:
        module, config = load_module(self.name), self.config(table)
        return module.render(self.declare(view), read_config(module, config.own))


def shown(plan: ServicePlan) -> str:
    """The plan for eyes: its files as they are, how they are checked, how it is seen that they work."""
    parts = []
    for file in plan.files:
        kind = " block" if file.block else ""
        parts.append(f"=== {file.path} {file.mode:o}{kind}\n{file.text.rstrip()}\n")
    for title, actions in (("check", plan.checks), ("call", plan.calls), ("verify", plan.verify)):
        for action in actions:
            document = {key: value for key, value in msgspec.to_builtins(action).items() if value}
            parts.append(f"=== {title}\n{msgspec.json.format(msgspec.json.encode(document)).decode()}\n")
    if plan.live is not None:
        for backend, servers in plan.live.backends.items():
            lines = [f"{name} {each.at} {each.options}\n" for name, each in servers.items()]
            parts.append(f"=== alive: {backend}\n{''.join(lines)}")
    told = " ".join(plan.reload_argv)
    parts.append(f"=== {plan.reload} {told}".rstrip() + "\n")
    parts += [f"=== note\n{note}\n" for note in plan.notes]
    parts.append("=== endpoints\n" + "".join(f"{each}\n" for each in plan.endpoints))
    return "".join(parts)


def in_scope(view: ServiceView, *, draining: bool = True) -> Endpoints:
    """SERVICE ADDRESS:PORT of every placement that this host may use; all of them drain: they go on."""
    found = set()
    for service in view.services.values():
        places = view.in_scope(service)
        active = tuple(each for each in places if each.state == "active") or places
        found |= {f"{service.name} {each.at}" for each in (places if draining else active)}
    return frozenset(found)
