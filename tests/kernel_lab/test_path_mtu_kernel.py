"""The search for a path's MTU over the Linux kernel's own WireGuard."""

from __future__ import annotations

import pytest
from narrow_path import NARROW_BYTES, UNDERLAY_BYTES, open_pair

pytestmark = pytest.mark.kernel

EMULATED = 15.0
"""As many times slower is the emulated processor."""


def test_a_mebibyte_gets_through_whole_over_an_underlay_that_drops_large_packets() -> None:
    with open_pair(mtu_bytes=UNDERLAY_BYTES, patience=EMULATED) as pair:
        found = pair.until(lambda: pair.mtus() == [NARROW_BYTES] * 2, "the MTU was not found", seconds=10)
        reports = [pair.send(), pair.send(back=True)]
        print(f"found after {found:.1f} s more, transfers of {[f'{r.seconds:.1f}' for r in reports]} s")
        assert all(report.whole for report in reports)
        assert {pair.fleet.status(member).host.backend for member in pair.members} == {"linux"}
        assert all(f"mtu {NARROW_BYTES}" in route for route in pair.routes())
