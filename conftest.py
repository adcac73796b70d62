"""How the property tests try: ``--hypothesis-profile=long`` for a night's run.

No profile has a deadline: how long an example takes says how loaded the machine is.
"""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("default", deadline=None)
settings.register_profile("long", max_examples=5_000, deadline=None)
