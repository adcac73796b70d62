"""Connections by http and https, for a daemon that is loaded without TLS (``meshd.daemon.main.load_daemon``).

http.client has an HTTPSConnection only where ssl was there when it was imported, and this one is loaded by
who asks for it.
"""

from __future__ import annotations

import http.client


def web_connection(
    scheme: str, host: str, port: int | None, timeout_seconds: float
) -> http.client.HTTPConnection:
    """Not connected yet. The certificate of https has to be good for ``host`` and by a known authority."""
    if scheme == "https":
        from meshd.services.https import HTTPSConnection

        return HTTPSConnection(host, port, timeout=timeout_seconds)
    return http.client.HTTPConnection(host, port, timeout=timeout_seconds)
