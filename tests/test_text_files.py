"""Text from other systems and from streams that may be closed."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from meshd.errors import ConfigError
from meshd.host.enrollment import read_bundle
from meshd.settings import read_settings
from meshd.store.credentials import read_credentials
from meshd.text_files import read_standard_input, somebody_answers
from wgctl.files import read_text

MARK = b"\xef\xbb\xbf"
SETTINGS = 'state_dir = "/var/db/meshd"\r\n[host]\r\nendpoints = ["192.0.2.1:51820"]\r\n'
CREDENTIALS = '{"access_key": "GK0", "secret_key": "x"}'

READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "settings": (SETTINGS, lambda path: read_settings(path).endpoints),
    "credentials": (CREDENTIALS, lambda path: read_credentials(path).access_key),
    "bundle": ("{}", read_bundle),
    "request": ("{}", lambda path: read_text(str(path), "a request", 1024)),
}


@pytest.mark.parametrize("name", READERS)
def test_a_mark_of_notepad_is_passed_over(name: str, tmp_path: Path) -> None:
    text, read = READERS[name]
    path = tmp_path / "file"
    path.touch(mode=0o600)
    path.write_bytes(text.encode())
    plain = read(path)
    path.write_bytes(MARK + text.encode())
    assert read(path) == plain


@pytest.mark.parametrize("name", ["settings", "bundle", "request"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_what_powershell_writes_is_named(name: str, encoding: str, tmp_path: Path) -> None:
    text, read = READERS[name]
    path = tmp_path / "file"
    path.write_bytes((b"\xfe\xff" if encoding == "utf-16-be" else b"") + text.encode(encoding))
    with pytest.raises(ConfigError, match=r"UTF-16 seen.* UTF-8 expected"):
        read(path)


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"\xff\xfb\x00")
    with pytest.raises(ConfigError, match=r"not a request: not text in UTF-8"):
        read_text(str(tmp_path / "file"), "a request", 1024)


def test_a_closed_standard_input_is_said_and_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert not somebody_answers()
    with pytest.raises(ConfigError, match="standard input is closed, a bundle expected"):
        read_standard_input("a bundle", 1024)


def test_standard_input_may_bring_a_mark_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(MARK + b"{}")))
    assert read_standard_input("a bundle", 1024) == "{}"
