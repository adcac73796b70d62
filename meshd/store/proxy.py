"""The proxy between this machine and an S3 server: HTTPS_PROXY and NO_PROXY, read as curl reads them.

A store of ``s3+https`` is reached through it by CONNECT, so that the proxy carries bytes that it cannot read.
A store of ``s3+http`` never is: that is for addresses of the mesh itself, which no proxy reaches, and
what runs in the open would run through one more hand.
"""

from __future__ import annotations

import base64
import contextlib
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from meshd.errors import ConfigError

_VARIABLES = ("HTTPS_PROXY", "https_proxy")
_EXCEPTIONS = ("NO_PROXY", "no_proxy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """``url`` is without the password, which ``headers`` have. ``source``: the variable that names it."""

    url: str
    source: str
    headers: Mapping[str, str] = field(repr=False)


def find_proxy(host: str, port: int, environment: Mapping[str, str]) -> Proxy | None:
    """The proxy on the way to a TLS server; None: there is none, or NO_PROXY names the server.

    ConfigError for a proxy of a kind that is not spoken here; it shows no password.
    """
    source = next((name for name in _VARIABLES if environment.get(name)), None)
    exceptions = next((environment[name] for name in _EXCEPTIONS if environment.get(name)), "")
    if source is None or is_excepted(host, port, exceptions):
        return None
    value = environment[source]
    try:
        parts = urlsplit(value if "://" in value else f"http://{value}")
        proxy_host, proxy_port = parts.hostname, parts.port
    except ValueError:
        raise ConfigError(f"{source}: no URL seen, http://host:port expected") from None
    if parts.scheme != "http" or not proxy_host:
        raise ConfigError(
            f"{source}: a proxy of scheme {parts.scheme!r} seen, http://host:port expected; "
            f"or no proxy for the store: NO_PROXY={host}"
        )
    bracketed = f"[{proxy_host}]" if ":" in proxy_host else proxy_host
    return Proxy(
        url=f"http://{bracketed}:{proxy_port or 3128}",
        source=source,
        headers=_authorize(parts.username, parts.password),
    )


def is_excepted(host: str, port: int, exceptions: str) -> bool:
    """Whether NO_PROXY, as ``exceptions``, names this server: by its name, a domain that it is in, its
    address, a network (192.0.2.0/24), any of them with ``:port``, or ``*``."""
    name = host.lower().removesuffix(".")
    for entry in exceptions.replace(",", " ").lower().split():
        wanted = entry.removesuffix(f":{port}").strip("[]").lstrip(".")
        if wanted in ("*", name) or name.endswith(f".{wanted}"):
            return True
        with contextlib.suppress(ValueError):
            if ipaddress.ip_address(name) in ipaddress.ip_network(wanted, strict=False):
                return True
    return False


def _authorize(user: str | None, password: str | None) -> dict[str, str]:
    """RFC 7617; no header where the URL names nobody."""
    if user is None:
        return {}
    pair = f"{unquote(user)}:{unquote(password or '')}".encode()
    return {"Proxy-Authorization": f"Basic {base64.b64encode(pair).decode()}"}
