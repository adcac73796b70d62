"""IP addresses on bytes: ipaddress would double a tool's start time."""

from __future__ import annotations

from _socket import AF_INET, AF_INET6, inet_ntop, inet_pton

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .shapes import Family

NUMBERS = {"inet": AF_INET, "inet6": AF_INET6}
WIDTHS = {"inet": 32, "inet6": 128}


def packed(family: Family, text: str) -> bytes:
    """Raises OSError for what is no address of the family; a zone (%lo0) is left out."""
    return inet_pton(NUMBERS[family], text.partition("%")[0])


def family_of(text: str) -> Family:
    return "inet6" if ":" in text else "inet"


def mask(family: Family, length: int) -> bytes:
    width = WIDTHS[family]
    return (((1 << length) - 1) << (width - length)).to_bytes(width // 8, "big")


def masked(family: Family, text: str, length: int) -> str:
    bits = int.from_bytes(packed(family, text), "big") & int.from_bytes(mask(family, length), "big")
    return inet_ntop(NUMBERS[family], bits.to_bytes(WIDTHS[family] // 8, "big"))


def text_of(family: Family, address: bytes) -> str:
    return inet_ntop(NUMBERS[family], address)


def contains(family: Family, network: str, length: int, text: str) -> bool:
    return masked(family, network, length) == masked(family, text, length)
