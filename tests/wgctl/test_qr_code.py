"""A phone reads its settings from the terminal: what is drawn is read back by a reader that others wrote."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from admin_desk import AdminDesk
from click.testing import Result
from on_a_terminal import run_on_a_terminal

from meshd.errors import ConfigError
from wgctl.views.client_config import parse_client_file
from wgctl.views.qr_code import DARK_ON_LIGHT, LARGEST_BYTES, PLAIN, draw_qr_code

Run = Callable[..., Result]
ROOMY = (200, 120)
MODULE = 4
"""Pixels, each way."""
INK = {" ": (255, 255), "▀": (0, 255), "▄": (255, 0), "█": (0, 0)}


def read_back(screen: str) -> str:
    """What a reader sees in the coloured lines of a screen."""
    zxingcpp = pytest.importorskip("zxingcpp", reason="a reader that PyPI has for Linux alone")
    lines = re.findall(re.escape(DARK_ON_LIGHT) + "(.*?)" + re.escape(PLAIN), screen)
    rows = [[INK[character][half] for character in line] for line in lines for half in (0, 1)]
    pixels = [bytes(value for value in row for _ in range(MODULE)) for row in rows for _ in range(MODULE)]
    image = memoryview(b"".join(pixels)).cast("B", (len(pixels), len(pixels[0])))
    [found] = zxingcpp.read_barcodes(image)
    return str(found.text)


@pytest.fixture
def desk(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AdminDesk:
    monkeypatch.chdir(tmp_path)
    desk = AdminDesk(run, tmp_path)
    desk.found("ada")
    desk.add("ada", "tesla", "--jails", "10.17.1.0/24", networks=("10.17.1.0/24",))
    desk.add("ada", "newton", endpoint="newton.example.net:51820")
    return desk


def on_a_terminal(desk: AdminDesk, *words: str, size: tuple[int, int] = ROOMY) -> tuple[int, str]:
    return run_on_a_terminal("--home", desk.home("ada"), *words, columns=size[0], lines=size[1])


@pytest.mark.parametrize("length", [1, 20, 300, 1200, LARGEST_BYTES])
def test_what_is_drawn_is_what_a_reader_sees(length: int) -> None:
    text = ("PublicKey=AbC/+9 = [Peer]\n" * 200)[:length]
    code = draw_qr_code(text)
    assert read_back(code.render()) == text
    assert {len(line) for line in code.lines} == {code.columns}


def test_a_text_that_no_code_holds_is_refused_with_its_size() -> None:
    with pytest.raises(ConfigError, match=f"{LARGEST_BYTES + 1} bytes seen") as caught:
        draw_qr_code("s" * (LARGEST_BYTES + 1))
    assert "sss" not in str(caught.value)


@pytest.mark.slow
def test_a_phone_reads_the_same_as_its_file_says(desk: AdminDesk) -> None:
    desk.ok("ada", "add-client", "phone")
    code, screen = on_a_terminal(desk, "client", "config", "phone", "--key-from", "phone.conf", "--qr")
    assert code == 0, screen
    text = read_back(screen)
    seen, written = (parse_client_file(each, "it") for each in (text, Path("phone.conf").read_text()))
    assert seen.addresses == written.addresses and len(seen.peers) == 2
    assert {(each.public_key, each.allowed_ips, each.endpoint) for each in seen.peers.values()} == {
        (each.public_key, each.allowed_ips, each.endpoint) for each in written.peers.values()
    }
    assert seen.private_key is not None and written.private_key is not None
    assert seen.private_key.reveal_text() == written.private_key.reveal_text()
    assert written.private_key.reveal_text() not in screen


@pytest.mark.slow
def test_a_picture_alone_has_the_key_of_a_phone_that_is_added_with_one(desk: AdminDesk) -> None:
    code, screen = on_a_terminal(desk, "add-client", "phone", "--qr")
    assert code == 0, screen
    settings = parse_client_file(read_back(screen), "the picture")
    assert settings.private_key is not None
    [client] = [each for name, each in desk.hosts("ada").items() if name == "phone"]
    assert f"{client['addresses'][0]}/32" in settings.addresses
    secret = settings.private_key.reveal_text()
    assert secret not in screen and "kept" not in screen
    files = [path for path in desk.directory.rglob("*") if path.is_file()]
    assert files and not any(secret.encode() in path.read_bytes() for path in files)
    assert not (desk.directory / "phone.conf").exists()


@pytest.mark.slow
def test_a_terminal_that_is_too_small_grants_nothing_and_says_how_large_it_must_be(desk: AdminDesk) -> None:
    code, screen = on_a_terminal(desk, "add-client", "phone", "--qr", size=(80, 24))
    assert code == 2 and "this terminal has 80 and 24" in screen and DARK_ON_LIGHT not in screen
    columns, lines = map(int, re.findall(r"needs (\d+) columns and (\d+) lines", screen)[0])
    assert "phone" not in desk.hosts("ada")
    assert on_a_terminal(desk, "add-client", "phone", "--qr", size=(columns, lines))[0] == 0


def test_a_picture_is_for_a_terminal_alone(desk: AdminDesk) -> None:
    assert "needs a terminal" in desk.refused(2, "ada", "add-client", "phone", "--qr")
    assert "phone" not in desk.hosts("ada")
    desk.ok("ada", "add-client", "phone")
    show = ("client", "config", "phone", "--qr")
    assert "needs a terminal" in desk.refused(2, "ada", *show, "--key-from", "phone.conf")
    assert "--key-from" in desk.refused(2, "ada", *show)
    assert "--out" in desk.refused(2, "ada", *show, "--key-from", "phone.conf", "--out", "picture")
    assert "--public-key" in desk.refused(
        2, "ada", "add-client", "car", "--qr", "--public-key", "A" * 43 + "="
    )


def test_without_segno_the_error_names_the_extra() -> None:
    program = (
        "import sys; sys.modules['segno'] = None\n"
        "from wgctl.views.qr_code import draw_qr_code\n"
        "from meshd.errors import ConfigError\n"
        "try: draw_qr_code('x')\n"
        "except ConfigError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (
        done.stdout
        == "a QR code needs the package segno, which is not installed: pip install 'wg-meshd[qr]'\n"
    )
