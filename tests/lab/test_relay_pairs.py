"""Pairs of four hosts are cut one after the other; ``make relay-lab`` does it with all pairs of six.

Run with ``-s`` to see the figures.
"""

from __future__ import annotations

from itertools import combinations

import pytest
from cut_pairs import cut_one_after_the_other, render
from lab_mesh import LabMesh

pytestmark = [pytest.mark.root, pytest.mark.slow]

PAIRS = 2


def test_each_pair_that_is_cut_flows_again_and_no_other_one_loses_a_packet(lab_mesh: LabMesh) -> None:
    lab_mesh.join(4)
    costs = list(cut_one_after_the_other(lab_mesh, list(combinations(lab_mesh.members, 2))[:PAIRS]))
    print("\n" + render(costs))
    assert [(each.idle_lost, each.beside, each.back) for each in costs] == [(0, {}, {})] * PAIRS
