"""What is told and when: one message for all that changed, nothing twice, nothing lost."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from trials import trials

from meshd.model.condition import Severity
from meshd.services.notices import MAX_MESSAGE, MAX_PAUSE_SECONDS, Notices, discord_body
from meshd.services.pushes import Answer, Notice

NOTICE = Notice(
    speaker="tesla",
    secret="webhook",
    severity=Severity.WARNING,
    quiet=False,
    settle_seconds=60.0,
    least_seconds=60.0,
)
TAKEN = Answer()
DOWN = {"peer_unreachable bohr": "peer_unreachable: bohr does not answer"}


def tell(notices: Notices, problems: dict[str, str], now: float, answer: Answer = TAKEN) -> str | None:
    message = notices.look(problems, NOTICE, now)
    if message is None:
        return None
    notices.answered(message, NOTICE, answer, now)
    return message.text


def test_what_lasts_is_told_once_and_its_end_too() -> None:
    notices = Notices()
    assert tell(notices, DOWN, 0) is None, "it may be over at once"
    assert "new: peer_unreachable: bohr does not answer" in (tell(notices, DOWN, 60) or "")
    assert tell(notices, DOWN, 600) is None
    assert tell(notices, {}, 700) is None
    assert "over: peer_unreachable: bohr does not answer" in (tell(notices, {}, 760) or "")
    assert tell(notices, {}, 9_000) is None


def test_what_flaps_faster_than_it_settles_is_never_told() -> None:
    notices = Notices()
    for now in range(0, 3_000, 30):
        assert tell(notices, DOWN if now % 60 else {}, now) is None


def test_many_at_once_are_one_message() -> None:
    notices = Notices()
    many = {f"peer_unreachable h{number}": f"h{number} does not answer" for number in range(12)}
    tell(notices, many, 0)
    text = tell(notices, many, 60) or ""
    assert text.count("new: ") == 12
    assert tell(notices, many, 61) is None


def test_after_a_429_it_waits_as_long_as_it_is_asked_and_then_tells_what_is_so_by_then() -> None:
    notices = Notices()
    tell(notices, DOWN, 0)
    tell(notices, DOWN, 60, Answer(problem="asks to wait 65 s", retry_seconds=65.0))
    more = {**DOWN, "store_down garage": "store_down: no answer"}
    assert tell(notices, more, 62) is None
    assert tell(notices, more, 124) is None
    text = tell(notices, more, 125) or ""
    assert "bohr" in text and "store_down" in text


def test_what_was_over_before_anybody_heard_of_it_is_not_told() -> None:
    notices = Notices()
    tell(notices, DOWN, 0)
    tell(notices, DOWN, 60, Answer(problem="nobody answers", reached=False))
    assert tell(notices, {}, 1_000) is None
    assert not notices.told


def test_a_webhook_that_is_gone_is_asked_ever_less() -> None:
    notices, asked = Notices(), []
    for now in range(0, 4 * 3600, 5):
        if tell(notices, DOWN, float(now), Answer(problem="status 404")) is not None:
            asked.append(now)
    gaps = [later - earlier for earlier, later in pairwise(asked)]
    assert gaps == sorted(gaps) and gaps[0] == 30 and gaps[-1] == MAX_PAUSE_SECONDS


def test_while_an_alertmanager_is_there_nothing_new_is_told_but_the_end_of_what_was() -> None:
    notices = Notices()
    quiet = replace(NOTICE, quiet=True)
    notices.look(DOWN, quiet, 0)
    assert notices.look(DOWN, quiet, 500) is None
    tell(notices, DOWN, 500)
    assert tell(notices, DOWN, 560) is not None, "it went away, and this lasts"
    other = {"store_down garage": "store_down: no answer"}
    notices.look(other, quiet, 700)
    message = notices.look(other, quiet, 800)
    assert message is not None and "over: " in message.text and "store_down" not in message.text


def test_nobody_is_mentioned_and_nothing_is_formatted() -> None:
    notices = Notices()
    evil = {"x": "@everyone ``` **bold** \n\x1b[31m https://example.org"}
    tell(notices, evil, 0)
    text = tell(notices, evil, 60) or ""
    body = discord_body(text)
    assert body["allowed_mentions"] == {"parse": []}
    assert text.count("```") == 2 and text.endswith("\n```"), "what is told cannot end the block"
    assert "\x1b" not in text


@trials()
@given(
    st.lists(
        st.tuples(
            st.floats(0, 500),
            st.dictionaries(st.sampled_from("abcdefgh"), st.text(max_size=400), max_size=8),
            st.booleans(),
        ),
        max_size=30,
    )
)
def test_whoever_listens_knows_in_the_end_what_is_so(
    steps: list[tuple[float, dict[str, str], bool]],
) -> None:
    """Whatever happens, and whatever is refused: when it is calm, what was told is what is so."""
    notices, now = Notices(), 0.0
    problems: dict[str, str] = {}
    for seconds, problems, takes in steps:
        now += seconds
        text = tell(notices, problems, now, TAKEN if takes else Answer(problem="no", reached=False))
        assert text is None or len(text) <= MAX_MESSAGE
    for _ in range(4):
        now += 2 * MAX_PAUSE_SECONDS
        tell(notices, problems, now)
    assert notices.told.keys() == problems.keys()
