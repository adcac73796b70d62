"""WireGuard's own datagrams, passed on between two hosts that cannot reach each other directly.

A small process beside meshd does it, without keys and without rights. It knows endpoints and public keys of
the few hosts that it is told of, and nothing of the mesh. Why ciphertext and not packets: ADR 23.
"""
