"""A stand-in as a process, for a place of the lab: it says what it was told, a line of JSON each time.

python stand_in_process.py kuma|discord|loki|page ADDRESS PORT WORD
"""

from __future__ import annotations

import json
import sys

from stand_ins import Answer, DiscordStandIn, KumaStandIn, LokiStandIn, PageStandIn, StandIn, open_server


class _Telling:
    """Passes on to the stand-in, and prints what that one has heard by then."""

    def __init__(self, stand_in: StandIn) -> None:
        self._stand_in = stand_in

    def answer(self, method: str, path: str, body: bytes) -> Answer:
        answer = self._stand_in.answer(method, path, body)
        print(json.dumps(heard(self._stand_in)), flush=True)
        return answer


def heard(stand_in: StandIn) -> object:
    match stand_in:
        case KumaStandIn():
            return {name: beat["status"] for name, beat in stand_in.beats.items()}
        case DiscordStandIn():
            return stand_in.texts
        case LokiStandIn():
            return stand_in.labels
        case _:
            return None


def main(kind: str, address: str, port: str, word: str) -> None:
    """``word``: the page's, or of Kuma its tokens with their monitors, as TOKEN=NAME,TOKEN=NAME."""
    made: dict[str, StandIn] = {
        "kuma": KumaStandIn(dict(each.split("=") for each in word.split(",") if "=" in each)),
        "discord": DiscordStandIn(),
        "loki": LokiStandIn(),
        "page": PageStandIn(word),
    }
    open_server(_Telling(made[kind]), address, int(port)).serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
