"""Hosts that ask for a place, and the bytes of directories before and after."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from meshd.model.keys import PrivateKey
from meshd.model.network import parse_endpoint, parse_network
from meshd.registry.bundle import build_request
from meshd.registry.record import build_record
from meshd.registry.signing import SigningKey, render_fingerprint


@dataclass(frozen=True, slots=True, kw_only=True)
class Newcomer:
    """A host with its identity, as `meshd enroll` makes it. ``request``: the file that it wrote."""

    name: str
    identity: SigningKey
    request: Path

    @property
    def hid(self) -> str:
        return self.identity.kid

    @property
    def fingerprint(self) -> str:
        """As `meshd enroll` shows it on the host."""
        return render_fingerprint(self.identity.kid)

    @property
    def compared(self) -> tuple[object, ...]:
        """The words of ``add-host`` for whoever has compared the request."""
        return "--request", self.request, "--fingerprint", self.fingerprint


def enroll(
    directory: Path,
    name: str,
    *,
    endpoint: str = "192.0.2.1:51820",
    networks: tuple[str, ...] = (),
    key: PrivateKey | None = None,
) -> Newcomer:
    identity = SigningKey.generate()
    record = build_record(
        mesh="",
        hid=identity.kid,
        gen=1,
        version=0,
        private_key=key or PrivateKey.generate(),
        listen_port=51820,
        endpoints=[parse_endpoint(endpoint)] if endpoint else [],
        networks=[parse_network(text) for text in networks],
    )
    path = directory / f"{name}-{identity.kid[:8]}.request"
    path.write_text(build_request(name, identity, record) + "\n")
    return Newcomer(name=name, identity=identity, request=path)


def snapshot(*directories: Path) -> dict[str, tuple[bytes, int]]:
    """Every file below, with its bytes and mode."""
    return {
        str(path): (path.read_bytes(), path.stat().st_mode)
        for directory in directories
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }
