"""Two machines with one identity: said, and no war of records."""

from __future__ import annotations

from dataclasses import dataclass, field

from meshd.host.clones import ANSWER_SECONDS, REMEMBERED_SECONDS, Clones
from meshd.model.host import HostKeys
from meshd.model.keys import PublicKey
from meshd.model.network import Endpoint

NOW = 1_800_000_000.0


def record_of(version: int, endpoint: str) -> HostKeys:
    return HostKeys(
        version=version,
        public_key=PublicKey(bytes([1]) * 32),
        next_public_key=None,
        listen_port=51820,
        endpoints=(Endpoint.parse(endpoint),),
        announced=frozenset(),
        behind_nat=False,
        software="",
    )


@dataclass(slots=True)
class Machine:
    """One that wants its record to say its own endpoint."""

    endpoint: str
    clones: Clones = field(default_factory=Clones)

    def look(self, newest: HostKeys, now: float) -> HostKeys | None:
        """The record that it signs then, if any."""
        self.clones = self.clones.looked(newest, now)
        if str(newest.endpoints[0]) == self.endpoint or not self.clones.may_sign(newest, now):
            return None
        signed = record_of(newest.version + 1, self.endpoint)
        self.clones = self.clones.signed(signed.version, newest, now)
        return signed


def test_two_machines_with_one_identity_say_so_and_sign_once_a_minute() -> None:
    original, clone = Machine("192.0.2.1:51820"), Machine("192.0.2.2:51820")
    newest, signed = record_of(7, "192.0.2.1:51820"), 0
    for second in range(600):
        for machine in (original, clone):
            if (made := machine.look(newest, NOW + second)) is not None:
                newest, signed = made, signed + 1
    assert signed <= 2 * (600 / ANSWER_SECONDS) + 4
    for machine in (original, clone):
        said = machine.clones.condition("tesla")
        assert said is not None and said.code == "identity_cloned" and "two machines" in said.text


def test_a_state_directory_that_was_put_back_is_corrected_at_once_and_is_no_clone() -> None:
    """Its own newer record comes back from the others, once."""
    machine = Machine("192.0.2.1:51820")
    machine.look(record_of(7, "192.0.2.1:51820"), NOW)
    assert machine.look(record_of(12, "192.0.2.9:51820"), NOW + 5) is not None
    assert machine.clones.condition("tesla") is None


def test_what_a_machine_changes_itself_goes_out_at_once_however_often() -> None:
    machine, newest = Machine("192.0.2.1:51820"), record_of(7, "192.0.2.1:51820")
    machine.look(newest, NOW)
    for number in range(20):
        machine.endpoint = f"192.0.2.{100 + number}:51820"
        made = machine.look(newest, NOW + number)
        assert made is not None
        newest = made
    assert machine.clones.condition("tesla") is None


def test_it_closes_when_the_copy_is_gone() -> None:
    machine, newest = Machine("192.0.2.1:51820"), record_of(7, "192.0.2.1:51820")
    machine.look(newest, NOW)
    for number in range(3):
        machine.look(record_of(20 + 10 * number, "192.0.2.2:51820"), NOW + 100 * number)
    assert machine.clones.condition("tesla") is not None
    last = record_of(60, "192.0.2.1:51820")
    machine.clones = machine.clones.signed(60, None, NOW + 300)
    machine.look(last, NOW + 300 + REMEMBERED_SECONDS)
    assert machine.clones.condition("tesla") is None


def test_a_clock_that_was_set_back_keeps_no_record_in() -> None:
    machine = Machine("192.0.2.1:51820")
    machine.look(record_of(7, "192.0.2.1:51820"), NOW)
    assert machine.look(record_of(12, "192.0.2.2:51820"), NOW) is not None
    assert machine.look(record_of(20, "192.0.2.2:51820"), NOW - 86400) is not None
