"""The UAPI text: what a real wireguard-go answers, and what nobody should answer."""

from __future__ import annotations

import contextlib
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.backend.peer_steps import PeerStep
from meshd.backend.uapi import check_answer, parse_get, render_set
from meshd.errors import BackendError
from meshd.model.keys import PresharedKey, PrivateKey, PublicKey
from meshd.model.network import Endpoint

PRIVATE = PrivateKey(bytes(range(32)))
PEER = PublicKey(bytes(range(100, 132)))
PSK = PresharedKey(bytes(range(200, 232)))

ANSWER = f"""\
private_key={PRIVATE.reveal().hex()}
listen_port=51820
fwmark=7
public_key={bytes(PEER).hex()}
preshared_key={PSK.reveal().hex()}
protocol_version=1
endpoint=[fe80::7%eth0]:51821
last_handshake_time_sec=1700000000
last_handshake_time_nsec=500000000
tx_bytes=12
rx_bytes=34
persistent_keepalive_interval=25
allowed_ip=10.7.0.0/24
allowed_ip=fd07::/64
errno=0

"""


def test_a_whole_answer_becomes_a_device() -> None:
    device = parse_get(ANSWER.encode(), "wg7", "wireguard-go")
    assert (device.name, device.listen_port, device.public_key) == ("wg7", 51820, PRIVATE.public())
    peer = device.peers[PEER]
    assert peer.config.endpoint == Endpoint.parse("[fe80::7]:51821")
    assert peer.config.preshared_key == PSK
    assert peer.config.persistent_keepalive_seconds == 25
    assert peer.config.allowed_ips == {ip_network("10.7.0.0/24"), ip_network("fd07::/64")}
    assert peer.stats.latest_handshake_at == 1700000000.5
    assert (peer.stats.receive_bytes, peer.stats.transmit_bytes) == (34, 12)


def test_zeros_mean_no_key() -> None:
    zeros = bytes(32).hex()
    text = f"private_key={zeros}\npublic_key={bytes(PEER).hex()}\npreshared_key={zeros}\nerrno=0\n\n"
    device = parse_get(text.encode(), "wg7", "wireguard-go")
    assert device.public_key is None
    assert device.peers[PEER].config.preshared_key is None


@pytest.mark.parametrize(
    ("broken", "named"),
    [
        (ANSWER.replace("errno=0\n", ""), "errno"),
        (ANSWER.replace("errno=0", "errno=-98"), "EADDRINUSE"),
        (ANSWER.replace("errno=0", "errno=zero"), "errno"),
        (ANSWER.replace("listen_port=51820", "listen_port=65536"), "listen_port"),
        (ANSWER.replace("rx_bytes=34", "rx_bytes=-1"), "rx_bytes"),
        (ANSWER.replace("rx_bytes=34", "rx_bytes"), "key=value"),
        (ANSWER.replace("10.7.0.0/24", "10.7.0.1/24"), "allowed_ip"),
        (ANSWER.replace(":51821", ""), "endpoint"),
        (ANSWER.replace(bytes(PEER).hex(), bytes(PEER).hex()[:-1]), "public_key"),
        (ANSWER.replace("fwmark=7", "fwmark=\xff"), "ASCII"),
    ],
)
def test_a_broken_answer_is_refused_by_name(broken: str, named: str) -> None:
    with pytest.raises(BackendError, match=named):
        parse_get(broken.encode("latin-1"), "wg7", "wireguard-go")


@given(st.integers(0, 31), st.sampled_from("gG =\n"))
def test_a_broken_secret_is_not_repeated(position: int, junk: str) -> None:
    for secret, key in ((PRIVATE.reveal().hex(), "private_key"), (PSK.reveal().hex(), "preshared_key")):
        broken = ANSWER.replace(secret, secret[:position] + junk + secret[position + 1 :])
        with pytest.raises(BackendError) as caught:
            parse_get(broken.encode(), "wg7", "wireguard-go")
        text = str(caught.value)
        assert secret[position + 1 :] not in text
        assert key in text or "key=value" in text


@given(st.binary(max_size=300))
def test_junk_raises_only_backend_errors(junk: bytes) -> None:
    for data in (junk, ANSWER.encode() + junk, junk + b"\nerrno=0\n\n"):
        with contextlib.suppress(BackendError):
            parse_get(data, "wg7", "wireguard-go")
            check_answer(data, "set")


@given(st.lists(st.sampled_from(ANSWER.split("\n")), max_size=30))
def test_lines_in_any_order_raise_only_backend_errors(lines: list[str]) -> None:
    with contextlib.suppress(BackendError):
        parse_get(("\n".join(lines) + "\nerrno=0\n\n").encode(), "wg7", "wireguard-go")


def test_a_set_names_only_what_changes() -> None:
    kept = PeerStep(public_key=PEER, allowed_ips=(ip_network("10.7.0.0/24"),))
    gone = PeerStep(public_key=PEER, remove=True, endpoint=Endpoint.parse("192.0.2.1:1"))
    key = bytes(PEER).hex()
    assert render_set(listen_port=7, steps=[kept, gone]).decode() == (
        f"set=1\nlisten_port=7\npublic_key={key}\nallowed_ip=10.7.0.0/24\npublic_key={key}\nremove=true\n\n"
    )
