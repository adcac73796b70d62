"""HTTP over TLS, as http.client has it. Loaded by who asks for it."""

from __future__ import annotations

import http.client
import ssl


class HTTPSConnection(http.client.HTTPConnection):
    """The server's certificate has to be good for its host, and by an authority that the system knows."""

    default_port = http.client.HTTPS_PORT

    def connect(self) -> None:
        super().connect()
        context = ssl.create_default_context()
        context.set_alpn_protocols(["http/1.1"])
        self.sock = context.wrap_socket(self.sock, server_hostname=self.host)
