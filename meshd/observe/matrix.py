"""The matrix: what every host measures, as far as this one knows, each row with its age."""

from __future__ import annotations

import msgspec

from meshd.model.path import PathStats


class MatrixRow(msgspec.Struct, frozen=True, kw_only=True):
    """What one host measures. ``age_seconds``: since it did. ``told_by``: the host that passed it on, None
    for the host's own word. ``paths``: by name of the other end. ``mtus``: likewise, the bytes of the largest
    packet that the path carries, where that was found out."""

    age_seconds: float
    told_by: str | None = None
    paths: dict[str, PathStats]
    mtus: dict[str, int] = {}


class Matrix(msgspec.Struct, frozen=True, kw_only=True, tag_field="format", tag="wg-meshd-matrix/1"):
    """Answer of ``matrix``. ``rows``: by name of the host that measures; one of which nothing is known has
    none. ``hosts``: the names of all, this one among them."""

    hosts: tuple[str, ...]
    rows: dict[str, MatrixRow]
