"""All fifteen pairs of six hosts cut one after the other under traffic: ``make relay-lab``.

100 packets a second on each of 58 ways, between hosts and between jails, six daemons and their WireGuards in
user space. Two quiet cores carry that; what a busy machine drops is a column of its own. Needs root; some ten
minutes.
"""

from __future__ import annotations

import os
from itertools import combinations
from typing import Final

from cut_pairs import HEADER, cut_one_after_the_other, render_cut, render_sum
from lab_mesh import open_lab_mesh

HOSTS: Final = 6


def run() -> None:
    if os.geteuid() != 0:
        print("left out: the lab needs root")
        return
    costs = []
    with open_lab_mesh() as mesh:
        mesh.join(HOSTS)
        print(HEADER)
        for cost in cut_one_after_the_other(mesh, list(combinations(mesh.members, 2))):
            costs.append(cost)
            print(render_cut(cost), flush=True)
    print(render_sum(costs))
