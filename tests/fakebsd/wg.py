"""wg(8): show, showconf, set, addconf, setconf, syncconf, pubkey."""

from __future__ import annotations

from . import wgconf
from .call import Call, Exit, find_link, stack_of
from .links import bind_port
from .x25519 import public_key

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .shapes import Device, Host, Link, Peer
    from .wgconf import DeviceChange, PeerChange

HANDSHAKE_BYTES = 148


def run(host: Host, call: Call) -> int:
    verb = call.args[0] if call.args else "show"
    if verb == "pubkey":
        call.say(public_key(call.stdin.strip()))
    elif verb == "show":
        show(host, call)
    elif verb == "showconf" and len(call.args) == 2:
        show_configuration(call, access(host, call, call.args[1]))
    elif verb == "set" and len(call.args) > 2:
        apply(host, call, call.args[1], set_order(host, call, call.args[2:]))
    elif verb in ("addconf", "setconf", "syncconf") and len(call.args) == 3:
        text = call.stdin if call.args[2] == "/dev/stdin" else file_text(call.args[2])
        change = wgconf.configuration(host, call, text, append=verb == "addconf")
        if verb == "syncconf":
            synchronise(access(host, call, call.args[1]), change)
        apply(host, call, call.args[1], change)
    else:
        raise call.not_imitated()
    return 0


def file_text(path: str) -> str:
    try:
        return wgconf.file_text(path)
    except FileNotFoundError as error:
        raise Exit(1, "fopen: No such file or directory") from error


def access(host: Host, call: Call, name: str) -> Device:
    link = find_link(stack_of(host, call.jail), name)
    if link is None or link["device"] is None:
        raise Exit(1, "Unable to access interface: Device not configured")
    return link["device"]


def show(host: Host, call: Call) -> None:
    if call.args[1:] == ["interfaces"]:
        names = [link["name"] for link in stack_of(host, call.jail)["links"] if link["device"] is not None]
        if names:
            call.say(" ".join(names))
        return
    if len(call.args) == 2:
        show_to_people(call, access(host, call, call.args[1]))
        return
    if len(call.args) != 3:
        raise call.not_imitated()
    device, what = access(host, call, call.args[1]), call.args[2]
    if what == "dump":
        dump(call, device)
    elif what in DEVICE_COLUMNS:
        call.say(device_words(call, device)[DEVICE_COLUMNS.index(what)])
    elif what == "peers":
        call.lines += [peer["public_key"] for peer in device["peers"]]
    elif what in PEER_COLUMNS:
        first, last = PEER_COLUMNS[what]
        for peer in device["peers"]:
            words = peer_words(call, peer)
            if what == "allowed-ips":
                words[3] = words[3].replace(",", " ")
            call.say("\t".join([words[0], *words[first:last]]))
    else:
        raise call.not_imitated()


def show_to_people(call: Call, device: Device) -> None:
    """Without peers, whose times and counters are in words."""
    if device["peers"] or not call.privileged:
        raise call.not_imitated()
    words = device_words(call, device)
    call.lines += [
        f"interface: {call.args[1]}",
        f"  public key: {words[1]}",
        "  private key: (hidden)",
        f"  listening port: {words[2]}",
    ]


DEVICE_COLUMNS = ("private-key", "public-key", "listen-port", "fwmark")
PEER_COLUMNS = {
    "preshared-keys": (1, 2),
    "endpoints": (2, 3),
    "allowed-ips": (3, 4),
    "latest-handshakes": (4, 5),
    "transfer": (5, 7),
    "persistent-keepalive": (7, 8),
}


def dump(call: Call, device: Device) -> None:
    call.say("\t".join(device_words(call, device)))
    call.lines += ["\t".join(peer_words(call, peer)) for peer in device["peers"]]


def device_words(call: Call, device: Device) -> list[str]:
    """Without privilege the private key is hidden, the public one is not (seen)."""
    private = device["private_key"]
    return [
        private if private and call.privileged else "(none)",
        public_key(private) if private else "(none)",
        str(device["listen_port"]),
        f"0x{device['fwmark']:x}" if device["fwmark"] else "off",
    ]


def peer_words(call: Call, peer: Peer) -> list[str]:
    return [
        peer["public_key"],
        peer["preshared_key"] if peer["preshared_key"] and call.privileged else "(none)",
        peer["endpoint"] or "(none)",
        ",".join(peer["allowed_ips"]) or "(none)",
        str(peer["latest_handshake_at"]),
        str(peer["rx_bytes"]),
        str(peer["tx_bytes"]),
        str(peer["keepalive_seconds"]) if peer["keepalive_seconds"] else "off",
    ]


def show_configuration(call: Call, device: Device) -> None:
    call.say("[Interface]")
    if device["listen_port"]:
        call.say(f"ListenPort = {device['listen_port']}")
    if device["fwmark"]:
        call.say(f"FwMark = 0x{device['fwmark']:x}")
    if device["private_key"]:
        call.say(f"PrivateKey = {device['private_key']}")
    for peer in device["peers"]:
        call.lines += ["", "[Peer]", f"PublicKey = {peer['public_key']}"]
        values = {
            "PresharedKey": peer["preshared_key"],
            "AllowedIPs": ", ".join(peer["allowed_ips"]),
            "Endpoint": peer["endpoint"],
            "PersistentKeepalive": peer["keepalive_seconds"],
        }
        call.lines += [f"{name} = {value}" for name, value in values.items() if value]


def set_order(host: Host, call: Call, words: list[str]) -> DeviceChange:
    change: DeviceChange = {"peers": []}
    rest = iter(words)
    for word in rest:
        if word == "remove" and change["peers"]:
            change["peers"][-1]["remove"] = True
            continue
        value = next(rest, None)
        if value is None:
            raise Exit(1, f"Invalid argument: {word}")
        if word == "peer":
            change["peers"].append({"public_key": wgconf.key(value)})
        elif change["peers"]:
            set_peer(host, call, change["peers"][-1], word, value)
        else:
            set_device(call, change, word, value)
    return change


def set_device(call: Call, change: DeviceChange, word: str, value: str) -> None:
    if word == "listen-port":
        change["listen_port"] = wgconf.port(value)
    elif word == "fwmark":
        change["fwmark"] = wgconf.fwmark(value)
    elif word == "private-key":
        change["private_key"] = wgconf.key_file(call, value)
    else:
        raise Exit(1, f"Invalid argument: {word}")


def set_peer(host: Host, call: Call, peer: PeerChange, word: str, value: str) -> None:
    if word == "allowed-ips":
        peer["allowed_ips"] = wgconf.allowed_ips(host, call, value)
        peer["replace_allowed_ips"] = not any(sign for sign, _ in peer["allowed_ips"])
    elif word == "endpoint":
        peer["endpoint"] = wgconf.endpoint(host, call, value)
    elif word == "persistent-keepalive":
        peer["keepalive"] = wgconf.keepalive(value)
    elif word == "preshared-key":
        peer["preshared_key"] = wgconf.key_file(call, value)
    else:
        raise Exit(1, f"Invalid argument: {word}")


def synchronise(device: Device, change: DeviceChange) -> None:
    """Peers of the file stay; the others are removed one by one."""
    change["replace_peers"] = False
    kept = {peer["public_key"] for peer in change["peers"]}
    for peer in device["peers"]:
        if peer["public_key"] not in kept:
            change["peers"].append({"public_key": peer["public_key"], "remove": True})


def apply(host: Host, call: Call, name: str, change: DeviceChange) -> None:
    """The kernel's order: peers replaced, port, key, mark, peers; what precedes a failure stays done."""
    link = find_link(stack_of(host, call.jail), name)
    if link is None or link["device"] is None:
        raise Exit(1, "Unable to modify interface: Device not configured")
    if not call.privileged:
        raise Exit(1, "Unable to modify interface: Operation not permitted")
    device = link["device"]
    if unheard(host, change):
        return
    if change.get("replace_peers"):
        device["peers"].clear()
    if "listen_port" in change:
        set_port(host, link, device, change["listen_port"])
    if "private_key" in change:
        set_private_key(device, change["private_key"])
    device["fwmark"] = change.get("fwmark", device["fwmark"])
    own = public_key(device["private_key"]) if device["private_key"] else ""
    for peer in change["peers"]:
        if peer["public_key"] != own:
            change_peer(link, device, peer)


def unheard(host: Host, change: DeviceChange) -> bool:
    """Some releases' wg(8) knows +X but not how to say it to the kernel: it changes nothing and exits 0."""
    signed = any(sign for peer in change["peers"] for sign, _ in peer.get("allowed_ips", []))
    return signed and host["incremental_allowed_ips"] == "ignored"


def set_port(host: Host, link: Link, device: Device, port: int) -> None:
    """The sockets are opened with `up`; only then can a port be found taken."""
    if port == device["listen_port"]:
        return
    if not link["running"]:
        device["listen_port"] = port
    elif not bind_port(host, link, port):
        raise Exit(1, "Unable to modify interface: Address already in use")


def set_private_key(device: Device, private: str) -> None:
    """Every handshake ends with the old key; a peer of the new key's own public key goes silently."""
    if private == device["private_key"]:
        return
    device["private_key"] = private
    own = public_key(private) if private else ""
    device["peers"] = [peer for peer in device["peers"] if peer["public_key"] != own]
    for peer in device["peers"]:
        peer["latest_handshake_at"] = 0


def change_peer(link: Link, device: Device, change: PeerChange) -> None:
    peer = next((one for one in device["peers"] if one["public_key"] == change["public_key"]), None)
    if change.get("remove"):
        if peer is not None:
            device["peers"].remove(peer)
        return
    if peer is None:
        peer = new_peer(change["public_key"])
        device["peers"].append(peer)
    peer["preshared_key"] = change.get("preshared_key", peer["preshared_key"])
    peer["endpoint"] = change.get("endpoint", peer["endpoint"])
    if "keepalive" in change:
        set_keepalive(link, device, peer, change["keepalive"])
    if change.get("replace_allowed_ips"):
        peer["allowed_ips"].clear()
    for sign, prefix in change.get("allowed_ips", []):
        change_allowed_ip(device, peer, sign, prefix)


def new_peer(key: str) -> Peer:
    return {
        "public_key": key,
        "preshared_key": "",
        "endpoint": "",
        "allowed_ips": [],
        "latest_handshake_at": 0,
        "rx_bytes": 0,
        "tx_bytes": 0,
        "keepalive_seconds": 0,
    }


def set_keepalive(link: Link, device: Device, peer: Peer, seconds: int) -> None:
    """A keepalive newly wished for sends a first handshake message at once (seen: 148 bytes)."""
    sends = link["running"] and peer["endpoint"] and device["private_key"]
    if seconds and not peer["keepalive_seconds"] and sends:
        peer["tx_bytes"] += HANDSHAKE_BYTES
    peer["keepalive_seconds"] = seconds


def change_allowed_ip(device: Device, peer: Peer, sign: str, prefix: str) -> None:
    """A prefix that another peer has moves over, silently; the newest is listed first (both seen)."""
    if sign == "-":
        if prefix in peer["allowed_ips"]:
            peer["allowed_ips"].remove(prefix)
        return
    if prefix in peer["allowed_ips"]:
        return
    for other in device["peers"]:
        if prefix in other["allowed_ips"]:
            other["allowed_ips"].remove(prefix)
    peer["allowed_ips"].insert(0, prefix)
