"""What whoever can write any datagram gets out of the echoes of a relay: few, and no longer ones."""

from __future__ import annotations

from relay_messages import A, B, forwarder

from meshd.relay.echo import ECHO_BYTES, Echoes, parse_reply, render_request

TOKEN, NONCE = bytes(range(16)), b"12345678"


def test_an_echo_is_answered_to_who_knows_a_token_and_no_longer_than_it_was_asked() -> None:
    echoes = Echoes()
    echoes.use((TOKEN,))
    asked = render_request(TOKEN, NONCE)
    answer = echoes.answer(asked, 0.0)
    assert answer is not None and parse_reply(answer) == (TOKEN, NONCE) and len(answer) == len(asked)
    assert echoes.answer(render_request(bytes(16), NONCE), 0.0) is None
    for changed in (asked[:-1], asked + b"x", answer, b"", bytes(ECHO_BYTES)):
        assert echoes.answer(changed, 0.0) is None
    echoes.use(())
    assert echoes.answer(asked, 0.0) is None


def test_an_answer_is_never_answered_so_two_relays_do_not_talk_for_ever() -> None:
    first, second = Echoes(), Echoes()
    first.use((TOKEN,))
    second.use((TOKEN,))
    answer = first.answer(render_request(TOKEN, NONCE), 0.0)
    assert answer is not None and second.answer(answer, 0.0) is None


def test_whoever_saw_a_token_has_few_answers_sent_to_anybody() -> None:
    echoes = Echoes()
    echoes.use((TOKEN,))
    asked = render_request(TOKEN, NONCE)
    answers = sum(echoes.answer(asked, number / 1000) is not None for number in range(10_000))
    assert answers <= 20 + 10 * 10 + 1


def test_an_echo_is_no_message_that_is_passed_on() -> None:
    relay = forwarder((A, B))
    assert relay.forward(render_request(TOKEN, NONCE), A.source, 0.0) == []
