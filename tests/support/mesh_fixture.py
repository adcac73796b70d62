"""The mesh that most tests of daemons begin with: a fixture that every test knows."""

from __future__ import annotations

import pytest
from meshes import SignedMesh

NAMES = ("tesla", "newton", "bohr")


@pytest.fixture
def mesh() -> SignedMesh:
    """Three named hosts, each with a jail network. A test file that needs another one has its own."""
    made = SignedMesh.create()
    for number, name in enumerate(NAMES, 1):
        made.add(name, jails=(f"10.17.{number}.0/24",))
    return made
