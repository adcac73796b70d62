"""Views of the page: a mesh in one state or another, and what a reader finds in the document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from math import nan

from meshd.model.path import PathStats
from meshd.observe.history import STEPS, Span
from meshd.observe.matrix import Matrix, MatrixRow
from meshd.observe.page.view import PageView
from meshd.observe.recent import RecentEvent
from meshd.observe.status import (
    ConditionStatus,
    PeerStatus,
    ReconcileCounters,
    RegistryStatus,
    SelfStatus,
    Status,
    StoreStatus,
)

NOW = 1_795_000_000.0
UP = PathStats(up=True, srtt_seconds=0.0205, loss_ratio=0.0, sent=40, received=40, last_reply_at=NOW - 1)
DOWN = PathStats(up=False, srtt_seconds=0.0205, loss_ratio=1.0, sent=40, received=10, last_reply_at=NOW - 90)


def peer_state(name: str, path: PathStats = UP, **changes: object) -> PeerStatus:
    values: dict[str, object] = {
        "hid": name.encode().hex().ljust(32, "0"),
        "name": name,
        "region": "eu-west",
        "roles": (),
        "addresses": ("10.17.0.9",),
        "networks": (),
        "public_key": "K" * 43 + "=",
        "endpoint": "192.0.2.7:51820",
        "configured": True,
        "latest_handshake_at": NOW - 60,
        "receive_bytes": 1000,
        "transmit_bytes": 2000,
        "mtu_bytes": 1420,
        "granted_by": "alice: grant 4",
        "record_version": 7,
        "path": path,
        "endpoint_reason": "its record names it",
    }
    return PeerStatus(**{**values, **changes})  # type: ignore[arg-type]


def page_view(
    *peers: PeerStatus,
    conditions: Sequence[ConditionStatus] = (),
    events: Sequence[RecentEvent] = (),
    store_error: str | None = None,
    interface_up: bool = True,
    spans: dict[str, float] | None = None,
    rows: dict[str, MatrixRow] | None = None,
) -> PageView:
    """``spans``: hid -> a round-trip time that it always had; others were never measured.
    ``rows``: of other hosts, by name."""

    def history(hid: str, step_seconds: int) -> Span:
        rtt = (spans or {}).get(hid, nan)
        count = STEPS[step_seconds]
        return Span(step_seconds, NOW, (rtt,) * count, (nan if rtt != rtt else 0.0,) * count)

    own = MatrixRow(age_seconds=0.0, paths={peer.name: peer.path for peer in peers})
    return PageView(
        matrix=Matrix(
            hosts=tuple(sorted(["tesla", *(peer.name for peer in peers)])),
            rows={"tesla": own, **(rows or {})},
        ),
        status=Status(
            at=NOW,
            version="1.2.3",
            started_at=NOW - 4000,
            host=SelfStatus(
                hid="aa" * 16,
                name="tesla",
                region="eu-west",
                addresses=("10.17.0.1",),
                networks=(),
                public_key="A" * 43 + "=",
                interface="wg0",
                listen_port=51820,
                mtu_bytes=1420,
                backend="memory",
                interface_up=interface_up,
                key_created_at=NOW - 3600,
            ),
            registry=RegistryStatus(
                mesh_id="m" * 32,
                mesh_name="fleet",
                generation=7,
                applied_generation=7,
                root_version=2,
                hosts=len(peers) + 1,
                conflicts=0,
                forks=0,
                gaps=0,
                verified_at=NOW - 12,
                stores=(
                    StoreStatus(
                        url="https://garage.example/mesh",
                        up=store_error is None,
                        last_success_at=NOW - 12,
                        error=store_error,
                    ),
                ),
            ),
            peers=peers,
            conditions=tuple(conditions),
            last_plan=None,
            counters=ReconcileCounters(),
        ),
        history=history,
        events=tuple(events),
    )


@dataclass(slots=True)
class Element:
    name: str
    attributes: dict[str, str]
    text: str = ""


VOID = frozenset({"meta", "link", "br", "hr"})


@dataclass
class Reader(HTMLParser):
    """A document as a browser takes it apart: its elements in order, and the text within each."""

    elements: list[Element] = field(default_factory=list)
    _open: list[Element] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = Element(tag, {key: value or "" for key, value in attrs})
        self.elements.append(found)
        if tag not in VOID:
            self._open.append(found)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(Element(tag, {key: value or "" for key, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open and self._open[-1].name == tag, f"</{tag}> closes {self._open[-1:]}"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        for each in self._open:
            each.text += data

    def all(self, name: str) -> list[Element]:
        return [each for each in self.elements if each.name == name]

    @property
    def text(self) -> str:
        """What a person reads."""
        return self.all("body")[0].text


def read_page(document: str) -> Reader:
    reader = Reader()
    reader.feed(document)
    reader.close()
    assert not reader._open, "every element is closed"
    return reader
