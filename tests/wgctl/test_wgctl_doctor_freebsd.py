"""doctor on FreeBSD: the packet filter of an imitated host, and the fibs that jails are started in."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from fakebsd import FakeBSD
from quick_tools import QuickTools
from transcripts import entries

from meshd.daemon.main import main
from meshd.plan.pf_anchor import render_pf_anchor
from meshd.settings import Settings, parse_settings
from wgctl.checks import pf
from wgctl.checks.base import Check
from wgctl.checks.fibs import check_fibs
from wgctl.checks.pf import check_pf
from wgctl.commands import doctor

CLOSED = "set skip on lo\nblock in all\npass out quick keep state\n"
OPEN = "pass in quick proto udp to any port 51820:51821\npass in quick on wg\n"


@pytest.fixture
def bsd(tmp_path: Path) -> FakeBSD:
    host = FakeBSD(tmp_path / "bsd")
    for line in ("kldload pf", "pfctl -e", "ifconfig wg0 create"):
        assert host.answer(line.split()).returncode == 0
    return host


def load(bsd: FakeBSD, text: str, *words: str) -> None:
    done = bsd.run("pfctl", *words, "-f", "-", stdin=text)
    assert done.returncode == 0, done


def settings_of(**tables: object) -> Settings:
    return parse_settings(tables, source="test")


def examine(bsd: FakeBSD) -> dict[str, Check]:
    return {check.name: check for check in check_pf(settings_of(), QuickTools(bsd))}


def results(bsd: FakeBSD) -> dict[str, str]:
    return {name: check.result for name, check in examine(bsd).items()}


ALL_WELL = {"pf UDP port 51820": "ok", "pf UDP port 51821": "ok", "pf tunnel": "ok", "pf nat": "ok"}


def test_rules_that_let_the_mesh_in(bsd: FakeBSD) -> None:
    load(bsd, OPEN + CLOSED)
    assert results(bsd) == ALL_WELL
    load(bsd, "")
    assert results(bsd) == ALL_WELL


def test_every_line_that_is_missing_is_named(bsd: FakeBSD) -> None:
    load(bsd, CLOSED)
    found = examine(bsd)
    for port, use in ((51820, "WireGuard"), (51821, "the next key's interface")):
        check = found[f"pf UDP port {port}"]
        assert check.result == "fail" and use in check.text and "'block drop in all'" in check.text
        assert f"pass in quick proto udp from any to any port {port}" in check.advice
    assert found["pf tunnel"].result == "fail" and "pass in quick on wg;" in found["pf tunnel"].advice


def test_rules_for_one_port_and_one_interface_fail_when_the_key_is_replaced(bsd: FakeBSD) -> None:
    load(bsd, "pass in quick proto udp to any port 51820\npass in quick on wg0\n" + CLOSED)
    found = examine(bsd)
    assert (found["pf UDP port 51820"].result, found["pf UDP port 51821"].result) == ("ok", "fail")
    assert found["pf tunnel"].result == "warn" and "on wg0 alone" in found["pf tunnel"].text


def test_what_the_anchor_command_prints_is_all_that_is_needed(bsd: FakeBSD, tmp_path: Path) -> None:
    config = tmp_path / "meshd.toml"
    config.write_text("")
    done = CliRunner().invoke(main, ["--config", str(config), "pf-anchor"])
    assert done.exit_code == 0 and f'load anchor "meshd" from "{tmp_path}/pf.anchor"' in done.stdout
    load(bsd, 'block in all\nanchor "meshd"\nblock return in quick proto udp\n')
    assert results(bsd)["pf tunnel"] == "fail"
    load(bsd, done.stdout, "-a", "meshd")
    assert results(bsd) == ALL_WELL


def test_the_anchor_of_another_port() -> None:
    said = render_pf_anchor(4500, "/x").splitlines()
    assert "pass in quick proto udp from any to any port 4500:4501 keep state" in said
    assert "pass in quick on wg keep state" in said
    assert not any("4502" in line for line in said)
    with_relay = render_pf_anchor(4500, "/x", relay_port=4502).splitlines()
    assert "pass in quick proto udp from any to any port 4502 keep state" in with_relay
    assert set(said) < set(with_relay)


def test_a_rule_for_the_outer_interface_is_taken_for_the_right_one(bsd: FakeBSD) -> None:
    load(bsd, CLOSED + "pass in on em0 proto udp from any to (em0) port 51820:51821\npass in on wg\n")
    assert results(bsd) == ALL_WELL


def test_addresses_that_are_blocked_everywhere_are_said_and_no_fault(bsd: FakeBSD) -> None:
    load(bsd, "block in quick from <bad>\n" + OPEN + CLOSED)
    found = examine(bsd)
    assert found["pf tunnel"].result == "ok" and "<bad>" in found["pf tunnel"].text


def test_skipped_interfaces_are_not_filtered(bsd: FakeBSD) -> None:
    load(bsd, CLOSED + "set skip on wg\n")
    assert results(bsd)["pf tunnel"] == "ok"
    load(bsd, CLOSED + "set skip on wg0\n")
    assert examine(bsd)["pf tunnel"].result == "warn"


def test_translations_in_the_way(bsd: FakeBSD) -> None:
    load(bsd, 'nat on em0 from <jails> to any -> (em0)\nrdr-anchor "rdr/*"\n' + OPEN + CLOSED)
    found = examine(bsd)
    assert found["pf nat"].result == "ok" and "pf rdr" not in found and "pf anchors" not in found
    load(
        bsd,
        "nat from 10.17.1.0/24 to any -> (em0)\n"
        "rdr on em0 proto udp from any to any port 51820 -> 10.17.1.10\n" + OPEN + CLOSED,
    )
    found = examine(bsd)
    assert found["pf nat"].result == "warn" and "no nat on wg all" in found["pf nat"].advice
    assert found["pf rdr"].result == "fail" and "51820" in found["pf rdr"].text


@pytest.mark.parametrize(
    ("line", "check", "words"),
    [
        ("pass out quick all nat-to 192.0.2.10", "pf nat", "nat-to 192.0.2.10"),
        ("match out from 10.17.1.0/24 to any nat-to (em0)", "pf nat", "nat-to (em0)"),
        ("match out on wg from 10.17.1.0/24 to any nat-to 10.99.0.1", "pf nat", "nat-to 10.99.0.1"),
        ("match on wg from 10.17.1.10 to any binat-to 10.99.0.1", "pf nat", "nat-to 10.99.0.1 static-port"),
        ("match in on wg all rdr-to 10.17.1.10", "pf rdr on the tunnel", "rdr-to 10.17.1.10"),
        ("match in on wg0 proto tcp from any to any rdr-to 10.17.1.10", "pf rdr on the tunnel", "rdr-to"),
        ("pass in quick on wg0 inet6 all af-to inet from (em0)", "pf rdr on the tunnel", "af-to inet"),
        (
            "match in on wg proto tcp from any to 10.99.0.1 rdr-to 10.17.1.10",
            "pf rdr on the tunnel",
            "rdr-to",
        ),
        ("nat on wg from 10.17.1.0/24 to any -> 10.99.0.1", "pf nat", "-> 10.99.0.1"),
        ("nat pass from any to any -> (em0)", "pf nat", "nat pass"),
        ("binat on wg0 from 10.17.1.10 to any -> 10.99.0.1", "pf nat", "binat on wg0"),
        ("rdr on wg from any to any -> 10.17.1.10", "pf rdr on the tunnel", "rdr on wg"),
        ("rdr pass on wg0 proto tcp from any to any -> 10.17.1.10", "pf rdr on the tunnel", "rdr pass"),
    ],
)
def test_every_form_of_translation_on_the_tunnel_is_found(
    bsd: FakeBSD, line: str, check: str, words: str
) -> None:
    load(bsd, f"{line}\n{OPEN}")
    found = examine(bsd)
    assert found[check].result == "warn" and words in found[check].text, found[check]
    by_rule = "-to" in line
    assert ("quick on wg;" if by_rule else "on wg all") in found[check].advice


@pytest.mark.parametrize(
    ("line", "result"),
    [
        ("match in on em0 proto udp from any to any port 51820 rdr-to 10.17.1.10", "fail"),
        ("pass in quick on em0 proto udp from any to any port 51000:52000 rdr-to 10.17.1.10", "fail"),
        ("match on em0 from 10.17.1.10 to any binat-to 192.0.2.7", "warn"),
        ("binat on em0 from 10.17.1.10 to any -> 192.0.2.7", "warn"),
        ("rdr on em0 from any to 192.0.2.7 -> 10.17.1.10", "warn"),
        ("match in on em0 proto tcp from any to any port 443 rdr-to 10.17.1.10", ""),
    ],
)
def test_every_form_of_redirection_of_the_port_is_found(bsd: FakeBSD, line: str, result: str) -> None:
    load(bsd, f"{line}\npass in quick on wg\n")
    found = examine(bsd)
    assert (found["pf rdr"].result if "pf rdr" in found else "") == result, found.get("pf rdr")


def test_the_mesh_s_anchor_before_a_translation_keeps_it_off_and_it_is_named(bsd: FakeBSD) -> None:
    load(bsd, render_pf_anchor(51820, "/p"), "-a", "meshd")
    load(bsd, 'anchor "meshd"\nblock in all\npass out quick all nat-to 192.0.2.10 keep state\n')
    check = examine(bsd)["pf nat"]
    assert check.result == "ok"
    assert (
        "spare" in check.text
        and "pass out quick inet all flags S/SA keep state nat-to 192.0.2.10" in check.text
    )


def test_doctor_says_what_it_said_on_a_real_host_and_names_the_translation_that_it_overlooked(
    bsd: FakeBSD, tmp_path: Path
) -> None:
    anchor = tmp_path / "pf.anchor"
    anchor.write_text(render_pf_anchor(51820, "/usr/local/etc/meshd/pf.anchor"))
    assert anchor.read_bytes() == entries("meshd pf-anchor")[0].stdout
    texts = [one.command for one in entries("printf 'set skip on lo") if one.source == "11-pf.txt"]
    said = [one.stdout.decode().splitlines() for one in entries("wgctl doctor")]
    assert (len(texts), len(said)) == (3, 3)
    for command, expected in zip(texts, said, strict=True):
        text = command.split("'")[1].replace("\\n", "\n")
        load(bsd, text.replace("/usr/local/etc/meshd/pf.anchor", str(anchor)))
        shown = [
            " | ".join(filter(None, (check.result.upper(), check.name, check.text, check.advice)))
            for check in examine(bsd).values()
        ]
        if "nat-to" in command:
            assert expected.pop() == "OK | pf nat | nothing is translated into the tunnel"
            assert shown.pop().startswith(
                "OK | pf nat | nothing is translated into the tunnel: rules before it "
            )
        assert shown == expected


@pytest.mark.slow
def test_translations_in_anchors_are_found(bsd: FakeBSD) -> None:
    load(bsd, "nat on wg from any to any -> 10.99.0.1\n", "-a", "lan")
    load(bsd, "rdr on em0 proto udp from any to any port 51820 -> 10.17.1.10\n", "-a", "rdr/web")
    load(bsd, "match out on wg all nat-to 10.99.0.1\n", "-a", "site/one")
    load(bsd, 'nat-anchor "lan"\nrdr-anchor "rdr/*"\nanchor "site/*"\n' + OPEN + CLOSED)
    found = examine(bsd)
    assert found["pf nat"].result == "warn"
    assert "nat on wg" in found["pf nat"].text and "match out on wg" in found["pf nat"].text
    assert found["pf rdr"].result == "fail" and "pf anchors" not in found


def test_an_anchor_that_cannot_be_read_is_said(bsd: FakeBSD) -> None:
    load(bsd, 'anchor "outer"\n', "-a", "site")
    load(bsd, 'anchor "site"\nanchor "strange/*"\n' + OPEN)
    bsd.fail("pfctl -a strange", stderr="pfctl: Unable to retrieve rulesets: Invalid argument\n")
    assert examine(bsd)["pf anchors"].text == "not looked into: outer, strange/*"


def test_a_tunnel_that_pf_does_not_look_at_is_not_translated(bsd: FakeBSD) -> None:
    load(bsd, "set skip on wg\nnat on wg from any to any -> 10.99.0.1\n" + OPEN)
    assert examine(bsd)["pf nat"].result == "ok"


def unloaded(bsd: FakeBSD) -> None:
    with bsd.state() as host:
        host["modules"].remove("pf")


def disabled(bsd: FakeBSD) -> None:
    bsd.answer(["pfctl", "-d"])


def unprivileged(bsd: FakeBSD) -> None:
    bsd.fail("pfctl", stderr="pfctl: /dev/pf: Permission denied\n", times=-1)


def strange(bsd: FakeBSD) -> None:
    bsd.fail("pfctl -sr", stderr="pfctl: DIOCGETRULES: Operation not supported\n", times=-1)


@pytest.mark.parametrize(
    ("make", "result", "words"),
    [
        (unloaded, "ok", "not loaded"),
        (disabled, "ok", "not enabled"),
        (unprivileged, "warn", "root"),
        (strange, "warn", "Operation not supported"),
    ],
)
def test_a_filter_that_is_not_there_or_not_to_be_read(
    bsd: FakeBSD, make: Callable[[FakeBSD], None], result: str, words: str
) -> None:
    make(bsd)
    (check,) = examine(bsd).values()
    assert check.name == "pf" and check.result == result and words in check.text + check.advice


@pytest.mark.slow
def test_a_pfctl_that_hangs_ends(bsd: FakeBSD, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pf, "COMMAND_SECONDS", 0.5)
    bsd.hang("pfctl")
    (check,) = examine(bsd).values()
    assert check.result == "warn" and "no end within 0.5 s" in check.text


@pytest.mark.parametrize("freebsd", [True, False])
def test_doctor_asks_pf_on_freebsd_alone(
    run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, freebsd: bool
) -> None:
    monkeypatch.setattr("meshd.settings.FREEBSD", freebsd)
    monkeypatch.setattr(pf, "PFCTL", tmp_path / "pfctl")
    config = tmp_path / "meshd.toml"
    config.write_text(f'state_dir = "{tmp_path}"\nrun_dir = "{tmp_path}"\n')
    said = run("--config", config, "doctor", "--json").stdout
    assert ("pfctl" in said) is freebsd
    assert doctor.command.name == "doctor"


def jail_files(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = (
            root
            / {
                "main": "etc/jail.conf",
                "extra": "etc/jail.conf.d/a.conf",
                "web": "usr/local/bastille/jails/web/jail.conf",
            }[name]
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def fib_checks(root: Path, *fibs: int) -> list[Check]:
    return list(check_fibs(settings_of(wireguard={"fibs": list(fibs)}), root))


def test_fibs_of_jails_that_the_settings_lack(tmp_path: Path) -> None:
    root = jail_files(
        tmp_path,
        main="# exec.fib = 7;\nweb { exec.fib = 1; }\n",
        extra='db {\n  exec.fib = "2";\n}\n',
        web="web {\n  exec.fib = 3;\n  path = /x;\n}\n",
    )
    first, *others = fib_checks(root, 0, 2)
    assert first.result == "warn" and "exec.fib = 1" in first.text and "jail.conf" in first.text
    assert "fibs = [0, 2, 1, 3]" in first.advice and len(others) == 1
    (check,) = fib_checks(root, 0, 1, 2, 3)
    assert check.result == "ok"


def test_without_fibs_nothing_is_said(tmp_path: Path) -> None:
    assert fib_checks(tmp_path) == []
    assert fib_checks(jail_files(tmp_path, main="web { path = /; }\n")) == []


def test_the_imitated_pfctl_refuses_what_it_does_not_know(bsd: FakeBSD) -> None:
    done: subprocess.CompletedProcess[str] = bsd.answer(["pfctl", "-ss"])
    assert done.returncode == 99
