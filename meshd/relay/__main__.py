"""Starts the relaying process (``meshd.relay.child``), one on every host, with as few modules as it needs.

msgspec takes two functions from typing_extensions if there is one, and from typing if not (Python 3.11 has
them). The former brings inspect, ast and tokenize along: 1.7 MiB in a process of 8. hashlib and hmac load
OpenSSL for hashes that nothing here asks for: 0.5 MiB. BLAKE2 is Python's own in any case, and hmac's
``compare_digest`` takes as long for every text without OpenSSL.
"""

from __future__ import annotations

import sys

from meshd.lean import instead_of

with instead_of("typing_extensions", None), instead_of("_hashlib", None):
    from meshd.relay.child import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
