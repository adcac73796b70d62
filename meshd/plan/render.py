"""Desired state -> the file form that boots a host into the mesh without this program."""

from __future__ import annotations

from meshd.mesh.desired import DesiredState
from meshd.model.network import network_key


def render_wg_quick(desired: DesiredState) -> str:
    """The text of a wg-quick(8) configuration. It holds the private key: write it 0600.

    wg-quick makes a route per allowed IP by itself, as meshd does.
    """
    lines = [
        "# Written by meshd after every change; edits are lost. Boot form of the running mesh.",
        "[Interface]",
        f"PrivateKey = {desired.private_key.reveal_text()}",
        f"ListenPort = {desired.listen_port}",
        f"MTU = {desired.mtu_bytes}",
    ]
    addresses = sorted(desired.addresses, key=lambda address: network_key(address.network))
    if addresses:
        lines.append(f"Address = {', '.join(str(address) for address in addresses)}")
    for peer in sorted(desired.peers.values(), key=lambda peer: (peer.label, peer.hid)):
        config = peer.config
        networks = sorted(config.allowed_ips, key=network_key)
        lines += [
            "",
            f"# {peer.label}",
            "[Peer]",
            f"PublicKey = {config.public_key}",
            f"AllowedIPs = {', '.join(str(network) for network in networks)}",
        ]
        if config.preshared_key is not None:
            lines.append(f"PresharedKey = {config.preshared_key.reveal_text()}")
        if config.endpoint is not None:
            lines.append(f"Endpoint = {config.endpoint}")
        if config.persistent_keepalive_seconds:
            lines.append(f"PersistentKeepalive = {config.persistent_keepalive_seconds}")
    return "\n".join(lines) + "\n"
