"""What is left out of an import is there for whoever imports it later."""

from __future__ import annotations

import subprocess
import sys

import pytest


def say(program: str) -> str:
    """What it prints; in a process of its own, as what is imported once stays."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_module_that_was_left_out_is_whole_for_who_imports_it_later() -> None:
    program = "import meshd.listener, html; print(html.unescape('&auml;'), html.escape('<'))"
    assert say(program) == "ä &lt;"


def test_what_is_not_installed_for_one_library_is_for_others() -> None:
    assert (
        say("import meshd.daemon, typing_extensions as found; print(found.get_type_hints.__name__)")
        == "get_type_hints"
    )


@pytest.mark.parametrize(
    ("load", "package", "whole"),
    [
        ("import meshd.observe.metrics", "prometheus_client", "generate_latest"),
        ("from meshd.backend.netlink_socket import load; load()", "pyroute2", "IPRoute"),
    ],
)
def test_a_package_of_which_submodules_were_loaded_is_whole_for_who_imports_it_later(
    load: str, package: str, whole: str
) -> None:
    program = f"""
import sys
{load}
print({package!r} in sys.modules, [name for name in sys.modules if name.startswith("{package}.")] != [])
import {package}
print({package}.{whole}.__name__)
"""
    assert say(program).split() == ["False", "True", whole]


def test_a_library_that_is_loaded_already_stays_as_it_is() -> None:
    program = """
import html, prometheus_client, typing_extensions, sys
before = dict(sys.modules)
import meshd.daemon, meshd.listener, meshd.observe.metrics
print(all(sys.modules[name] is before[name] for name in ("html", "prometheus_client", "typing_extensions")))
"""
    assert say(program) == "True"


def test_an_exception_within_leaves_nothing_in_its_place() -> None:
    program = """
from meshd.lean import instead_of, submodules_of
for attempt in (instead_of("html", None), submodules_of("prometheus_client")):
    try:
        with attempt:
            raise LookupError
    except LookupError:
        pass
import sys
print({"html", "prometheus_client"} & set(sys.modules))
with submodules_of("no_such_package"):
    try:
        import no_such_package.part
    except ModuleNotFoundError as error:
        print(error.name)
"""
    assert say(program).split() == ["set()", "no_such_package"]


def test_uuid_is_whole_although_it_was_told_of_this_system_alone() -> None:
    program = """
import meshd.daemon, uuid, platform, sys
known = uuid.UUID(int=uuid.uuid1().int).hex
print(len(known), platform.system() == platform.uname().system, bool(platform.node()))
"""
    assert say(program) == "32 True True"


def test_a_daemon_looks_through_what_comes_and_not_through_what_it_loaded() -> None:
    program = """
import gc, meshd.daemon, meshd.lean
while_loading = gc.get_threshold()[0]
meshd.lean.collect_what_comes()
print(while_loading > 5000, gc.get_freeze_count() > 5000, gc.get_threshold()[0] < 1000, gc.isenabled())
"""
    assert say(program) == "True True True True"
