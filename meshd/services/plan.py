"""What a module says: files, how to check them, how to hand them over, how to see that it worked.

A module only ever says it. One audited place carries it out (``transaction``), so a module needs no
privileges, a dry run costs nothing, and no module can skip a step. Everything here is plain data with a
JSON form, for modules in any language.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

PLAN_SCHEMA: Final = 1
GENERATION: Final = "{generation}"
"""In texts and expectations: the registry's generation at which this module's files last changed."""


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class File(_Part, frozen=True, kw_only=True):
    """A file, or with ``block`` a marked block in a file that is otherwise somebody else's."""

    path: str
    """Absolute, without symbolic links, and named in the module's settings."""
    text: str
    """UTF-8. ``{secret:NAME}`` becomes what the settings' secret of that name holds."""
    mode: int = 0o644
    owner: str = ""
    group: str = ""
    comment: str = "#"
    """What begins a comment, for the header line; empty where the format has none (JSON)."""
    block: bool = False
    top: bool = False
    """A block that is not there yet goes before all other lines, instead of after them."""
    once: bool = False
    """Written where there is none, and the service's own from then on: it is never looked at again."""

    @property
    def secret(self) -> bool:
        """Whether what it holds must not be shown."""
        return "{secret:" in self.text


class Command(_Part, frozen=True, kw_only=True, tag="command"):
    """A program that looks at something and changes nothing. No shell is involved."""

    argv: tuple[str, ...]
    """``{staged:PATH}``, also in what is ``beside``: the new file before it is in place.
    ``{staged-directory:PATH}``, where a word begins: a copy of that directory with the new files in it.
    ``{beside}``: a directory of what is ``beside`` alone."""
    ok: tuple[int, ...] = (0,)
    refuse: str = ""
    """A regular expression: output that matches means failure, whatever the exit status."""
    ignore: str = ""
    """Output lines that match do not count; nor does the exit status when no other line is left."""
    expect: tuple[str, ...] = ()
    """Texts that the output must hold."""
    why: str = ""
    """For people: what it means when it fails."""
    user: str = ""
    """As whom it runs; empty: as meshd. Of built-in modules alone."""
    beside: dict[str, str] = {}
    """File name to text: put into the copy of the directory, for this check alone."""
    timeout_seconds: float = 20.0


class HttpGet(_Part, frozen=True, kw_only=True, tag="http"):
    """``expect``: texts that the body must hold; ``refuse``: a regular expression it must not match."""

    url: str
    status: tuple[int, ...] = (200,)
    expect: tuple[str, ...] = ()
    refuse: str = ""
    secret: str = ""
    """Name of the settings' secret that is sent: as a bearer token, with ``user`` as that user's password."""
    user: str = ""
    timeout_seconds: float = 10.0


class SocketAsk(_Part, frozen=True, kw_only=True, tag="socket"):
    """Send a text to a unix socket (a path) or to ADDRESS:PORT, and read until it closes or is silent."""

    target: str
    send: str
    expect: tuple[str, ...] = ()
    refuse: str = ""
    timeout_seconds: float = 10.0


class SocketKeep(_Part, frozen=True, kw_only=True, tag="socket-keep"):
    """Ask as ``SocketAsk`` does, and keep the answer as a file for the service's next process.

    A service that does not answer has nothing to hand on: the file stays as it is. Of built-in modules alone.
    """

    target: str
    send: str
    path: str
    timeout_seconds: float = 10.0


class DnsAsk(_Part, frozen=True, kw_only=True, tag="dns"):
    """One question to one name server over UDP. ``expect``: texts of records that the answer must hold."""

    server: str
    name: str
    record: Literal["A", "AAAA", "SOA", "SRV", "PTR"]
    expect: tuple[str, ...]
    timeout_seconds: float = 5.0


class RedisCall(_Part, frozen=True, kw_only=True, tag="redis"):
    """Commands to a Redis, Valkey or Sentinel at ADDRESS:PORT, one after the other. ``{secret:NAME}`` in a
    word of them becomes that secret; ``secret``: the one to be let in with.

    ``unless``: a command whose answer, when it holds the text beside it, makes all others needless.
    """

    target: str
    commands: tuple[tuple[str, ...], ...]
    unless: tuple[tuple[str, ...], str] | None = None
    expect: tuple[str, ...] = ()
    secret: str = ""
    timeout_seconds: float = 10.0


class HttpCall(_Part, frozen=True, kw_only=True, tag="http-call"):
    """A request that may be repeated without harm."""

    method: Literal["POST", "PUT", "PATCH"]
    url: str
    body: Any = None
    status: tuple[int, ...] = (200, 202, 204)
    expect: tuple[str, ...] = ()
    secret: str = ""
    user: str = ""
    timeout_seconds: float = 10.0


Probe = Command | HttpGet | SocketAsk | DnsAsk | RedisCall
Call = HttpCall | SocketAsk | SocketKeep | RedisCall
ReloadKind = Literal["none", "reload", "restart"]


class LiveServer(_Part, frozen=True, kw_only=True):
    """A server of a back end. ``agent``: what its agent is asked. ``options``: all else of its line."""

    address: str
    port: int
    agent: str
    options: str

    @property
    def at(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


class LiveServers(_Part, frozen=True, kw_only=True, tag="live-servers"):
    """The servers of HAProxy's back ends, as the running process is to have them. ``target``: its stats
    socket. ``frame``: all else that the files say; where it changed, only a reload will do."""

    target: str
    backends: dict[str, dict[str, LiveServer]]
    frame: str
    timeout_seconds: float = 10.0


class ServicePlan(_Part, frozen=True, kw_only=True):
    """What a module wants of this host, whole: what is not in it is not wanted."""

    schema: int = PLAN_SCHEMA
    files: tuple[File, ...] = ()
    checks: tuple[Command, ...] = ()
    """Before any file is in place. The service's own checker where it has one."""
    calls: tuple[Call, ...] = ()
    """After the files are in place and before the reload; they must bear repetition."""
    reload: ReloadKind = "none"
    reload_argv: tuple[str, ...] = ()
    """A built-in module's better way than the service manager's; ``reload_command`` goes first."""
    live: LiveServers | None = None
    """Tried before the reload, and instead of it where it works. Of built-in modules alone."""
    verify: tuple[Probe, ...] = ()
    """Asked of the running service, over and over for ``verify_seconds``: did it take what it was given?"""
    verify_seconds: float = 10.0
    endpoints: tuple[str, ...] = ()
    """The placements that the files speak of, as ``ServiceView.endpoint_id`` names them."""
    services: tuple[str, ...] = ()
    """The services whose ``min_endpoints`` must hold."""
    restart_why: str = ""
    notes: tuple[str, ...] = ()
    """Lines for people, shown by ``wgctl service diff`` and ``advise``."""


class RenderRequest(_Part, frozen=True, kw_only=True):
    """What a module is given. ``settings``: its own table of meshd.toml."""

    schema: int = PLAN_SCHEMA
    view: msgspec.Raw
    settings: dict[str, Any]
