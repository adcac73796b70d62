"""A client's settings as a picture on the terminal. They hold its private key, and are written nowhere."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import click

from meshd.errors import ConfigError
from meshd.model.keys import PrivateKey
from wgctl.output import is_terminal, show_drawing
from wgctl.views.client_config import render_for_phone
from wgctl.views.qr_code import LARGEST_BYTES, draw_qr_code

if TYPE_CHECKING:
    from wgctl.views.client_config import ClientConfig
    from wgctl.views.qr_code import QrCode


def require_terminal() -> None:
    """UsageError for anything else: a file, a pipe or a log would keep the key."""
    if not is_terminal():
        raise click.UsageError("--qr needs a terminal: the picture holds the private key")


def require_room(config: ClientConfig, key: PrivateKey) -> None:
    """ConfigError where no picture on this terminal holds it, or none can be drawn."""
    size_bytes = len(render_for_phone(config, key).encode())
    if size_bytes > LARGEST_BYTES:
        raise ConfigError(
            f"{config.name}: its settings for {len(config.peers)} hosts are {size_bytes} bytes, a QR code "
            f"holds {LARGEST_BYTES} at most: bring it the file, without --qr"
        )
    code, terminal = _draw(config, key), shutil.get_terminal_size()
    if not code.fits(terminal.columns, terminal.lines):
        raise ConfigError(
            f"{config.name}: its QR code needs {code.columns} columns and {len(code.lines) + 1} lines, this "
            f"terminal has {terminal.columns} and {terminal.lines}: make its letters smaller"
        )


def show(config: ClientConfig, key: PrivateKey) -> None:
    show_drawing(_draw(config, key).render())


def _draw(config: ClientConfig, key: PrivateKey) -> QrCode:
    return draw_qr_code(render_for_phone(config, key))
