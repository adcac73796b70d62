"""Words that the shell completes: files, and the hosts and administrators that are known here.

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
