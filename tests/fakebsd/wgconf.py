"""What wg(8) reads: values of `set` and lines of a configuration, with its words for bad ones."""

from __future__ import annotations

import time

from .addresses import WIDTHS, family_of, masked, packed, text_of
from .call import Call, Exit
from .x25519 import decoded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypedDict

    from .shapes import Host

    class PeerChange(TypedDict, total=False):
        public_key: str
        remove: bool
        preshared_key: str
        endpoint: str
        keepalive: int
        replace_allowed_ips: bool
        allowed_ips: list[tuple[str, str]]  # sign ("", "+" or "-") and prefix, in the order given

    class DeviceChange(TypedDict, total=False):
        private_key: str
        listen_port: int
        fwmark: int
        replace_peers: bool
        peers: list[PeerChange]


NO_KEY = "A" * 43 + "="
CONFIG_ERROR = "Configuration parsing error"
RETRIES = 15
BAD_SERVICE = "Service was not recognized for socket type"


def key(text: str) -> str:
    if decoded(text) is None:
        raise Exit(1, f"Key is not the correct length or format: `{text}'")
    return "" if text == NO_KEY else text


def key_file(call: Call, path: str) -> str:
    """An empty file (/dev/null) clears the key."""
    try:
        text = call.stdin if path == "/dev/stdin" else file_text(path)
    except FileNotFoundError as error:
        raise Exit(1, "fopen: No such file or directory") from error
    text = text.strip()
    return key(text) if text else ""


def file_text(path: str) -> str:
    with open(path) as file:  # noqa: PTH123
        return file.read()


def port(text: str) -> int:
    if not text.isdigit() or int(text) > 65535:
        raise Exit(1, f"{BAD_SERVICE}: `{text}'")
    return int(text)


def fwmark(text: str) -> int:
    if text == "off":
        return 0
    try:
        return int(text, 0)
    except ValueError as error:
        raise Exit(1, f"Fwmark is neither 0/off nor 0-0xffffffff: `{text}'") from error


def keepalive(text: str) -> int:
    if text == "off":
        return 0
    if not text.isdigit() or int(text) > 65535:
        raise Exit(1, f"Persistent keepalive interval is neither 0/off nor 1-65535: `{text}'")
    return int(text)


def allowed_ips(host: Host, call: Call, text: str) -> list[tuple[str, str]]:
    return [allowed_ip(host, call, part) for part in text.split(",")] if text else []


def allowed_ip(host: Host, call: Call, part: str) -> tuple[str, str]:
    sign = part[0] if part[:1] in ("+", "-") and host["incremental_allowed_ips"] != "refused" else ""
    address, slash, length = part.removeprefix(sign).partition("/")
    family = family_of(address)
    try:
        packed(family, address)
    except OSError as error:
        raise Exit(1, f"Unable to parse IP address: `{address}'") from error
    if slash and not (length.isdigit() and int(length) <= WIDTHS[family]):
        raise Exit(1, f"AllowedIP is not in the correct format: `{part}'")
    width = int(length) if slash else WIDTHS[family]
    plain = masked(family, address, width)
    if packed(family, plain) != packed(family, address):
        call.warn(f"Warning: AllowedIP has nonzero host part: {part.removeprefix(sign)}")
    return sign, f"{plain}/{width}"


def endpoint(host: Host, call: Call, text: str) -> str:
    """Numbers only: a name never resolves here, and wg tries again for minutes unless told not to."""
    if text.startswith("[") and "]" not in text:
        raise Exit(1, f"Unable to find matching brace of endpoint: `{text}'")
    if text.startswith("["):
        name, bracket, number = text[1:].partition("]:")
        colon = bool(bracket)
    else:
        name, separator, number = text.rpartition(":")
        colon = bool(separator)
    if not colon:
        raise Exit(1, f"Unable to find port of endpoint: `{text}'")
    try:
        family = family_of(name)
        plain = text_of(family, packed(family, name))
        problem = "" if number.isdigit() and int(number) < 65536 else BAD_SERVICE
    except OSError:
        problem = "Name could not be resolved at this time"
    if problem:
        try_again(host, call, f"{problem}: `{text}'")
    return f"[{plain}]:{int(number)}" if family == "inet6" else f"{plain}:{int(number)}"


def try_again(host: Host, call: Call, problem: str) -> None:
    given = call.environment.get("WG_ENDPOINT_RESOLUTION_RETRIES", str(RETRIES))
    for turn in range(int(given) if given.isdigit() else RETRIES):
        seconds = min(20.0, 1.2**turn)
        call.warn(f"{problem}. Trying again in {seconds:.2f} seconds...")
        if host["retries_sleep"]:
            time.sleep(seconds)
    raise Exit(1, problem)


def configuration(host: Host, call: Call, text: str, *, append: bool) -> DeviceChange:
    """addconf appends; setconf and syncconf also clear what the file does not name."""
    change: DeviceChange = {"peers": []}
    if not append:
        change = {"private_key": "", "listen_port": 0, "fwmark": 0, "replace_peers": True, "peers": []}
    section = ""
    for raw in text.splitlines():
        line = "".join(raw.partition("#")[0].split())
        if line.lower() in ("[interface]", "[peer]"):
            section = line.lower()
            if section == "[peer]":
                change["peers"].append({"replace_allowed_ips": True, "allowed_ips": []})
        elif line:
            read_line(host, call, change, section, line)
    if any("public_key" not in peer for peer in change["peers"]):
        raise Exit(1, "A peer is missing a public key\nInvalid configuration")
    return change


def read_line(host: Host, call: Call, change: DeviceChange, section: str, line: str) -> None:
    name, _, value = line.partition("=")
    reader = {"[interface]": interface_line, "[peer]": peer_line}.get(section)
    try:
        if reader is None or not value or not reader(host, call, change, name.lower(), value):
            raise Exit(1, f"Line unrecognized: `{line}'")
    except Exit as problem:
        raise Exit(1, f"{problem.error}\n{CONFIG_ERROR}") from problem


def interface_line(host: Host, call: Call, change: DeviceChange, name: str, value: str) -> bool:
    if name == "listenport":
        change["listen_port"] = port(value)
    elif name == "fwmark":
        change["fwmark"] = fwmark(value)
    elif name == "privatekey":
        change["private_key"] = key(value)
    else:
        return False
    return True


def peer_line(host: Host, call: Call, change: DeviceChange, name: str, value: str) -> bool:
    peer = change["peers"][-1]
    if name == "publickey":
        peer["public_key"] = key(value)
    elif name == "presharedkey":
        peer["preshared_key"] = key(value)
    elif name == "allowedips":
        peer["allowed_ips"] += allowed_ips(host, call, value)
    elif name == "endpoint":
        peer["endpoint"] = endpoint(host, call, value)
    elif name == "persistentkeepalive":
        peer["keepalive"] = keepalive(value)
    else:
        return False
    return True
