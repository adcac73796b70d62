"""Words that the shell completes: files, verbs, and hosts, administrators, services and modules known here.

What is typed is only suggested, never checked, by these: a name may be of somebody who is not here yet.
Completion looks at the verified registry on this machine and asks nobody. It takes no lock and no
passphrase, and where there is nothing to read it suggests nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

import click
from click.shell_completion import CompletionItem

from meshd.model.host import CLIENT_ROLE

if TYPE_CHECKING:
    from meshd.registry.ledger import Ledger

    _Word = click.ParamType[Any]
else:
    _Word = click.ParamType  # generic in newer clicks only


class FileWord(_Word):
    """The name of a file, or ``-``."""

    name = "FILE"

    def shell_complete(self, _: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(incomplete, type="file")]


class NameWord(_Word):
    """A name that the registry has. ``of``: which ones."""

    def __init__(self, name: str, of: Callable[[Ledger], Iterable[str]]) -> None:
        self.name = name
        self._of = of

    def shell_complete(self, ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
        ledger = _known_registry(ctx)
        names = () if ledger is None else self._of(ledger)
        return [CompletionItem(name) for name in sorted(set(names)) if name.startswith(incomplete)]


def _hosts(ledger: Ledger) -> Iterable[str]:
    return (each.grant.name for each in ledger.reduction().effective.values())


def _clients(ledger: Ledger) -> Iterable[str]:
    grants = (each.grant for each in ledger.reduction().effective.values())
    return (grant.name for grant in grants if CLIENT_ROLE in grant.roles)


def _key_holders(ledger: Ledger) -> Iterable[str]:
    """Whoever the newest root names, by administrator's and by root keys."""
    return (key.name for key in ledger.chain.root.keys.values())


def _services(ledger: Ledger) -> Iterable[str]:
    return (each.name for each in ledger.reduction().services.services.values() if not each.retired)


def _places(ledger: Ledger) -> Iterable[str]:
    """Any service may be placed on any host."""
    services = [*_services(ledger)]
    return (f"{host}/{service}" for host in _hosts(ledger) for service in services)


def _placements(ledger: Ledger) -> Iterable[str]:
    reduction = ledger.reduction()
    names = {hid: each.grant.name for hid, each in reduction.effective.items()}
    for service in reduction.services.services.values():
        for place in service.placements:
            if place.state != "retired" and place.hid in names:
                yield f"{names[place.hid]}/{service.name}"


def _hosts_and_placements(ledger: Ledger) -> Iterable[str]:
    return (*_hosts(ledger), *_placements(ledger))


def _services_and_placements(ledger: Ledger) -> Iterable[str]:
    return (*_services(ledger), *_placements(ledger))


class ModuleWord(_Word):
    """A module that this host's settings name; on a machine without such, any that meshd has. ``services``: a
    service of the registry as well."""

    name = "MODULE"

    def __init__(self, *, services: bool = False) -> None:
        self._services = services

    def shell_complete(self, ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
        names = {*_modules(ctx)}
        ledger = _known_registry(ctx) if self._services else None
        names |= set() if ledger is None else {*_services(ledger)}
        return [CompletionItem(name) for name in sorted(names) if name.startswith(incomplete)]


def _modules(ctx: click.Context) -> Iterable[str]:
    from meshd.errors import MeshError
    from meshd.services.module import BUILT_IN
    from wgctl.options import Options

    options = Options(chosen_home=None, config=ctx.find_root().params.get("config"), socket=None)
    try:
        return options.read_settings().services or BUILT_IN
    except (MeshError, OSError):
        return BUILT_IN


class VerbWord(_Word):
    """A verb, and behind one that has verbs of its own one of those."""

    name = "VERB"

    def shell_complete(self, ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
        root = ctx.find_root()
        found: click.Command | None = root.command
        for word in ctx.params.get("verb") or ():
            found = found.get_command(root, word) if isinstance(found, click.Group) else None
        names = found.list_commands(root) if isinstance(found, click.Group) else []
        return [CompletionItem(name) for name in sorted(names) if name.startswith(incomplete)]


def _known_registry(ctx: click.Context) -> Ledger | None:
    """That of the admin home, else that of this host's meshd."""
    from meshd.errors import MeshError
    from meshd.registry.cache import RegistryCache
    from wgctl.admin.home import open_any_home
    from wgctl.main import default_home
    from wgctl.options import Options

    words = ctx.find_root().params
    home = words.get("home") or default_home()
    try:
        if home is not None and home.exists():
            return open_any_home(home).cache.load()
        options = Options(chosen_home=None, config=words.get("config"), socket=None)
        return RegistryCache(options.read_settings().state_dir / "registry").load()
    except (MeshError, OSError):
        return None


FILE: Final = FileWord()
HOST: Final = NameWord("HOST", _hosts)
CLIENT: Final = NameWord("NAME", _clients)
ADMIN: Final = NameWord("NAME", _key_holders)
SERVICE: Final = NameWord("NAME", _services)
PLACE: Final = NameWord("HOST/SERVICE", _places)
DRAINED: Final = NameWord("HOST[/SERVICE]", _hosts_and_placements)
REMOVED: Final = NameWord("HOST/SERVICE|SERVICE", _services_and_placements)
MODULE: Final = ModuleWord()
MODULE_OR_SERVICE: Final = ModuleWord(services=True)
VERB: Final = VerbWord()
