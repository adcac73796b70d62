"""An administrator's home belongs to one user: whoever else works in it would lock that one out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from meshd.errors import ConfigError
from wgctl.admin.home import open_any_home


def test_somebody_else_is_told_whose_home_it_is_before_a_file_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``sudo`` that keeps HOME: root's lock file would be closed to the owner from then on."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    monkeypatch.setattr("wgctl.admin.home.os.geteuid", lambda: os.getuid() + 1)
    with pytest.raises(ConfigError, match=rf"belongs to .*run wgctl as .*chown -R {os.getuid() + 1} {home}"):
        open_any_home(home)
    assert not list(home.iterdir())
