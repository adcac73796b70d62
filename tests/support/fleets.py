"""A fleet of the lab, founded and taken down; and members of it whose jails reach each other."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from itertools import permutations
from typing import Any

from meshd.lab.fleet import Fleet, Member
from meshd.lab.geography import PLACES
from meshd.lab.oracle import Oracle
from meshd.lab.select import open_lab

DEADLINE_SECONDS = 90.0


@contextlib.contextmanager
def founded_fleet(**options: Any) -> Iterator[Fleet]:
    """``options``: of Fleet."""
    lab = open_lab()
    try:
        fleet = Fleet(lab, **options)
        try:
            fleet.found()
            yield fleet
        finally:
            fleet.close()
    finally:
        lab.close()


def admit_connected(fleet: Fleet, count: int) -> list[Member]:
    """So many hosts with a jail each, admitted, running, and every jail answered from every other one."""
    members = [fleet.prepare(PLACES[number], jails=1) for number in range(count)]
    oracle = Oracle()
    try:
        for member in members:
            fleet.admit(member)
            fleet.wait_started(member)
            oracle.add(member.host.jails[0], member.host.jails[0].address)
        jails = [member.host.jails[0].name for member in members]
        answers = oracle.wait_all(list(permutations(jails, 2)), DEADLINE_SECONDS)
        assert None not in answers.values(), answers
    finally:
        oracle.close()
    return members
