"""The imitation says what a FreeBSD said: text, stream and exit code of every command replayed."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from fakebsd import FakeBSD
from transcript_replay import reason_left_out, replay

EIGHT_FIBS = ["00-system.txt", "01-interface.txt", "02-peers.txt", "03-routes-8-fibs.txt"]

#: What the product runs, in the words that it uses (docs/freebsd.md).
ASKED_BY_MESHD = re.compile(
    r"(time )?(jexec \w+ )*(ifconfig|route|netstat -rnW|wg (show \w+ dump|set|addconf)|jls --libxo|sysrc)\b"
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sources", "fibs", "equal", "left_out"),
    [
        pytest.param(EIGHT_FIBS, 8, 208, 6, id="eight-fibs", marks=pytest.mark.slow),
        pytest.param(["04-routes-1-fib.txt"], 1, 31, 1, id="one-fib"),
        pytest.param(["05-jails.txt"], 1, 45, 2, id="jails"),
        pytest.param(["05-sysrc.txt"], 1, 3, 0, id="sysrc"),
        pytest.param(["06-hosts-as-vnet-jails.txt"], 1, 21, 13, id="vnet-hosts", marks=pytest.mark.slow),
        pytest.param(["11-pf.txt"], 1, 4, 4, id="pf"),
        pytest.param(["12-one-address-on-two-interfaces.txt"], 1, 7, 0, id="one-address"),
        pytest.param(["14-rc-script.txt"], 1, 5, 13, id="rc-script"),
        pytest.param(["15-after-a-reboot.txt"], 1, 2, 3, id="after-a-reboot"),
        pytest.param(["16-demo-killed.txt"], 1, 4, 1, id="demo-killed"),
    ],
)
def test_every_command_is_answered_as_the_real_host_did(
    tmp_path: Path, sources: list[str], fibs: int, equal: int, left_out: int
) -> None:
    host = FakeBSD(tmp_path / "host", fibs=fibs)
    host.next_random_ports([25325])
    host.retry_without_sleep()
    outcome = replay(host, sources, tmp_path)
    forgotten = [entry.command for entry in outcome.left_out if ASKED_BY_MESHD.match(entry.command)]
    reasons = Counter(reason_left_out(entry.command) for entry in outcome.left_out)
    print(f"{len(outcome.equal)} replayed equal, {len(outcome.left_out)} left out: {dict(reasons)}")
    assert not outcome.differences, "\n".join(outcome.differences)
    assert forgotten == []
    assert (len(outcome.equal), len(outcome.left_out)) == (equal, left_out)
