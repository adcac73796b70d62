"""The newest Status as Prometheus metrics, and the listeners that serve them.

The families are tables: name, kind, labels, help. docs/metrics.md lists the same ones.
All series of a peer exist as long as the peer does: NaN says "not known yet", 0 as a
timestamp "never".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from meshd.lean import submodules_of
from meshd.observe.client_metrics import CLIENT_FAMILIES
from meshd.observe.codes import CODES
from meshd.observe.families import Family, Sample, number, single
from meshd.observe.listener import MetricsListener
from meshd.observe.page.view import PageView
from meshd.observe.path_metrics import PATH_METRICS, VIA_METRIC, PathMetric, sample_of
from meshd.observe.service_metrics import SERVICE_FAMILIES
from meshd.observe.status import ExchangeStatus, PeerStatus, Status

with submodules_of("prometheus_client"):  # without what serves and pushes metrics (observe.exposition)
    from prometheus_client.metrics_core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        Metric,
        SummaryMetricFamily,
    )
    from prometheus_client.process_collector import ProcessCollector
    from prometheus_client.registry import Collector, CollectorRegistry

OUTCOMES: Final = ("unchanged", "applied", "partial", "held", "failed")


def _peer(name: str, text: str, value: Callable[[PeerStatus], float | None]) -> Family:
    def samples(status: Status) -> Iterable[Sample]:
        return [((peer.name,), number(value(peer))) for peer in status.peers]

    return Family(name, ("peer",), text, samples)


def _path(metric: PathMetric) -> Family:
    return _peer(metric.name, metric.help, lambda peer: sample_of(metric, peer.path))


PEER_FAMILIES: Final = (
    Family(
        "meshd_peer_info",
        ("peer", "public_key", "endpoint", "region"),
        "Always 1; the labels describe the peer.",
        lambda status: [
            ((peer.name, peer.public_key or "", peer.endpoint or "", peer.region), 1) for peer in status.peers
        ],
    ),
    Family(
        VIA_METRIC,
        ("peer", "via"),
        "Always 1; via is direct or the host that traffic goes through.",
        lambda status: [((peer.name, peer.path.via), 1) for peer in status.peers],
    ),
    _peer("meshd_peer_configured", "1: the kernel has it as a peer.", lambda peer: peer.configured),
    *map(_path, PATH_METRICS),
    _peer(
        "meshd_peer_last_handshake_timestamp_seconds",
        "Unix time of the newest handshake; 0: never.",
        lambda peer: peer.latest_handshake_at or 0,
    ),
    _peer("meshd_peer_receive_bytes_total", "Bytes received from the peer.", lambda peer: peer.receive_bytes),
    _peer("meshd_peer_transmit_bytes_total", "Bytes sent to the peer.", lambda peer: peer.transmit_bytes),
    _peer(
        "meshd_peer_mtu_bytes",
        "Largest packet that the path carries: MTU of the routes to the peer.",
        lambda peer: peer.mtu_bytes,
    ),
    Family(
        "meshd_peer_grant_end_timestamp_seconds",
        ("peer",),
        "Unix time at which the peer's membership ends by itself; only of peers where it does.",
        lambda status: [
            ((peer.name,), peer.grant_ends_at) for peer in status.peers if peer.grant_ends_at is not None
        ],
    ),
)

REGISTRY_FAMILIES: Final = (
    single(
        "meshd_registry_age_seconds",
        "Time since a store last answered a complete poll.",
        lambda status: (
            None if status.registry.verified_at is None else max(0.0, status.at - status.registry.verified_at)
        ),
    ),
    single(
        "meshd_registry_version",
        "Generation of the verified registry.",
        lambda status: status.registry.generation,
    ),
    single(
        "meshd_registry_applied_version",
        "Generation that the kernel was last brought to.",
        lambda status: status.registry.applied_generation,
    ),
    single(
        "meshd_registry_root_version",
        "Version of the trusted root.",
        lambda status: status.registry.root_version,
    ),
    single(
        "meshd_registry_hosts",
        "Hosts of the mesh, this one included.",
        lambda status: status.registry.hosts,
    ),
    single(
        "meshd_registry_conflicts",
        "Grants that collide with an older one and count nowhere.",
        lambda status: status.registry.conflicts,
    ),
    single(
        "meshd_registry_forks",
        "Administrators whose key signed two histories.",
        lambda status: status.registry.forks,
    ),
    single(
        "meshd_registry_gaps",
        "Administrators of whose log a part is withheld.",
        lambda status: status.registry.gaps,
    ),
    Family(
        "meshd_registry_store_up",
        ("endpoint",),
        "1: the store answered the newest poll; NaN: not asked.",
        lambda status: [((store.url,), number(store.up)) for store in status.registry.stores],
    ),
    Family(
        "meshd_registry_store_last_success_timestamp_seconds",
        ("endpoint",),
        "Unix time of the store's newest complete answer; 0: never.",
        lambda status: [((store.url,), store.last_success_at or 0) for store in status.registry.stores],
    ),
)


def _exchanged(name: str, text: str, counts: Callable[[ExchangeStatus], Mapping[str, int]]) -> Family:
    def samples(status: Status) -> Iterable[Sample]:
        exchange = status.exchange
        return [((outcome,), count) for outcome, count in counts(exchange).items()] if exchange else ()

    return Family(name, ("outcome",), text, samples)


EXCHANGE_FAMILIES: Final = (
    single(
        "meshd_registry_witness_ok",
        "1: every host that answered the newest round holds what this host holds; NaN: none has answered.",
        lambda status: status.exchange.agrees if status.exchange else None,
    ),
    single(
        "meshd_registry_witness_timestamp_seconds",
        "Unix time of the newest round of witnesses with an answer; 0: never.",
        lambda status: (status.exchange and status.exchange.witnessed_at) or 0,
    ),
    _exchanged(
        "meshd_exchange_witnesses_total",
        "Hosts asked as witnesses, by outcome.",
        lambda exchange: exchange.witnesses,
    ),
    _exchanged(
        "meshd_exchange_pushes_total",
        "Objects offered to other hosts, by outcome.",
        lambda exchange: exchange.pushes,
    ),
    _exchanged(
        "meshd_exchange_received_total",
        "Objects that other hosts handed over, by outcome.",
        lambda exchange: exchange.received,
    ),
    _exchanged(
        "meshd_exchange_requests_total",
        "Requests of other hosts, by outcome.",
        lambda exchange: exchange.requests,
    ),
    single(
        "meshd_exchange_waiting",
        "Objects that wait for hosts to be reachable.",
        lambda status: status.exchange.queued if status.exchange else None,
    ),
    single(
        "meshd_exchange_listening",
        "Addresses on which other hosts are answered.",
        lambda status: len(status.exchange.listening) if status.exchange else 0,
    ),
)

HOST_FAMILIES: Final = (
    Family(
        "meshd_build_info",
        ("version", "backend"),
        "Always 1; the labels describe the program.",
        lambda status: [((status.version, status.host.backend), 1)],
    ),
    Family(
        "meshd_host_info",
        ("host", "hid", "mesh", "region"),
        "Always 1; the labels describe this host.",
        lambda status: [
            ((status.host.name or "", status.host.hid, status.registry.mesh_name, status.host.region), 1)
        ],
    ),
    single(
        "meshd_start_timestamp_seconds",
        "Unix time the daemon started.",
        lambda status: status.started_at,
    ),
    single(
        "meshd_status_timestamp_seconds",
        "Unix time of the figures shown here.",
        lambda status: status.at,
    ),
    single(
        "meshd_interface_up",
        "1: the WireGuard interface is up.",
        lambda status: status.host.interface_up,
    ),
    single(
        "meshd_key_age_seconds",
        "Age of the host's WireGuard key.",
        lambda status: (
            None if status.host.key_created_at is None else max(0.0, status.at - status.host.key_created_at)
        ),
    ),
    single(
        "meshd_rotation_state",
        "Rotation of this host's key: 0 steady, 1 moving, 2 returning.",
        lambda status: ROTATION_STATES.get(status.rotation.state),
    ),
    Family(
        "meshd_rotation_hosts",
        ("state",),
        "Other hosts during a rotation: settled (they followed), waiting, absent.",
        lambda status: [
            (("settled",), len(status.rotation.settled)),
            (("waiting",), len(status.rotation.waited_for)),
            (("absent",), len(status.rotation.absent)),
        ],
    ),
    single(
        "meshd_rotation_last_start_timestamp_seconds",
        "Unix time the newest rotation of this host's key began; 0: never.",
        lambda status: status.rotation.last_started_at or 0,
    ),
    Family(
        "meshd_reconciles_total",
        ("outcome",),
        "Reconciles by outcome.",
        lambda status: [
            ((outcome,), status.counters.outcomes.get(outcome, 0))
            for outcome in dict.fromkeys((*OUTCOMES, *status.counters.outcomes))
        ],
    ),
    Family(
        "meshd_plan_changes_total",
        ("kind",),
        "Changes applied, by kind.",
        lambda status: [((kind,), count) for kind, count in sorted(status.counters.changes.items())],
    ),
    single(
        "meshd_change_state",
        "The last change: 0 done, 1 on trial, 2 rolled back; NaN: none yet.",
        lambda status: CHANGE_STATES.get(status.change.state) if status.change else None,
    ),
    single(
        "meshd_rollbacks_total",
        "Changes rolled back.",
        lambda status: status.change.rollbacks if status.change else 0,
    ),
    Family(
        "meshd_condition",
        ("code", "severity"),
        "Open conditions of the code; 0: none.",
        lambda status: _count_conditions(status),  # noqa: PLW0108 - it stands below
    ),
)

CHANGE_STATES: Final[Mapping[str, int]] = {"done": 0, "trial": 1, "held": 2}
ROTATION_STATES: Final[Mapping[str, int]] = {"steady": 0, "moving": 1, "returning": 2}
RECONCILE_DURATION: Final = "meshd_reconcile_duration_seconds"
RECONCILE_DURATION_HELP: Final = "Time spent reconciling."

FAMILIES: Final = (
    *PEER_FAMILIES,
    *CLIENT_FAMILIES,
    *REGISTRY_FAMILIES,
    *EXCHANGE_FAMILIES,
    *HOST_FAMILIES,
    *SERVICE_FAMILIES,
)


def _count_conditions(status: Status) -> Iterable[Sample]:
    counts = dict.fromkeys(((code, severity.value) for code, severity in CODES.items()), 0)
    for condition in status.conditions:
        key = condition.code, condition.severity
        counts[key] = counts.get(key, 0) + 1
    return list(counts.items())


def build_families(status: Status) -> Iterator[Metric]:
    """Every family with the series that ``status`` has."""
    for family in FAMILIES:
        kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
        metric = kind(family.name, family.help, labels=family.labels)
        for labels, value in family.samples(status):
            metric.add_metric(labels, value)
        yield metric
    duration = SummaryMetricFamily(RECONCILE_DURATION, RECONCILE_DURATION_HELP, labels=())
    duration.add_metric((), sum(status.counters.outcomes.values()), status.counters.duration_seconds_sum)
    yield duration


class StatusCollector(Collector):
    """``current`` gives the newest Status; it is called from the serving threads, once a scrape."""

    def __init__(self, current: Callable[[], Status]) -> None:
        self._current = current

    def collect(self) -> Iterator[Metric]:
        return build_families(self._current())


class MetricsServer:
    """Serves the metrics on every (address, port) of ``listen``; port 0: any free one.

    ``admits`` and ``report``: as ``MetricsListener`` has them. ``view``: what the pages show; None: none.
    ``current`` and ``view`` are called from the serving threads; when they raise, the answer is
    503. ``start`` raises BackendError naming what cannot be listened on, with nothing left open.
    """

    def __init__(
        self,
        current: Callable[[], Status],
        listen: Iterable[tuple[str, int]],
        *,
        admits: Callable[[str, str], bool] = lambda client, place: True,
        view: Callable[[], PageView] | None = None,
        report: Callable[[Exception | None], None] = lambda error: None,
    ) -> None:
        registry = CollectorRegistry()
        registry.register(StatusCollector(current))
        ProcessCollector(registry=registry)
        self._listener = MetricsListener(registry, tuple(listen), admits=admits, view=view, report=report)

    @property
    def urls(self) -> tuple[str, ...]:
        return self._listener.urls

    def start(self) -> None:
        self._listener.start()

    def close(self) -> None:
        """Stop listening; a scrape under way is finished by its own thread."""
        self._listener.close()
