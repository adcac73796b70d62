"""How many examples a property tries: a share of what the profile asks for (conftest.py)."""

from __future__ import annotations

from hypothesis import HealthCheck, settings


def trials(of_hundred: int = 100) -> settings:
    """``of_hundred``: how many of a hundred examples this property can afford.

    No example has a deadline and none is too slow: how long it takes says how loaded the machine is.
    """
    profile = settings.default
    assert profile is not None
    return settings(
        max_examples=max(1, profile.max_examples * of_hundred // 100),
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
