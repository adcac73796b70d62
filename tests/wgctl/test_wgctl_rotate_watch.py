"""``wgctl rotate-keys --watch``: what it shows of a rotation, and what it does where nobody can tell."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from admin_desk import AdminDesk
from click.testing import Result
from control_fixture import FakeMeshd, build_peer, build_status

from meshd.observe.protocol import ControlAnswer, ControlRequest
from meshd.observe.status import RotationStatus, Status
from wgctl.views import rotation as rotationwatch

Run = Callable[..., Result]
OLD, NEW = "a" * 43 + "=", "c" * 43 + "="


@pytest.fixture
def desk(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AdminDesk:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(rotationwatch, "LOOK_SECONDS", 0.0)
    desk = AdminDesk(run, tmp_path)
    desk.found("ada")
    desk.add("ada", "newton")
    return desk


def status_of(hid: str, state: str, key: str, *, waited_for: tuple[str, ...] = ()) -> Status:
    peer = msgspec.structs.replace(build_peer("newton"), hid=hid, rotation=state, public_key=key)
    status = build_status(peer)
    return msgspec.structs.replace(status, rotation=RotationStatus(state=state, waited_for=waited_for))


class Story:
    """Each answer is the next state; the last one stays."""

    def __init__(self, *answers: Status) -> None:
        self.answers = list(answers)

    def __call__(self, request: ControlRequest) -> ControlAnswer | bytes:
        if request.verb != "status":
            return ControlAnswer(exit_code=1, error="not here")
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return ControlAnswer(exit_code=0, result=msgspec.Raw(msgspec.json.encode(answer)))


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[Story], Path]]:
    opened: list[FakeMeshd] = []

    def start(story: Story) -> Path:
        opened.append(FakeMeshd(tmp_path / "control.sock", story))
        return opened[-1].path

    yield start
    for meshd in opened:
        meshd.close()


def test_each_step_is_told_until_the_key_is_another_one(
    desk: AdminDesk, serve: Callable[[Story], Path]
) -> None:
    hid = desk.json("ada", "list")["hosts"][0]["hid"]
    socket = serve(
        Story(
            status_of(hid, "steady", OLD),
            status_of(hid, "steady", OLD),
            status_of(hid, "moving", OLD),
            status_of(hid, "returning", NEW),
            status_of(hid, "steady", NEW),
        )
    )
    done = desk.ok("ada", "--socket", str(socket), "rotate-keys", "newton", "--watch")
    told = [line for line in done.stdout.splitlines() if line.startswith("newton: ")]
    steps = ("turn", "moving", "returning", "done")
    assert told[1:] == [f"newton: {rotationwatch.WORDS[each]}" for each in steps]


def test_the_host_at_hand_tells_whom_it_waits_for() -> None:
    own = msgspec.structs.replace(
        build_status(), rotation=RotationStatus(state="moving", waited_for=("bohr",))
    )
    (row,) = rotationwatch.build_rows(own, {own.host.hid: "tesla"}, {own.host.hid: own.host.public_key})
    assert row.text().endswith("waits for bohr")


def test_without_a_daemon_nobody_is_asked(desk: AdminDesk, tmp_path: Path) -> None:
    before = len(desk.json("ada", "log")["statements"])
    done = desk.run("ada", "--socket", str(tmp_path / "nothing.sock"), "rotate-keys", "newton", "--watch")
    assert done.exit_code == 3
    assert len(desk.json("ada", "log")["statements"]) == before


def test_a_daemon_that_stays_away_ends_the_watching(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(rotationwatch, "AWAY_SECONDS", -1.0)
    from meshd.errors import ControlError

    with pytest.raises(ControlError):
        rotationwatch.watch(tmp_path / "nothing.sock", {}, {})


def test_status_shows_whose_key_is_rotated(run: Run, serve: Callable[[Story], Path]) -> None:
    socket = serve(Story(status_of("ab" * 16, "moving", OLD, waited_for=("newton",))))
    shown = run("--socket", str(socket), "status", "--local").stdout
    assert "this host's key: moving, waits for newton" in shown
    assert "newton: moving" in shown
