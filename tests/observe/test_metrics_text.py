"""What a scrape of a known Status says, and how the listeners behave."""

from __future__ import annotations

import http.client
import socket
import urllib.error
import urllib.request
from collections.abc import Callable

import pytest
from msgspec.structs import replace
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from meshd.errors import BackendError
from meshd.model.path import PathStats
from meshd.model.service import Guard
from meshd.observe.codes import CODES
from meshd.observe.metrics import FAMILIES, MetricsServer, StatusCollector
from meshd.observe.status import (
    ClientStatus,
    ConditionStatus,
    ExchangeStatus,
    ModuleStatus,
    PeerStatus,
    ReconcileCounters,
    RegistryStatus,
    SelfStatus,
    ServicesStatus,
    Status,
    StoreStatus,
)

NOW = 1_700_000_000.0


def peer(name: str, path: PathStats | None = None, **changes: object) -> PeerStatus:
    values: dict[str, object] = {
        "hid": name * 4,
        "name": name,
        "region": "eu-west",
        "roles": (),
        "addresses": (),
        "networks": (),
        "public_key": None,
        "endpoint": None,
        "configured": False,
        "latest_handshake_at": None,
        "receive_bytes": 0,
        "transmit_bytes": 0,
        "mtu_bytes": None,
        "granted_by": "",
        "record_version": None,
        "path": path or PathStats(),
    }
    return PeerStatus(**{**values, **changes})  # type: ignore[arg-type]


def status(*peers: PeerStatus, conditions: tuple[ConditionStatus, ...] = ()) -> Status:
    return Status(
        at=NOW,
        version="1.2.3",
        started_at=NOW - 50,
        host=SelfStatus(
            hid="aa" * 16,
            name="tesla",
            region="eu-west",
            addresses=("10.17.0.1",),
            networks=(),
            public_key=None,
            interface="wg0",
            listen_port=51820,
            mtu_bytes=1420,
            backend="memory",
            interface_up=True,
            key_created_at=NOW - 3600,
        ),
        registry=RegistryStatus(
            mesh_id="m" * 32,
            mesh_name="fleet",
            generation=7,
            applied_generation=6,
            root_version=2,
            hosts=3,
            conflicts=0,
            forks=1,
            gaps=0,
            verified_at=NOW - 12,
            stores=(
                StoreStatus(url="https://garage.example/mesh", up=True, last_success_at=NOW - 12),
                StoreStatus(url="/mnt/mesh", up=None, last_success_at=None),
            ),
        ),
        peers=peers,
        conditions=conditions,
        last_plan=None,
        counters=ReconcileCounters(
            outcomes={"applied": 2, "unchanged": 40}, changes={"add_peer": 2}, duration_seconds_sum=0.5
        ),
        exchange=ExchangeStatus(
            listening=("10.17.0.1:9892",),
            requests={"answered": 4},
            pushes={"new": 2, "failed": 1},
            received={"known": 3},
            witnesses={"agreed": 9},
            queued=1,
            witnessed_at=NOW - 30,
            agrees=True,
            newest=(),
        ),
    )


NEWTON = peer(
    "newton",
    PathStats(
        via="direct",
        up=True,
        srtt_seconds=0.0205,
        rttvar_seconds=0.001,
        jitter_seconds=0.0005,
        minimum_rtt_seconds=0.02,
        loss_ratio=0.25,
        sent=40,
        received=30,
        last_reply_at=NOW - 1,
    ),
    public_key="K" * 43 + "=",
    endpoint="192.0.2.7:51820",
    configured=True,
    latest_handshake_at=NOW - 60,
    receive_bytes=1000,
    transmit_bytes=2000,
    mtu_bytes=1420,
    region="eu-north",
)

GOLDEN = """\
meshd_peer_info{peer="newton",public_key="KKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKK=",endpoint="192.0.2.7:51820",region="eu-north"} 1.0
meshd_peer_path{peer="newton",via="direct"} 1.0
meshd_peer_configured{peer="newton"} 1.0
meshd_peer_up{peer="newton"} 1.0
meshd_peer_rtt_seconds{peer="newton"} 0.0205
meshd_peer_rtt_variation_seconds{peer="newton"} 0.001
meshd_peer_rtt_minimum_seconds{peer="newton"} 0.02
meshd_peer_jitter_seconds{peer="newton"} 0.0005
meshd_peer_loss_ratio{peer="newton"} 0.25
meshd_peer_probes_sent_total{peer="newton"} 40.0
meshd_peer_probes_received_total{peer="newton"} 30.0
meshd_peer_last_reply_timestamp_seconds{peer="newton"} 1.699999999e+09
meshd_peer_last_handshake_timestamp_seconds{peer="newton"} 1.69999994e+09
meshd_peer_receive_bytes_total{peer="newton"} 1000.0
meshd_peer_transmit_bytes_total{peer="newton"} 2000.0
meshd_peer_mtu_bytes{peer="newton"} 1420.0
meshd_clients 0.0
meshd_registry_age_seconds 12.0
meshd_registry_version 7.0
meshd_registry_applied_version 6.0
meshd_registry_root_version 2.0
meshd_registry_hosts 3.0
meshd_registry_conflicts 0.0
meshd_registry_forks 1.0
meshd_registry_gaps 0.0
meshd_registry_store_up{endpoint="https://garage.example/mesh"} 1.0
meshd_registry_store_up{endpoint="/mnt/mesh"} NaN
meshd_registry_store_last_success_timestamp_seconds{endpoint="https://garage.example/mesh"} 1.699999988e+09
meshd_registry_store_last_success_timestamp_seconds{endpoint="/mnt/mesh"} 0.0
meshd_registry_witness_ok 1.0
meshd_registry_witness_timestamp_seconds 1.69999997e+09
meshd_exchange_witnesses_total{outcome="agreed"} 9.0
meshd_exchange_pushes_total{outcome="new"} 2.0
meshd_exchange_pushes_total{outcome="failed"} 1.0
meshd_exchange_received_total{outcome="known"} 3.0
meshd_exchange_requests_total{outcome="answered"} 4.0
meshd_exchange_waiting 1.0
meshd_exchange_listening 1.0
meshd_build_info{version="1.2.3",backend="memory"} 1.0
meshd_host_info{host="tesla",hid="aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",mesh="fleet",region="eu-west"} 1.0
meshd_start_timestamp_seconds 1.69999995e+09
meshd_status_timestamp_seconds 1.7e+09
meshd_interface_up 1.0
meshd_key_age_seconds 3600.0
meshd_rotation_state 0.0
meshd_rotation_hosts{state="settled"} 0.0
meshd_rotation_hosts{state="waiting"} 0.0
meshd_rotation_hosts{state="absent"} 0.0
meshd_rotation_last_start_timestamp_seconds 0.0
meshd_change_state NaN
meshd_rollbacks_total 0.0
meshd_reconciles_total{outcome="unchanged"} 40.0
meshd_reconciles_total{outcome="applied"} 2.0
meshd_reconciles_total{outcome="partial"} 0.0
meshd_reconciles_total{outcome="held"} 0.0
meshd_reconciles_total{outcome="failed"} 0.0
meshd_plan_changes_total{kind="add_peer"} 2.0
meshd_reconcile_duration_seconds_count 42.0
meshd_reconcile_duration_seconds_sum 0.5
"""  # noqa: E501 - Prometheus text has long lines


def scrape(current: Callable[[], Status]) -> str:
    registry = CollectorRegistry()
    registry.register(StatusCollector(current))
    return generate_latest(registry).decode()


def series(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def of_peer(text: str, name: str) -> dict[str, float]:
    return {sample: value for (sample, labels), value in series(text).items() if ("peer", name) in labels}


def test_the_whole_text_of_a_small_mesh() -> None:
    found = series(scrape(lambda: status(NEWTON)))
    conditions = {key for key in found if key[0] == "meshd_condition"}
    expected = series(GOLDEN)
    assert {key: str(value) for key, value in found.items() if key not in conditions} == {
        key: str(value) for key, value in expected.items()
    }


def test_every_series_of_a_peer_exists_before_anything_is_known_of_it() -> None:
    known, new = (of_peer(scrape(lambda: status(NEWTON, peer("bohr"))), name) for name in ("newton", "bohr"))
    assert set(new) == set(known)
    assert new["meshd_peer_rtt_seconds"] != new["meshd_peer_rtt_seconds"], "NaN: not known"
    assert new["meshd_peer_up"] == 0 and new["meshd_peer_last_handshake_timestamp_seconds"] == 0


def test_a_removed_peer_leaves_nothing_behind() -> None:
    answers = iter((status(NEWTON, peer("bohr")), status(NEWTON)))
    registry = CollectorRegistry()
    registry.register(StatusCollector(lambda: next(answers)))
    assert 'peer="bohr"' in generate_latest(registry).decode()
    assert "bohr" not in generate_latest(registry).decode()


def test_labels_cannot_forge_a_line() -> None:
    evil = peer('x"} 1\nmeshd_peer_up{peer="newton')
    text = scrape(lambda: status(evil))
    assert 'peer="newton"' not in text
    assert of_peer(text, evil.name)["meshd_peer_up"] == 0


def test_all_condition_codes_are_there_and_open_ones_are_counted() -> None:
    silent = tuple(
        ConditionStatus(code="peer_unreachable", severity="warning", subject=name, text="", since=NOW)
        for name in ("newton", "bohr")
    )
    found = series(scrape(lambda: status(conditions=silent)))
    counts = {
        dict(labels)["code"]: value for (name, labels), value in found.items() if name == "meshd_condition"
    }
    assert counts == {**dict.fromkeys(CODES, 0.0), "peer_unreachable": 2.0}


def test_which_guard_holds_a_module_and_which_generation_its_service_has() -> None:
    held = ModuleStatus(
        name="web", kind="haproxy", state="held", generation=3, view_generation=5, guard="drift",
        last_success_at=None, last_run_at=NOW, outcome="held", phase="guard", reason="a secret path",
        endpoints=2, files=(), runs={"held": 1}, run_seconds_sum=0.5,
    )  # fmt: skip
    well = replace(held, name="dns", state="ok", guard="")
    found = series(scrape(lambda: replace(status(), services=ServicesStatus(modules=(held, well)))))
    reasons = {
        (labels["module"], labels["reason"]): value
        for (name, pairs), value in found.items()
        if name == "meshd_module_held_reason" and (labels := dict(pairs))
    }
    all_of_them = {(each.name, str(guard)): 0.0 for each in (held, well) for guard in Guard}
    assert reasons == all_of_them | {("web", "drift"): 1.0}
    assert found["meshd_module_view_generation", frozenset({("module", "web")})] == 5


def test_names_follow_the_conventions() -> None:
    for family in FAMILIES:
        assert family.name.startswith("meshd_") and family.help.endswith(".")
        assert set(family.labels).isdisjoint({"le", "quantile", "instance", "job"})


def test_it_serves_every_address_and_stops() -> None:
    server = MetricsServer(lambda: status(NEWTON), [("127.0.0.1", 0), ("127.0.0.2", 0)])
    server.start()
    urls = server.urls
    assert [url.rpartition(":")[0] for url in urls] == ["http://127.0.0.1", "http://127.0.0.2"]
    for url in urls:
        with urllib.request.urlopen(url, timeout=5) as answer:
            assert of_peer(answer.read().decode(), "newton")["meshd_peer_rtt_seconds"] == 0.0205
    server.close()
    assert server.urls == ()
    for url in urls:
        with pytest.raises(urllib.error.URLError):
            urllib.request.urlopen(url, timeout=5)


def test_a_port_in_use_is_named_and_nothing_is_left_open() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = MetricsServer(status, [("127.0.0.3", port), ("127.0.0.1", port)])
        with pytest.raises(BackendError, match=f"http://127.0.0.1:{port}: Address already in use"):
            server.start()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.3", port), timeout=5)


@pytest.mark.parametrize(
    ("failure", "said"),
    [(TimeoutError(), ["well"]), (KeyError("a defect"), ["KeyError('a defect')", "well"])],
)
def test_a_status_that_cannot_be_had_fails_the_scrape_and_only_that(
    failure: Exception, said: list[str]
) -> None:
    """A daemon that is busy is no defect; what is one is reported."""
    reported: list[str] = []

    def current() -> Status:
        if failing:
            raise failure
        return status()

    failing = True
    server = MetricsServer(
        current,
        [("127.0.0.1", 0)],
        report=lambda error: reported.append("well" if error is None else repr(error)),
    )
    server.start()
    try:
        host, port = server.urls[0].removeprefix("http://").removesuffix("/metrics").split(":")
        assert get(host, int(port)) == 503
        failing = False
        assert get(host, int(port)) == 200
        assert reported == said
    finally:
        server.close()


def test_a_client_that_says_nothing_does_not_keep_others_waiting() -> None:
    server = MetricsServer(status, [("127.0.0.1", 0)])
    server.start()
    try:
        host, port = server.urls[0].removeprefix("http://").removesuffix("/metrics").split(":")
        with socket.create_connection((host, int(port)), timeout=5):
            assert get(host, int(port)) == 200
    finally:
        server.close()


def get(host: str, port: int) -> int:
    connection = http.client.HTTPConnection(host, port, timeout=5)
    try:
        connection.request("GET", "/metrics")
        return connection.getresponse().status
    finally:
        connection.close()


def test_a_client_has_a_handshake_and_bytes_and_no_path() -> None:
    asleep = ClientStatus(
        hid="c1" * 16, name="phone", addresses=("10.17.0.200",), public_key="K", configured=True,
        endpoint=None, latest_handshake_at=None, receive_bytes=0, transmit_bytes=0, granted_by="alice",
    )  # fmt: skip
    awake = replace(asleep, name="laptop", latest_handshake_at=NOW - 60, receive_bytes=7, transmit_bytes=9)
    found = series(scrape(lambda: replace(status(NEWTON), clients=(awake, asleep))))
    assert found["meshd_clients", frozenset()] == 2
    assert {name: value for (name, labels), value in found.items() if ("client", "laptop") in labels} == {
        "meshd_client_configured": 1,
        "meshd_client_last_handshake_timestamp_seconds": NOW - 60,
        "meshd_client_receive_bytes_total": 7,
        "meshd_client_transmit_bytes_total": 9,
    }
    assert found["meshd_client_last_handshake_timestamp_seconds", frozenset({("client", "phone")})] == 0
    assert of_peer(scrape(lambda: replace(status(), clients=(awake,))), "laptop") == {}
