"""Whatever the event loop runs is guarded: a defect in it is reported, and is the end of nothing else.

A task that nobody owns, or a callback that nobody guards, tells its exceptions to asyncio's own log alone.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PARTS = ("daemon", "control", "host", "exchange", "observe", "services", "probe", "backend", "relay")
MODULES = sorted(path for part in PARTS for path in (ROOT / "meshd" / part).rglob("*.py"))

TASKS = {"create_task", "ensure_future"}
CALLBACK_AT = {
    "call_soon": 0,
    "call_soon_threadsafe": 0,
    "call_later": 1,
    "call_at": 1,
    "add_reader": 1,
    "add_signal_handler": 1,
    "add_done_callback": 0,
}
"""Which argument is called."""
GUARDED = {
    ("probe/transport.py", "self._run"): "calls Supervisor.call itself, and rests after a defect",
    (
        "probe/transport.py",
        "self._resume",
    ): "calls that one; in a guard of its own it would say that all is well",
    ("control/kernel_watch.py", "self._readable"): "calls Supervisor.call itself",
    ("control/kernel_watch.py", "self._hear"): "adds a reader",
    ("daemon/serving.py", "daemon.stop"): "sets an event",
    ("daemon/serving.py", "daemon.reload_quietly"): "calls Supervisor.call itself",
    ("exchange/health_exchange.py", "partial(self._is_free, hid)"): "discards from a set",
    ("exchange/row_exchange.py", "partial(self._is_answered, hid)"): "discards from a set",
}


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            yield node.func.attr, node


def is_guarded(callback: ast.expr) -> bool:
    """``tasks.call``, or a set's ``discard``; a lambda is what it calls."""
    if isinstance(callback, ast.Lambda):
        return isinstance(callback.body, ast.Call) and is_guarded(callback.body.func)
    return isinstance(callback, ast.Attribute) and callback.attr in ("call", "discard")


@pytest.mark.slow
@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_the_loop_runs_is_supervised(path: Path) -> None:
    name = str(path.relative_to(ROOT / "meshd"))
    for called, node in calls(ast.parse(path.read_text())):
        assert called not in TASKS, f"{name}:{node.lineno}: Supervisor.spawn or repeat"
        if called in CALLBACK_AT:
            callback = node.args[CALLBACK_AT[called]]
            known = (name, ast.unparse(callback)) in GUARDED
            assert known or is_guarded(callback), f"{name}:{node.lineno}: Supervisor.call"


@pytest.mark.slow
def test_every_exception_is_still_needed() -> None:
    found = {
        (str(path.relative_to(ROOT / "meshd")), ast.unparse(node.args[CALLBACK_AT[called]]))
        for path in MODULES
        for called, node in calls(ast.parse(path.read_text()))
        if called in CALLBACK_AT
    }
    assert set(GUARDED) <= found
