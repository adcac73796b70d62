"""The page in a real browser: what its own policy would keep from being shown, the browser reports."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from page_states import DOWN, page_view, peer_state
from prometheus_client.registry import CollectorRegistry

from meshd.observe.listener import MetricsListener

pytestmark = pytest.mark.real

VIEW = page_view(peer_state("newton"), peer_state("bohr", DOWN), spans={peer_state("newton").hid: 0.012})


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    listener = MetricsListener(CollectorRegistry(), (("127.0.0.1", 0),), view=lambda: VIEW)
    listener.start()
    with contextlib.closing(listener):
        yield listener.urls[0].removesuffix("metrics")


def browse(url: str, profile: Path, *options: str) -> subprocess.CompletedProcess[str]:
    argv = ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    argv += ["--enable-logging=stderr", "--log-level=0", "--no-first-run", f"--user-data-dir={profile}"]
    return subprocess.run([*argv, *options, url], capture_output=True, text=True, timeout=90, check=True)


@pytest.mark.slow
@pytest.mark.parametrize("path", ["", "?live", "host/bohr"])
def test_the_browser_shows_it_whole_and_has_nothing_to_complain_of(
    url: str, path: str, tmp_path: Path
) -> None:
    shown = browse(url + path, tmp_path, "--dump-dom")
    assert "bohr" in shown.stdout and "</footer>" in shown.stdout
    complaints = [
        line for line in shown.stderr.splitlines() if "CONSOLE" in line or "Content Security" in line
    ]
    assert not complaints


@pytest.mark.slow
def test_on_a_phone_and_in_the_dark_it_is_another_picture(url: str, tmp_path: Path) -> None:
    pictures = {}
    for name, options in {
        "desk": ["--window-size=1280,900"],
        "phone": ["--window-size=390,900"],
        "dark": ["--window-size=1280,900", "--blink-settings=preferredColorScheme=0"],
    }.items():
        browse(url, tmp_path / name, "--hide-scrollbars", *options, f"--screenshot={tmp_path / name}.png")
        pictures[name] = (tmp_path / f"{name}.png").read_bytes()
    assert len(set(pictures.values())) == 3
    assert all(picture.startswith(b"\x89PNG") and len(picture) > 10_000 for picture in pictures.values())
