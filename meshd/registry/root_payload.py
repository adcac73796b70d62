"""The payload of a root, kept at hand until its signatures have come as well.

Whoever brings a root's pieces one after the other lets others at the ledger in between, and those may hand
over so many other roots that this one is pushed out of its place among what waits.
"""

from __future__ import annotations

from meshd.registry.layout import ROOT_PREFIX
from meshd.registry.ledger import Ledger
from meshd.registry.root_case import RootCase

_PAYLOAD_SUFFIX = ".json"


class RootPayload:
    """Of whoever brings pieces, payloads first: the last payload that waits in the ledger."""

    def __init__(self) -> None:
        self._item: tuple[str, bytes] | None = None

    def note(self, key: str, body: bytes, outcome: str) -> None:
        """What became of a piece that was brought."""
        if outcome == "pending" and key.startswith(ROOT_PREFIX) and key.endswith(_PAYLOAD_SUFFIX):
            self._item = key, body

    def case(self, ledger: Ledger, key: str, body: bytes) -> RootCase | None:
        """As ``ledger.root_case``, with the payload in its place again where this is a signature of it."""
        case = ledger.root_case(key, body)
        if case is None and self._item is not None:
            stem = self._item[0].removesuffix(_PAYLOAD_SUFFIX)
            if key.startswith(f"{stem}.") and key != self._item[0]:
                ledger.offer(*self._item)
                case = ledger.root_case(key, body)
        return case
