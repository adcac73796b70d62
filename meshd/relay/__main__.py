"""Starts the relaying process (``meshd.relay.child``) with as few modules as it needs.

msgspec takes two functions from typing_extensions if there is one, and from typing if not (Python 3.11 has
them). The former brings inspect, ast and tokenize along: 1.7 MiB in a process of 10, on every host.
"""

from __future__ import annotations

import sys

sys.modules["typing_extensions"] = None  # type: ignore[assignment]  # there is none (import system, 5.3.1)

from meshd.relay.child import main  # noqa: E402 - which imports msgspec

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
