"""docs/tutorial.md, typed as it stands on three machines, ends in a mesh."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from real_service import need
from typed_machines import CHECKOUT, Machine, Machines, machines, read_blocks
from typist import MEETING_SECONDS, Person
from until import wait_until

pytestmark = [pytest.mark.root, pytest.mark.slow]

ADDRESSES = {"desk": "192.0.2.1/24", "tesla": "192.0.2.10/24", "newton": "192.0.2.20/24"}


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Machines]:
    need("rsync")
    with machines(tmp_path, ADDRESSES) as found:
        yield found


def answers(machine: Machine, address: str) -> bool:
    return "yes" in machine.do(f"ping -c 1 -W 1 {address} >/dev/null 2>&1 && echo yes || :")


def test_the_tutorial_typed_as_it_stands_ends_in_a_mesh(opened: Machines) -> None:
    blocks = read_blocks((CHECKOUT / "docs" / "tutorial.md").read_text(), list(ADDRESSES))
    person = Person(opened)
    tesla, newton = opened["tesla"], opened["newton"]
    for number, machine in ((1, tesla), (2, newton)):
        machine.do(f"ip link add jails0 type bridge; ip address add 10.17.{number}.1/24 dev jails0")
        machine.do("ip link set jails0 up")
    steps = [block for block in blocks if "not-run" not in block.words]
    look = next(number for number, block in enumerate(steps) if "wgctl status" in block.text)
    for block in steps[:look]:
        person.type(block)
    both = lambda: answers(tesla, "10.99.0.2") and answers(newton, "10.99.0.1")  # noqa: E731
    wait_until("they meet", both, MEETING_SECONDS)
    assert answers(tesla, "10.17.2.1") and answers(newton, "10.17.1.1"), "networks behind the hosts"
    assert person.compared == 4, "two requests and two bundles"
    wait_until("they measure", lambda: "OK" in tesla.do("wgctl status --check || :"), MEETING_SECONDS)
    before = newton.do("wg show wg0 public-key")
    for block in steps[look:]:
        person.type(block)
        if "wgctl status" in block.text:
            assert "1 of 1 peers answer" in person.shown[-1] and "0 failed" in person.shown[-1]
        if "wgctl explain newton" in block.text:
            wait_until("a new key", lambda: newton.do("wg show wg0 public-key") != before, MEETING_SECONDS)
        if "wgctl list" in block.text:
            rows = [line.split()[:2] for line in person.shown[-1].splitlines()]
            assert ["tesla", "member"] in rows and ["newton", "member"] in rows
    wait_until("newton is gone", lambda: not tesla.do("wg show wg0 peers").strip(), MEETING_SECONDS)
    assert not answers(tesla, "10.99.0.2")
