"""From signed bytes to a plan: cold for 1,000 hosts, and for one changed record of 1,000."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable

from nacl.signing import VerifyKey

from bench.synthetic import NOW, SyntheticRegistry, build_registry
from meshd.apply import apply_changes
from meshd.backend.memory import MemoryBackend
from meshd.mesh.desired import DesiredBuilder, LocalDevice
from meshd.mesh.view import build_view
from meshd.model.device import ObservedState
from meshd.plan.plan import Plan, build_plan
from meshd.plan.safety import SafetyLimits
from meshd.registry.envelope import pae, parse_envelope
from meshd.registry.ledger import Ledger

HOSTS = 1000
COLD_GOAL_SECONDS = 0.5
CHANGED_GOAL_SECONDS = 0.005
LIMITS = SafetyLimits(max_removed_share=0.2, view_generation=1, applied_generation=1)


def run() -> None:
    registry = build_registry(HOSTS)
    local = LocalDevice(
        interface="wg0",
        private_key=registry.keys[0],
        listen_port=51820,
        mtu_bytes=1420,
        behind_nat=False,
        persistent_keepalive_seconds=25,
    )
    bare = _median(lambda: _verify_bare(registry), 3)
    cold = _median(lambda: _cold(registry, local), 3)
    print(f"bare PyNaCl verification of {2 * HOSTS} signatures: {bare * 1e3:8.1f} ms")
    print(
        f"cold verify + reduce + plan of {HOSTS} hosts:      {cold * 1e3:8.1f} ms "
        f"({cold / bare:.2f} x bare; goal {COLD_GOAL_SECONDS * 1e3:.0f} ms)"
    )
    changed = _changed(registry, local)
    print(
        f"one changed record of {HOSTS}, to its plan:        {changed * 1e3:8.2f} ms "
        f"({changed / (bare / 2 / HOSTS):.0f} x one bare verification; "
        f"goal {CHANGED_GOAL_SECONDS * 1e3:.0f} ms)"
    )


def _median(call: Callable[[], object], runs: int) -> float:
    times = []
    for _ in range(runs):
        gc.collect()
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def _verify_bare(registry: SyntheticRegistry) -> None:
    """What nobody can go below: PyNaCl over the same signed bytes, nothing parsed inside the clock."""
    key = VerifyKey(registry.identities[0].public)
    envelope = parse_envelope(registry.objects[-HOSTS][1])
    message = pae(envelope.payload_type, envelope.payload)
    for _ in range(2 * HOSTS):
        key.verify(message, envelope.signatures[0].sig)


def _cold(registry: SyntheticRegistry, local: LocalDevice) -> Plan:
    ledger = Ledger(registry.chain)
    for key, body in registry.objects:
        assert ledger.offer(key, body).outcome == "new", key
    return _plan(ledger, registry, local, DesiredBuilder(), ObservedState(interface="wg0"))


def _plan(
    ledger: Ledger,
    registry: SyntheticRegistry,
    local: LocalDevice,
    builder: DesiredBuilder,
    observed: ObservedState,
) -> Plan:
    view = build_view(ledger.membership(NOW), registry.identities[0].kid)
    return build_plan(observed, builder.build(view, local, observed), LIMITS)


def _changed(registry: SyntheticRegistry, local: LocalDevice) -> float:
    ledger, builder, backend = Ledger(registry.chain), DesiredBuilder(), MemoryBackend()
    for key, body in registry.objects:
        ledger.offer(key, body)
    first = _plan(ledger, registry, local, builder, backend.observe("wg0"))
    assert apply_changes(backend, "wg0", first.changes).error is None
    times = []
    for step in range(20):
        key, body = registry.record(17, 1_700_000_000_001 + step)
        observed = backend.observe("wg0")
        gc.collect()
        started = time.perf_counter()
        ledger.offer(key, body)
        plan = _plan(ledger, registry, local, builder, observed)
        times.append(time.perf_counter() - started)
        assert plan.counts in ({"SetPeer": 1, "RemoveRoute": 1}, {"SetPeer": 1, "AddRoute": 1}), plan.counts
        assert apply_changes(backend, "wg0", plan.changes).error is None
    return statistics.median(times)
