"""What the shipped unit leaves of the kernel is enough for services, with the drop-in that is for them."""

from __future__ import annotations

import subprocess
import sys

import pytest
from as_systemd_unit import DROP_IN, wrap

pytestmark = pytest.mark.root

RENDER = """
import os
from module_scripts import public_directory, write_module
from service_rig import a_view
from meshd.errors import BackendError
from meshd.services.config import read_modules
from meshd.services.render import render_plan

with public_directory() as directory:
    path = write_module(directory, CODE)
    config = read_modules({"app": {"command": str(path), "file": "/nowhere/app.conf"}}, "test")["app"]
    try:
        print(render_plan(config, a_view(), seconds=SECONDS).files[0].text)
    except BackendError as error:
        print(error)
"""


def render_in_unit(code: str, seconds: float = 120.0, then: str = "") -> str:
    program = f"CODE, SECONDS = {code!r}, {seconds}\n{RENDER}\n{then}\n"
    done = subprocess.run(
        wrap([sys.executable, "-c", program], DROP_IN),
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONPATH": ":".join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    return done.stdout + done.stderr


def test_a_module_gives_up_its_rights_and_answers() -> None:
    said = render_in_unit("answer('%d nice %d' % (os.getuid(), os.nice(0)))")
    assert said.startswith("21000") and "nice " in said, said


def test_what_a_module_started_ends_with_it() -> None:
    """The answer is taken when all has ended, and that takes no minute."""
    code = "subprocess.Popen(['/bin/sleep', '600'], start_new_session=True); answer('here')"
    assert render_in_unit(code, 60.0) == "here\n"


def test_a_file_gets_the_owner_that_its_service_wants() -> None:
    then = "import tempfile\nos.chown(tempfile.mkdtemp(), 12345, 12345)\nprint('owned')"
    assert render_in_unit("answer('here')", then=then).endswith("owned\n")
