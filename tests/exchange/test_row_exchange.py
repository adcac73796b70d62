"""Who looks at the matrix sees every host's own row, with its age, and whose word it is."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest
from daemon_rig import Rig
from exchange_host import ExchangeHost, client_for, partner_for
from exchange_rig import Loopback, all_running, build_exchanging
from meshes import SignedMesh

from meshd.errors import RegistryError, StoreError
from meshd.exchange.rows import (
    MAX_ROW_PATHS,
    MAX_WANTED,
    ROW_SECONDS,
    KeptRows,
    PathReport,
    RowReport,
    RowsAnswer,
    RowsRequest,
    build_answer,
    check_answer,
    of_mesh,
)
from meshd.model.path import PathStats
from meshd.observe.matrix import Matrix
from meshd.observe.protocol import ControlAnswer

NAMES = ("tesla", "newton", "bohr")
A, B, C = "aa" * 16, "bb" * 16, "cc" * 16
DOWN = PathStats(up=False, loss_ratio=1.0, sent=9)


@pytest.fixture
def mesh() -> SignedMesh:
    mesh = SignedMesh.create()
    for name in NAMES:
        mesh.add(name)
    return mesh


def measured(milliseconds: float) -> PathStats:
    return PathStats(up=True, srtt_seconds=milliseconds / 1000, loss_ratio=0.0, sent=9)


async def matrix_of(rig: Rig) -> Matrix:
    answer = msgspec.json.decode(await rig.raw(b'{"verb": "matrix"}\n'), type=ControlAnswer)
    assert answer.error is None, answer.error
    return msgspec.json.decode(answer.result, type=Matrix)


def rtt_milliseconds(matrix: Matrix, source: str, target: str) -> float:
    seconds = matrix.rows[source].paths[target].srtt_seconds
    assert seconds is not None
    return seconds * 1000


def build_fleet(tmp_path: Path, mesh: SignedMesh) -> dict[str, Rig]:
    """Every host measures every other one; row and column of a pair say different things."""
    loopback = Loopback.of(mesh.hosts.values())
    rigs = {name: build_exchanging(tmp_path, mesh, mesh.hosts[name], loopback) for name in NAMES}
    for row, (name, rig) in enumerate(rigs.items(), 1):
        rig.prober.stats = {
            mesh.hosts[other].hid: measured(10 * row + column)
            for column, other in enumerate(NAMES, 1)
            if other != name
        }
    return rigs


def test_each_row_is_what_that_host_measures(tmp_path: Path, mesh: SignedMesh) -> None:
    rigs = build_fleet(tmp_path, mesh)

    async def scenario() -> None:
        async with all_running(rigs.values()):
            matrix = await matrix_of(rigs["tesla"])
            assert matrix.hosts == ("bohr", "newton", "tesla")
            assert {name: row.told_by for name, row in matrix.rows.items()} == dict.fromkeys(NAMES)
            assert rtt_milliseconds(matrix, "tesla", "newton") == pytest.approx(12)
            assert rtt_milliseconds(matrix, "newton", "tesla") == pytest.approx(21)
            assert rtt_milliseconds(matrix, "bohr", "newton") == pytest.approx(32)

    asyncio.run(scenario())


def test_the_row_of_a_host_that_does_not_answer_here_comes_from_one_that_it_answers(
    tmp_path: Path, mesh: SignedMesh
) -> None:
    rigs = build_fleet(tmp_path, mesh)
    rigs["tesla"].prober.stats[mesh.hosts["bohr"].hid] = DOWN
    rigs["bohr"].prober.mtus = {mesh.hosts["newton"].hid: 1380}

    async def scenario() -> None:
        async with all_running(rigs.values()):
            first = await matrix_of(rigs["tesla"])
            assert "bohr" not in first.rows and not first.rows["tesla"].paths["bohr"].up
            assert "bohr" in (await matrix_of(rigs["newton"])).rows  # somebody looks there
            matrix = await matrix_of(rigs["tesla"])
            assert matrix.rows["bohr"].told_by == "newton"
            assert matrix.rows["bohr"].mtus == {"newton": 1380}
            assert rtt_milliseconds(matrix, "bohr", "newton") == pytest.approx(32)

    asyncio.run(scenario())


def test_while_nobody_looks_nothing_is_asked(tmp_path: Path, mesh: SignedMesh) -> None:
    rigs = build_fleet(tmp_path, mesh)

    async def scenario() -> None:
        async with all_running(rigs.values()):
            for rig in rigs.values():
                await rig.turn()
                exchange = rig.daemon.parts.exchange
                assert exchange is not None and exchange.rows.rows() == {}
            await matrix_of(rigs["tesla"])
            bohr = rigs["bohr"].daemon.parts.exchange
            assert bohr is not None and bohr.rows.rows() == {}, "who is asked does not ask"

    asyncio.run(scenario())


def test_a_host_that_hangs_costs_who_looks_a_moment(tmp_path: Path, mesh: SignedMesh) -> None:
    loopback = Loopback.of(mesh.hosts.values())
    rig = build_exchanging(tmp_path, mesh, mesh.hosts["tesla"], loopback)  # the others do not run

    async def scenario() -> None:
        async with all_running([rig]):
            assert set((await matrix_of(rig)).rows) == {"tesla"}

    asyncio.run(scenario())


# --- members that mean no good


def test_hosts_alone_are_shown_what_is_measured(mesh: SignedMesh, tesla: ExchangeHost, port: int) -> None:
    newton = mesh.hosts["newton"]
    with pytest.raises(StoreError, match="401 hosts alone"):
        client_for(mesh, port).rows(partner_for(tesla, newton), RowsRequest())
    assert client_for(mesh, port, newton).rows(partner_for(tesla, newton), RowsRequest()) == tesla.rows


def test_one_that_asks_without_end_is_limited_and_the_others_are_answered(
    mesh: SignedMesh, tesla: ExchangeHost, port: int
) -> None:
    newton, bohr = mesh.hosts["newton"], mesh.hosts["bohr"]
    client = client_for(mesh, port, newton)
    with pytest.raises(StoreError, match="429"):
        for _ in range(100):
            client.rows(partner_for(tesla, newton), RowsRequest())
    client_for(mesh, port, bohr).rows(partner_for(tesla, bohr), RowsRequest())


def test_one_request_asks_for_so_many_rows(mesh: SignedMesh, tesla: ExchangeHost, port: int) -> None:
    newton = mesh.hosts["newton"]
    with pytest.raises(StoreError, match=f"400 RowsRequest: {MAX_WANTED + 1} hosts seen"):
        client_for(mesh, port, newton).rows(
            partner_for(tesla, newton), RowsRequest(want=(A,) * (MAX_WANTED + 1))
        )


def path(**changes: object) -> PathReport:
    return msgspec.structs.replace(PathReport(True, 0.01, 0.001, 0.0), **changes)


def row(age_seconds: float = 0.0, **paths: PathReport) -> RowReport:
    return RowReport(age_seconds=age_seconds, paths=paths or {B: path()})


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (RowsAnswer(own=row(-1.0)), "age_seconds -1 seen, 0 to 3600 expected"),
        (RowsAnswer(own=row(ROW_SECONDS + 1)), "age_seconds 3601 seen"),
        (RowsAnswer(own=row(float("nan"))), "age_seconds nan seen"),
        (RowsAnswer(own=row(), told={C: row()}), "1 rows seen that were not asked for"),
        (RowsAnswer(own=row(), told={B: row(float("inf"))}), "age_seconds inf seen"),
        (RowsAnswer(own=row(), told={B: row(b=path())}), "a hid of 32 digits expected"),
        (RowsAnswer(own=RowReport(age_seconds=0, paths={B: path(rtt_seconds=-0.1)})), "a time of"),
        (
            RowsAnswer(own=RowReport(age_seconds=0, paths={B: path(jitter_seconds=1e9)})),
            "a time of 1e\\+09 s",
        ),
        (RowsAnswer(own=RowReport(age_seconds=0, paths={B: path(loss_ratio=1.5)})), "loss_ratio 1.5 seen"),
        (
            RowsAnswer(own=RowReport(age_seconds=0, paths={B: path(loss_ratio=float("nan"))})),
            "loss_ratio nan",
        ),
        (RowsAnswer(own=RowReport(age_seconds=0, paths={B: path(via="<b>")})), "'<b>' seen, a hid"),
        (
            RowsAnswer(
                own=RowReport(age_seconds=0, paths={f"{n:032x}": path() for n in range(MAX_ROW_PATHS + 1)})
            ),
            "4097 paths seen",
        ),
        (RowsAnswer(own=RowReport(age_seconds=0, paths={B: path()}, mtus={B: 0})), "an MTU of 0 seen"),
        (RowsAnswer(own=RowReport(age_seconds=0, paths={B: path()}, mtus={B: 65536})), "an MTU of 65536"),
        (RowsAnswer(own=RowReport(age_seconds=0, paths={B: path()}, mtus={C: 1420})), "MTU of 1 paths seen"),
    ],
)
def test_an_answer_that_is_no_row_is_refused_whole(answer: RowsAnswer, word: str) -> None:
    with pytest.raises(RegistryError, match=word):
        check_answer(answer, RowsRequest(want=(B,)))


def test_a_lying_host_can_draw_its_own_row_and_no_other_one(
    mesh: SignedMesh, tesla: ExchangeHost, port: int
) -> None:
    """The worst that a member does: rows of hosts that answer for themselves."""
    newton = mesh.hosts["newton"]
    tesla.rows = RowsAnswer(own=row(), told={newton.hid: row()})
    with pytest.raises(RegistryError, match="not asked for"):
        client_for(mesh, port, newton).rows(partner_for(tesla, newton), RowsRequest())


# --- what is kept


def test_a_rows_own_word_stands_before_what_others_tell_unless_that_is_younger() -> None:
    kept = KeptRows()
    kept.hear(A, RowsAnswer(own=row()), 100.0)
    kept.hear(B, RowsAnswer(own=row(), told={A: row(20.0, **{C: path()})}), 110.0)
    assert kept.rows(110.0)[A].told_by is None and kept.rows(110.0)[A].age_seconds == 10.0
    kept.hear(B, RowsAnswer(own=row(), told={A: row(1.0, **{C: path()})}), 110.0)
    assert kept.rows(110.0)[A].told_by == B and set(kept.rows(110.0)[A].paths) == {C}
    kept.hear(A, RowsAnswer(own=row(0.0)), 111.0)
    assert kept.rows(111.0)[A].told_by is None


def test_a_row_speaks_of_hosts_of_the_mesh_alone() -> None:
    """What else a lying host invents would be kept for each, and be passed on."""
    short, long = ({hid: path() for hid in hids} for hids in ((B,), (B, C)))
    told = RowsAnswer(
        own=RowReport(age_seconds=0.0, paths=long, mtus={B: 1420, C: 1280}),
        told={B: RowReport(age_seconds=1.0, paths=long)},
    )
    assert of_mesh(told, {A, B}) == RowsAnswer(
        own=RowReport(age_seconds=0.0, paths=short, mtus={B: 1420}),
        told={B: RowReport(age_seconds=1.0, paths=short)},
    )


def test_long_rows_of_others_do_not_crowd_out_a_hosts_own(
    mesh: SignedMesh, tesla: ExchangeHost, port: int
) -> None:
    """An answer over its size is refused whole, so whoever fills it would silence the host that gives it."""
    newton = mesh.hosts["newton"]
    hids = [f"{number:032x}" for number in range(MAX_WANTED)]
    long = {f"{n:032x}": path(rtt_seconds=0.1234567890123456, via=A) for n in range(MAX_ROW_PATHS // 2)}
    kept = KeptRows()
    for hid in hids:
        kept.hear(hid, RowsAnswer(own=RowReport(age_seconds=0.0, paths=long)), 100.0)
    own = RowReport(age_seconds=0.0, paths={hid: path() for hid in hids})
    tesla.rows = build_answer(own, kept.told(hids, 100.0))
    heard = client_for(mesh, port, newton).rows(partner_for(tesla, newton), RowsRequest(want=tuple(hids)))
    assert heard.own == own and 0 < len(heard.told) < len(hids)


def test_a_row_grows_old_on_its_way_and_goes_with_its_host() -> None:
    kept = KeptRows()
    kept.hear(B, RowsAnswer(own=row(), told={A: row(30.0)}), 100.0)
    assert kept.told([A, C], 150.0)[A].age_seconds == 80.0 and C not in kept.told([A, C], 150.0)
    assert kept.stale([A, B, C], 60.0, 150.0) == [A, C]
    assert A not in kept.rows(100.0 + ROW_SECONDS)
    kept.keep_only({B})
    assert kept.told([A], 100.0) == {}
