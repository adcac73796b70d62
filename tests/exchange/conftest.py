"""Two hosts whose exchange is attacked."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from exchange_host import ExchangeHost, build_host
from meshes import SignedHost, SignedMesh

from meshd.exchange.server import LIMITS


@pytest.fixture
def tesla(mesh: SignedMesh) -> ExchangeHost:
    return build_host(mesh, "tesla")


@pytest.fixture
def newton(mesh: SignedMesh) -> SignedHost:
    return mesh.hosts["newton"]


@pytest.fixture
def port(tesla: ExchangeHost) -> Iterator[int]:
    with tesla.listening(LIMITS) as port:
        yield port
