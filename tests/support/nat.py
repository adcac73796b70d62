"""A router of the lab with a network of its own behind it, which it masquerades by nftables(8)."""

from __future__ import annotations

from meshd.lab.base import LabHost
from meshd.lab.namespaces import UNDERLAY_INTERFACE, NamespaceHost
from meshd.lab.netns import ip_batch, write_sysctls

LAN_LINK = "lan0"
SYMMETRIC = "masquerade random"
"""Another port towards each destination, so that nobody knows one beforehand."""


def put_behind_nat(
    router: LabHost,
    *inner: LabHost,
    lan: str = "192.168.77",
    how: str = SYMMETRIC,
    mapping_seconds: int | None = None,
) -> None:
    """Take hosts off the underlay and put them behind ``router``, as LAN.2, LAN.3 and so on.

    Args:
        lan: the first three bytes of the network.
        how: the statement that translates.
        mapping_seconds: so long the router keeps what nobody uses; None: as long as its kernel does.
    """
    outside = _netns(router)
    ip_batch(
        outside,
        f"link add {LAN_LINK} type bridge",
        f"address add {lan}.1/24 dev {LAN_LINK}",
        f"link set {LAN_LINK} up",
    )
    for number, host in enumerate(inner, 2):
        peer = f"type veth peer name eth0 netns {_netns(host)}"
        ip_batch(outside, f"link add port{number} up master {LAN_LINK} {peer}")
        ip_batch(
            _netns(host),
            f"link set {UNDERLAY_INTERFACE} down",
            f"address add {lan}.{number}/24 dev eth0",
            "link set eth0 up",
            f"route add default via {lan}.1",
        )
    if mapping_seconds is not None:
        names = ("nf_conntrack_udp_timeout", "nf_conntrack_udp_timeout_stream")
        write_sysctls(outside, {f"net/netfilter/{name}": str(mapping_seconds) for name in names})
    rules = (
        "table ip nat {\nchain post {\ntype nat hook postrouting priority 100;\n"
        f"oifname {UNDERLAY_INTERFACE} ip saddr {lan}.0/24 {how}\n}}\n}}\n"
    )
    done = router.run(["nft", "-f", "-"], input_text=rules)
    assert done.returncode == 0, done.stderr


def _netns(host: LabHost) -> str:
    assert isinstance(host, NamespaceHost)
    return host.netns
