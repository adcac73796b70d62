"""ifconfig(8), as far as a WireGuard mesh asks it."""

from __future__ import annotations

from . import links
from .addresses import WIDTHS, mask, packed, text_of
from .call import Call, Exit, find_jail, find_link, set_jail, stack_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .shapes import Address, Family, Host, Link, Stack

KINDS = ("wg", "lo", "epair", "bridge")
FLAGS = (
    ("UP", 0x1),
    ("BROADCAST", 0x2),
    ("LOOPBACK", 0x8),
    ("RUNNING", 0x40),
    ("NOARP", 0x80),
    ("SIMPLEX", 0x800),
    ("MULTICAST", 0x8000),
    ("LOWER_UP", 0x1000000),
)
OPTIONS = {
    "wg": "80000<LINKSTATE>",
    "lo": "680003<RXCSUM,TXCSUM,LINKSTATE,RXCSUM_IPV6,TXCSUM_IPV6>",
    "epair": "60001b<RXCSUM,TXCSUM,VLAN_MTU,VLAN_HWTAGGING,RXCSUM_IPV6,TXCSUM_IPV6>",
    "bridge": "10<VLAN_HWTAGGING>",
}
BRIDGE = (
    "id 00:00:00:00:00:00 priority 32768 hellotime 2 fwddelay 15",
    "maxage 20 holdcnt 6 proto rstp maxaddr 2000 timeout 1200",
    "root id 00:00:00:00:00:00 priority 32768 ifcost 0 port 0",
    "bridge flags=0<>",
)


def run(host: Host, call: Call) -> int:
    words = list(call.args)
    if words[:1] == ["-j"]:
        set_jail(host, call, words[1], f'ifconfig: jail "{words[1]}" not found')
        words = words[2:]
    if words[:1] == ["-n"]:
        words = words[1:]
    if words in ([], ["-a"]):
        for link in stack_of(host, call.jail)["links"]:
            show(call, link, stack_of(host, call.jail))
        return 0
    if words[0] in ("-l", "-g"):
        return names(host, call, words)
    if len(words) > 1 and words[1] == "create":
        return create(host, call, words)
    link = links.need_link(host, call, words[0])
    if len(words) == 1:
        show(call, link, stack_of(host, call.jail))
    return change(host, call, link, words[1:])


def names(host: Host, call: Call, words: list[str]) -> int:
    found = stack_of(host, call.jail)["links"]
    if words == ["-l"]:
        call.say(" ".join(link["name"] for link in found))
    elif len(words) == 2:
        call.lines += [link["name"] for link in found if words[1] in link["groups"]]
    else:
        raise call.not_imitated()
    return 0


def create(host: Host, call: Call, words: list[str]) -> int:
    """A renamed interface keeps its unit; a refused name leaves the new interface behind (both seen)."""
    stack = stack_of(host, call.jail)
    kind, number = split_name(words[0])
    named = len(words) == 4 and words[2] == "name"
    if kind not in KINDS or not (named or len(words) == 2):
        raise call.not_imitated()
    # The ends of a pair move between stacks, so its numbers are the whole system's.
    stacks = host["stacks"].values() if kind == "epair" else [stack]
    units = [link["unit"] for one in stacks for link in one["links"] if link["kind"] == kind]
    unit = next(n for n in range(1000) if n not in units) if number == "" else int(number)
    if unit in units or find_link(stack, words[0]) is not None:
        raise Exit(1, f"ifconfig: interface {words[0]} already exists")
    if not call.privileged:
        raise Exit(1, f"ifconfig: SIOCIFCREATE2 ({words[0]}): Operation not permitted")
    if kind in ("wg", "epair", "bridge") and not loaded(host, call, f"if_{kind}"):
        raise Exit(1, f"ifconfig: SIOCIFCREATE2 ({words[0]}): Invalid argument")
    taken = named and find_link(stack, words[3]) is not None
    made = links.new_link(host, stack, kind, unit, f"{kind}{unit}a" if kind == "epair" else f"{kind}{unit}")
    if kind == "epair":
        links.new_link(host, stack, kind, unit, f"epair{unit}b")
    if named and not taken:
        made["name"] = words[3]
    if number == "" or named or made["name"] != words[0]:
        call.say(made["name"])
    if taken:
        raise Exit(1, "ifconfig: ioctl SIOCSIFNAME (set name): File exists")
    return 0


def split_name(name: str) -> tuple[str, str]:
    kind = name.rstrip("0123456789")
    return kind, name[len(kind) :]


def loaded(host: Host, call: Call, module: str) -> bool:
    """ifconfig loads the module itself, but not from inside a jail."""
    if module in host["modules"]:
        return True
    if module in host["missing_modules"] or call.jail:
        return False
    host["modules"].append(module)
    return True


def change(host: Host, call: Call, link: Link, words: list[str]) -> int:
    """The words are done in turn: what stood before a failing one stays done."""
    while words:
        verb, words = words[0], words[1:]
        if verb in ("inet", "inet6"):
            words = address(host, call, link, "inet6" if verb == "inet6" else "inet", words)
        elif verb in ONE_WORD:
            ONE_WORD[verb](host, call, link)
        elif verb in TWO_WORDS and words:
            TWO_WORDS[verb](host, call, link, words[0])
            words = words[1:]
        else:
            raise call.not_imitated()
    return 0


def address(host: Host, call: Call, link: Link, family: Family, words: list[str]) -> list[str]:
    text, _, length = words[0].partition("/")
    try:
        text = text_of(family, packed(family, text))
    except OSError as error:
        raise Exit(1, f"ifconfig: {text}: bad value") from error
    if text.startswith("fe80:"):
        text += f"%{link['name']}"
    adding = words[1:2] == ["alias"]
    removing = words[1:2] == ["-alias"]
    width = WIDTHS[family]
    if length and not (length.isdigit() and int(length) <= width):
        raise Exit(1, f"ifconfig: {words[0]}: bad value (width too large)")
    if removing:
        unassign(host, call, link, family, text)
    else:
        given = int(length) if length else without_mask(host, call, family)
        new: Address = {"family": family, "address": text, "length": given, "fib": link["fib"]}
        assign(host, call, link, new, adding)
    return words[2:] if adding or removing else words[1:]


def without_mask(host: Host, call: Call, family: Family) -> int:
    """Refused by 15; 14 warns and guesses."""
    if family == "inet6":
        return 64
    if host["release"] >= "15":
        raise Exit(1, "ifconfig: ERROR: setting interface address without mask is no longer supported.")
    call.warn("ifconfig: WARNING: setting interface address without mask is deprecated,")
    call.warn("default mask may not be correct.")
    return 8


def assign(host: Host, call: Call, link: Link, new: Address, alias: bool) -> None:
    need_root(call, "ioctl (SIOCAIFADDR)")
    stack = stack_of(host, call.jail)
    first = next((old for old in link["addresses"] if old["family"] == new["family"]), None)
    if not alias and first is not None and new["family"] == "inet":
        links.remove_address(stack, link, first)
    links.add_address(stack, link, new)


def unassign(host: Host, call: Call, link: Link, family: Family, text: str) -> None:
    need_root(call, "ioctl (SIOCDIFADDR)")
    for old in link["addresses"]:
        if old["family"] == family and old["address"] == text:
            links.remove_address(stack_of(host, call.jail), link, old)
            return
    raise Exit(1, "ifconfig: ioctl (SIOCDIFADDR): Can't assign requested address")


def need_root(call: Call, what: str) -> None:
    if not call.privileged:
        raise Exit(1, f"ifconfig: {what}: Operation not permitted")


def destroy(host: Host, call: Call, link: Link) -> None:
    need_root(call, "SIOCIFDESTROY")
    stack = stack_of(host, call.jail)
    if link["kind"] != "epair":
        links.destroy(stack, link)
        return
    for owner in host["stacks"].values():
        for end in [one for one in owner["links"] if (one["kind"], one["unit"]) == ("epair", link["unit"])]:
            links.destroy(owner, end)


def up(host: Host, call: Call, link: Link) -> None:
    need_root(call, "ioctl (SIOCSIFFLAGS)")
    links.bring_up(host, link)


def down(host: Host, call: Call, link: Link) -> None:
    need_root(call, "ioctl (SIOCSIFFLAGS)")
    links.bring_down(link)


def rename(host: Host, call: Call, link: Link, name: str) -> None:
    need_root(call, "ioctl SIOCSIFNAME (set name)")
    if find_link(stack_of(host, call.jail), name) is not None:
        raise Exit(1, "ifconfig: ioctl SIOCSIFNAME (set name): File exists")
    for route in stack_of(host, call.jail)["routes"]:
        if route["link"] == link["name"]:
            route["link"] = name
    link["name"] = name
    call.say(name)


def describe(host: Host, call: Call, link: Link, text: str) -> None:
    need_root(call, "ioctl (set descr)")
    link["description"] = text


def join(host: Host, call: Call, link: Link, group: str) -> None:
    need_root(call, "ioctl (SIOCAIFGROUP)")
    if group not in link["groups"]:
        link["groups"].append(group)


def leave(host: Host, call: Call, link: Link, group: str) -> None:
    need_root(call, "ioctl (SIOCDIFGROUP)")
    if group not in link["groups"]:
        raise Exit(1, "ifconfig: ioctl (SIOCDIFGROUP): No such file or directory")
    link["groups"].remove(group)


def set_mtu(host: Host, call: Call, link: Link, text: str) -> None:
    need_root(call, "ioctl SIOCSIFMTU (set mtu)")
    if not (text.isdigit() and 1 <= int(text) <= links.MTU_MAX_BYTES):
        raise Exit(1, "ifconfig: ioctl SIOCSIFMTU (set mtu): Invalid argument")
    link["mtu"] = int(text)


def set_fib(host: Host, call: Call, link: Link, text: str) -> None:
    need_root(call, "ioctl (SIOCSIFFIB)")
    if not (text.isdigit() and int(text) < host["fibs"]):
        raise Exit(1, "ifconfig: ioctl (SIOCSIFFIB): Invalid argument")
    link["fib"] = int(text)


def set_tunnel_fib(host: Host, call: Call, link: Link, text: str) -> None:
    need_root(call, "ioctl (SIOCSTUNFIB)")
    if not (text.isdigit() and int(text) < host["fibs"]):
        raise Exit(1, "ifconfig: ioctl (SIOCSTUNFIB): Invalid argument")
    link["tunnel_fib"] = int(text)


def into_jail(host: Host, call: Call, link: Link, name: str) -> None:
    """The interface moves into the jail's own stack and leaves addresses and routes behind."""
    need_root(call, "ioctl (SIOCSIFVNET)")
    jail = find_jail(host, call.jail, name)
    if jail is None or jail["name"] not in host["stacks"]:
        raise call.not_imitated()
    links.move(stack_of(host, call.jail), host["stacks"][jail["name"]], link)


def add_member(host: Host, call: Call, link: Link, name: str) -> None:
    """15 takes no member that has addresses (net.link.bridge.member_ifaddrs)."""
    need_root(call, f"BRDGADD {name}")
    member = find_link(stack_of(host, call.jail), name)
    if link["kind"] != "bridge" or member is None or member["addresses"] or name in link["members"]:
        raise call.not_imitated()
    link["members"].append(name)


ONE_WORD: dict[str, Callable[[Host, Call, Link], None]] = {"destroy": destroy, "up": up, "down": down}
TWO_WORDS: dict[str, Callable[[Host, Call, Link, str], None]] = {
    "name": rename,
    "description": describe,
    "descr": describe,
    "group": join,
    "-group": leave,
    "mtu": set_mtu,
    "fib": set_fib,
    "tunnelfib": set_tunnel_fib,
    "vnet": into_jail,
    "addm": add_member,
}


def show(call: Call, link: Link, stack: Stack) -> None:
    names = [name for name, _ in FLAGS if name in flag_names(link)]
    value = sum(bit for name, bit in FLAGS if name in names)
    call.say(f"{link['name']}: flags={value:x}<{','.join(names)}> metric 0 mtu {link['mtu']}")
    if link["description"]:
        call.say(f"\tdescription: {link['description']}")
    call.say(f"\toptions={OPTIONS[link['kind']]}")
    if link["kind"] in ("epair", "bridge"):
        call.say(f"\tether 58:9c:fc:10:{link['index']:02x}:{link['unit']:02x}")
    call.lines += [f"\t{address_line(link, one)}" for one in sorted(link["addresses"], key=family_first)]
    if link["kind"] == "bridge":
        show_members(call, link, stack)
    call.say(f"\tgroups: {' '.join(link['groups'])}")
    if link["fib"]:
        call.say(f"\tfib: {link['fib']}")
    if link["tunnel_fib"]:
        call.say(f"\ttunnelfib: {link['tunnel_fib']}")
    if link["kind"] == "epair":
        call.lines += ["\tmedia: Ethernet 10Gbase-T (10Gbase-T <full-duplex>)", "\tstatus: active"]
    call.say(f"\tnd6 options={link['nd6']}")


def show_members(call: Call, link: Link, stack: Stack) -> None:
    call.lines += [f"\t{line}" for line in BRIDGE]
    for name in link["members"]:
        member = find_link(stack, name)
        assert member is not None
        call.say(f"\tmember: {name} flags=143<LEARNING,DISCOVER,AUTOEDGE,AUTOPTP>")
        call.say(f"\t        port {member['index']} priority 128 path cost 2000 vlan protocol 802.1q")


def flag_names(link: Link) -> set[str]:
    own = {"wg": {"NOARP"}, "lo": {"LOOPBACK"}}.get(link["kind"], {"BROADCAST", "SIMPLEX"})
    states = {name for name in ("UP", "RUNNING", "LOWER_UP") if link[STATES[name]]}
    return own | states | {"MULTICAST"}


STATES: dict[str, STATE] = {"UP": "up", "RUNNING": "running", "LOWER_UP": "lower_up"}
if TYPE_CHECKING:
    from typing import Literal

    STATE = Literal["up", "running", "lower_up"]


def family_first(address: Address) -> bool:
    return address["family"] == "inet6"


def broadcast(address: Address) -> str:
    bits = int.from_bytes(packed("inet", address["address"]), "big") | (1 << 32 - address["length"]) - 1
    return text_of("inet", bits.to_bytes(4, "big"))


def address_line(link: Link, address: Address) -> str:
    if address["family"] == "inet":
        line = f"inet {address['address']} netmask 0x{mask('inet', address['length']).hex()}"
        return f"{line} broadcast {broadcast(address)}" if link["kind"] in ("epair", "bridge") else line
    zone = f" scopeid 0x{link['index']:x}" if "%" in address["address"] else ""
    return f"inet6 {address['address']} prefixlen {address['length']}{zone}"
