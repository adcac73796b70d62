"""What a relaying host tells its forwarding process while it does not see its own kernel."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from quiet_relay import QuietRelay
from relay_messages import A, B, C

from meshd.control.relay_host import RelayHost, RelaySite
from meshd.exchange.relaying import RelayRequest
from meshd.paths.leases import Reach, Terms
from meshd.relay.table import RelayEnd, RelayPair

SITE = RelaySite(
    port=51822,
    terms=Terms(),
    bytes_per_second=1_000_000,
    reach={"a": Reach(rtt_seconds=0.01), "b": Reach(rtt_seconds=0.01)},
    ends={"a": A.end, "b": B.end},
    names={"a": "tesla", "b": "newton"},
)


class Carrying:
    """A host that carries one pair, and its forwarding process."""

    def __init__(self) -> None:
        self.relay = QuietRelay(SITE.port)
        self.host = RelayHost(lambda _: self.relay, lambda: 100.0)
        self.see(SITE)
        for asker, other in (("a", "b"), ("b", "a")):
            self.host.answer(asker, RelayRequest(kind="open", other=other))

    def see(self, site: RelaySite) -> None:
        asyncio.run(self.host.follow(site))

    @property
    def pairs(self) -> tuple[RelayPair, ...]:
        return self.relay.table.pairs


@pytest.mark.parametrize("seen", [{}, {"a": A.end}], ids=["no-kernel", "one-peer"])
def test_a_pair_is_carried_on_while_the_kernel_does_not_say_where_its_ends_are(
    seen: dict[str, RelayEnd],
) -> None:
    """A turn that fails has seen nothing, and a peer whose key has just changed may have no endpoint yet."""
    carrying = Carrying()
    carrying.see(msgspec.structs.replace(SITE, ends=seen))
    assert carrying.pairs == (RelayPair(A.end, B.end),)


def test_an_end_that_is_no_member_any_more_is_carried_no_further_whatever_was_known_of_it() -> None:
    carrying = Carrying()
    carrying.see(msgspec.structs.replace(SITE, ends={"a": A.end}, reach={"a": SITE.reach["a"]}))
    assert carrying.pairs == ()


def test_what_was_known_of_an_end_opens_no_other_pair() -> None:
    carrying = Carrying()
    carrying.see(msgspec.structs.replace(SITE, ends={}, reach={**SITE.reach, "c": Reach(rtt_seconds=0.01)}))
    answer, _ = carrying.host.answer("c", RelayRequest(kind="open", other="b"))
    assert answer.refusal == "not_reached"


def test_who_was_refused_hears_of_it_when_the_other_end_is_reached() -> None:
    carrying = Carrying()
    far = msgspec.structs.replace(
        SITE, reach={**SITE.reach, "c": Reach(None)}, ends={**SITE.ends, "c": C.end}
    )
    carrying.see(far)
    answer, _ = carrying.host.answer("a", RelayRequest(kind="ask", other="c"))
    assert answer.refusal == "not_reached"
    near = msgspec.structs.replace(far, reach={**far.reach, "c": Reach(0.01, 0.25)})
    told = asyncio.run(carrying.host.follow(near))
    assert told == [("a", RelayRequest(kind="able", other="c"))]
    answer, _ = carrying.host.answer("a", RelayRequest(kind="ask", other="c"))
    assert (answer.refusal, answer.rtt_seconds, answer.loss_ratio) == ("", 0.01, 0.25)
    assert carrying.host.tick() == []
