"""``wgctl root join``: as ``wgctl admin join``; a holder of a root key opens the same bundle."""

from __future__ import annotations

from wgctl.commands.admin import join as command

__all__ = ["command"]
