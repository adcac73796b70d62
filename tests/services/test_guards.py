"""Guards: what may never happen to a running service, whatever a view or a module says."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from service_rig import a_view

from meshd.services.guards import Allowed, Before, check_bounds, check_plan, check_view, is_explained
from meshd.services.plan import Command, File, HttpCall, HttpGet, RedisCall, ServicePlan, SocketKeep
from meshd.services.view import ServiceView

THREE = ("app/a@10.77.0.1", "app/b@10.77.0.2", "app/c@10.77.0.3")
BEFORE = Before(generation=5, endpoints=THREE, files=("/etc/app.conf",))
FILE = File(path="/etc/app.conf", text="x")


def plan(*endpoints: str, **changes: Any) -> ServicePlan:
    made = ServicePlan(files=(FILE,), endpoints=endpoints, services=("app",))
    return msgspec.structs.replace(made, **changes)


def with_app(view: ServiceView, **changes: Any) -> ServiceView:
    app = msgspec.structs.replace(view.services["app"], **changes)
    return msgspec.structs.replace(view, services={"app": app})


def test_an_empty_or_older_view_changes_nothing() -> None:
    empty = a_view(6, hosts={})
    assert "empty" in str(check_view(empty, BEFORE))
    assert "older than 5" in str(check_view(a_view(4), BEFORE))
    assert check_view(a_view(5), BEFORE) is None


def test_each_guard_is_named_for_metrics() -> None:
    fewer, stale = with_app(a_view(6), min_endpoints=4), a_view(6, stale=True, removed=(THREE[2],))
    held = [
        check_view(a_view(6, hosts={}), BEFORE),
        check_view(a_view(4), BEFORE),
        check_plan(plan(*THREE), fewer, BEFORE),
        check_plan(plan(THREE[0]), a_view(6), BEFORE),
        check_plan(plan(*THREE[:2]), stale, BEFORE),
        check_plan(plan(*THREE, files=()), a_view(6), BEFORE),
        check_bounds(plan(*THREE), Allowed()),
    ]
    assert [hold and hold.guard for hold in held] == [
        *("empty", "older", "too_few", "shrink", "stale", "empty", "bounds"),
    ]


def test_fewer_endpoints_than_declared_are_not_handed_on() -> None:
    view = with_app(a_view(6), min_endpoints=4)
    assert "3 active placements seen, at least 4 expected" in str(check_plan(plan(*THREE), view, BEFORE))
    assert check_plan(plan(*THREE), a_view(6), BEFORE) is None


def test_endpoints_that_vanish_without_a_signed_word_are_held() -> None:
    assert "2 of 3 endpoints would go" in str(check_plan(plan(THREE[0]), a_view(6), BEFORE))
    assert check_plan(plan(*THREE[:2]), a_view(6), BEFORE) is None
    signed = a_view(6, removed=(THREE[1], "*/c"))
    assert check_plan(plan(THREE[0]), signed, BEFORE) is None


def test_a_move_and_a_drain_are_signed_words_too() -> None:
    view = a_view(6)
    placements = list(view.services["app"].placements)
    placements[1] = msgspec.structs.replace(placements[1], address="10.78.2.9")
    placements[2] = msgspec.structs.replace(placements[2], state="draining")
    changed = with_app(view, placements=tuple(placements))
    assert is_explained(THREE[1], changed) and is_explained(THREE[2], changed)
    assert not is_explained(THREE[0], changed)


def test_a_stale_view_takes_nothing_away_and_one_too_old_adds_nothing() -> None:
    stale = a_view(6, stale=True, removed=(THREE[2],))
    assert "stale" in str(check_plan(plan(*THREE[:2]), stale, BEFORE))
    assert check_plan(plan(*THREE, "app/d@10.77.0.4"), stale, BEFORE) is None
    assert "too old" in str(check_plan(plan(*THREE, "app/d@10.77.0.4"), stale, BEFORE, too_old=True))


def test_an_empty_answer_of_a_module_is_not_taken() -> None:
    assert "says nothing" in str(check_plan(plan(*THREE, files=()), a_view(6), BEFORE))


ALLOWED = Allowed(
    files=frozenset({"/etc/app.conf"}),
    directories=("/etc/app.d",),
    programs=frozenset({"/bin/check"}),
    urls=("http://127.0.0.1:80/",),
    secrets=frozenset({"token"}),
)


@pytest.mark.parametrize(
    ("part", "word"),
    [
        ({"files": (File(path="/etc/passwd", text=""),)}, "not a file that its settings name"),
        ({"files": (File(path="/etc/app.d/../passwd", text=""),)}, "not a file"),
        ({"files": (File(path="/etc/app.d/deeper/x", text=""),)}, "not a file"),
        ({"files": (File(path="etc/app.conf", text=""),)}, "not a file"),
        ({"files": (FILE, FILE)}, "twice"),
        ({"files": (File(path="/etc/app.conf", text="", mode=0o4755),)}, "mode 4755"),
        ({"files": (File(path="/etc/app.conf", text="", mode=0o666),)}, "others may not write"),
        ({"files": (File(path="/etc/app.conf", text="{secret:token}", mode=0o644),)}, "mode 644"),
        ({"files": (File(path="/etc/app.conf", text="x" * 9_000_000),)}, "bytes"),
        ({"files": tuple(File(path=f"/etc/app.d/{n}", text="") for n in range(300))}, "300 files"),
        ({"checks": (Command(argv=("/bin/rm", "-rf", "/")),)}, "not a program"),
        ({"checks": (Command(argv=()),)}, "without a program"),
        ({"checks": (Command(argv=("/bin/check",), user="root"),)}, "as another user"),
        ({"checks": (Command(argv=("/bin/check",), beside={"../x": ""}),)}, "beside its files"),
        (
            {
                "checks": (
                    Command(
                        argv=("/bin/check",),
                        refuse="(",
                    ),
                )
            },
            "regular expression",
        ),
        ({"verify": (HttpGet(url="http://192.0.2.1/"),)}, "not a URL"),
        ({"calls": (HttpCall(method="POST", url="http://127.0.0.1:8080/x"),)}, "not a URL"),
        ({"verify": (HttpGet(url="http://127.0.0.1:80/", secret="other"),)}, "secret 'other'"),
        ({"calls": (RedisCall(target="127.0.0.1:6379", commands=(("FLUSHALL",),)),)}, "built-in"),
        ({"calls": (SocketKeep(target="/run/x", send="x", path="/etc/passwd"),)}, "built-in"),
    ],
)
def test_a_module_touches_only_what_its_settings_name(part: dict[str, Any], word: str) -> None:
    assert word in str(check_bounds(ServicePlan(**part), ALLOWED))


def test_what_its_settings_name_is_allowed() -> None:
    good = ServicePlan(
        files=(FILE, File(path="/etc/app.d/x.conf", text="")),
        checks=(Command(argv=("/bin/check", "x")),),
        verify=(HttpGet(url="http://127.0.0.1:80/health", secret="token"),),
    )
    assert check_bounds(good, ALLOWED) is None
