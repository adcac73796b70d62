"""What every document of ``--json`` has in common: its ``format`` stands first, and is fixed."""

from __future__ import annotations

import msgspec


class Document(msgspec.Struct, frozen=True, kw_only=True, tag_field="format"):
    """The ``tag`` of a subclass is its format: whose document it is, and by which rules.

    docs/schemas has the JSON Schema of each, made from these types; that page says what stays as it is.
    """
