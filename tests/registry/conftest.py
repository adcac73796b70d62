"""How hard the property tests try: ``--hypothesis-profile=long`` for a night's run."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("long", max_examples=5_000, deadline=None)
