"""``--hypothesis-profile long``: many more examples than a commit can wait for."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("long", max_examples=5_000, deadline=None)
