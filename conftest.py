"""The fixtures that every test knows, and how hard the property tests try.

    make check             the profile "default": enough to see a careless change
    make test, mutation    --hypothesis-profile=thorough
    a night's run          --hypothesis-profile=long

No profile has a deadline: how long an example takes says how loaded the machine is.
"""

from __future__ import annotations

from hypothesis import settings

pytest_plugins = ["mesh_fixture"]

settings.register_profile("default", max_examples=25, deadline=None)
settings.register_profile("thorough", max_examples=150, deadline=None)
settings.register_profile("long", max_examples=5_000, deadline=None)
