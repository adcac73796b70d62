"""Interfaces of one network stack: numbers, addresses, up and down, and the routes that follow them."""

from __future__ import annotations

from .addresses import WIDTHS, masked
from .call import Call, Exit, find_link, stack_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .shapes import Address, Host, Link, Route, Stack

WG_MTU_BYTES = 1500 - 80
MTU_MAX_BYTES = 65535 - 80
ND6 = {
    "wg": "109<PERFORMNUD,IFDISABLED,NO_DAD>",
    "lo": "21<PERFORMNUD,AUTO_LINKLOCAL>",
    "epair": "29<PERFORMNUD,IFDISABLED,AUTO_LINKLOCAL>",
    "bridge": "9<PERFORMNUD,IFDISABLED>",
}
ND6_WITH_ADDRESS = "101<PERFORMNUD,NO_DAD>"


def free_index(host: Host) -> int:
    taken = {link["index"] for stack in host["stacks"].values() for link in stack["links"]}
    return next(number for number in range(1, 65536) if number not in taken)


def new_link(host: Host, stack: Stack, kind: str, unit: int, name: str) -> Link:
    wireguard = kind == "wg"
    link: Link = {
        "name": name,
        "kind": kind,
        "unit": unit,
        "index": free_index(host),
        "up": False,
        "running": kind == "epair",
        "lower_up": kind == "epair",
        "description": "",
        "groups": [kind],
        "mtu": {"wg": WG_MTU_BYTES, "lo": 16384}.get(kind, 1500),
        "addresses": [],
        "fib": 0,
        "tunnel_fib": 0,
        "nd6": ND6[kind],
        "inet_routes_gone": False,
        "members": [],
        "device": {"private_key": "", "listen_port": 0, "fwmark": 0, "peers": []} if wireguard else None,
    }
    stack["links"].append(link)
    return link


def new_stack(host: Host, jail: str) -> Stack:
    stack: Stack = {"links": [], "routes": [], "sysctls": {}}
    host["stacks"][jail] = stack
    new_link(host, stack, "lo", 0, "lo0")
    return stack


def add_loopback_addresses(link: Link) -> None:
    link["addresses"] = [
        {"family": "inet", "address": "127.0.0.1", "length": 8, "fib": 0},
        {"family": "inet6", "address": "::1", "length": 128, "fib": 0},
        {"family": "inet6", "address": f"fe80::1%{link['name']}", "length": 64, "fib": 0},
    ]
    link["up"] = link["running"] = link["lower_up"] = True


def destroy(stack: Stack, link: Link) -> None:
    """A destroyed interface takes its routes along (seen), and leaves its bridge."""
    stack["links"].remove(link)
    for bridge in stack["links"]:
        bridge["members"] = [name for name in bridge["members"] if name != link["name"]]
    stack["routes"] = [route for route in stack["routes"] if route["link"] != link["name"]]


def move(source: Stack, target: Stack, link: Link) -> None:
    """Into another stack: up no more, addresses and routes are left behind (seen)."""
    destroy(source, link)
    link["addresses"] = []
    link["up"] = False
    target["links"].append(link)


def taken_ports(host: Host, besides: Link) -> list[int]:
    """UDP ports of other running WireGuard interfaces in the same stack; on the host, of other programs."""
    stacks = host["stacks"].items()
    name = next(jail for jail, stack in stacks if any(besides is one for one in stack["links"]))
    ports = [] if name else list(host["taken_ports"])
    for link in host["stacks"][name]["links"]:
        if link["device"] is not None and link["running"] and link is not besides:
            ports.append(link["device"]["listen_port"])
    return ports


def bind_port(host: Host, link: Link, port: int) -> bool:
    """False: somebody has the port."""
    device = link["device"]
    assert device is not None
    taken = taken_ports(host, link)
    if port in taken:
        return False
    if port == 0:
        offered = [number for number in host["random_ports"] if number not in taken]
        port = offered[0] if offered else next(p for p in range(20000, 65536) if p not in taken)
    device["listen_port"] = port
    return True


def bring_up(host: Host, link: Link) -> None:
    """A port in use is silent: UP without RUNNING (seen)."""
    if link["device"] is not None and not link["running"]:
        link["running"] = bind_port(host, link, link["device"]["listen_port"])
    elif link["device"] is None:
        link["running"] = True
    link["up"] = link["lower_up"] = True
    link["inet_routes_gone"] = False


def bring_down(link: Link) -> None:
    """Static routes stay; those of inet addresses go until `up` (seen). Sessions end with their keys."""
    link["inet_routes_gone"] = link["inet_routes_gone"] or link["up"]
    link["up"] = False
    device = link["device"]
    if device is not None:
        link["running"] = link["lower_up"] = False
        for peer in device["peers"]:
            peer["latest_handshake_at"] = 0


def add_address(stack: Stack, link: Link, address: Address) -> None:
    """An address that is there already is taken off first, and inet's static routes from it go with it:
    in_aifaddr_ioctl() calls in_difaddr_ioctl() (sys/netinet/in.c)."""
    for old in link["addresses"]:
        if old["family"] == address["family"] and old["address"] == address["address"]:
            if old["family"] == "inet6":
                refuse_other_length(old, address)
                return
            remove_address(stack, link, old)
            break
    if address["family"] == "inet6":
        refuse_elsewhere(stack, link, address)
    link["addresses"].append(address)
    if link["kind"] == "lo" and not link["up"]:
        wake_loopback(link)
    if address["family"] == "inet6":
        link["nd6"] = ND6_WITH_ADDRESS if link["kind"] == "wg" else link["nd6"]


def refuse_elsewhere(stack: Stack, link: Link, new: Address) -> None:
    """An IPv6 address stands on one interface: in6_notify_ifa() (sys/netinet6/in6.c) hands on the EEXIST of
    the host route to the second one, where IPv4 asks in_localip_more() first."""
    others = (old for one in stack["links"] if one is not link for old in one["addresses"])
    if any((old["family"], old["address"]) == ("inet6", new["address"]) for old in others):
        raise Exit(1, "ifconfig: ioctl (SIOCAIFADDR): File exists")


def refuse_other_length(old: Address, new: Address) -> None:
    """An IPv6 address keeps its prefix length for life (in6_validate_ifra(), sys/netinet6/in6.c)."""
    if old["length"] != new["length"]:
        raise Exit(1, "ifconfig: ioctl (SIOCAIFADDR): Invalid argument")


def wake_loopback(link: Link) -> None:
    """A loopback's first address brings it up, and an IPv6 link-local address with it (seen)."""
    link["up"] = link["running"] = link["lower_up"] = True
    if link["unit"] == 0:
        link["addresses"].append({"family": "inet6", "address": "::1", "length": 128, "fib": 0})
    local: Address = {"family": "inet6", "address": f"fe80::1%{link['name']}", "length": 64, "fib": 0}
    link["addresses"].append(local)


def remove_address(stack: Stack, link: Link, address: Address) -> None:
    """Static inet routes that were made from this address go (in_ifadown(); seen), whatever others remain."""
    link["addresses"].remove(address)
    if address["family"] == "inet":
        stack["routes"] = [
            route
            for route in stack["routes"]
            if (route["link"], route["source"]) != (link["name"], address["address"])
        ]


def connected_routes(stack: Stack, fib: int) -> list[Route]:
    """The routes that the interfaces' addresses bring along."""
    routes: list[Route] = []
    for link in stack["links"]:
        for address in link["addresses"]:
            if address["fib"] == fib and not (address["family"] == "inet" and link["inet_routes_gone"]):
                routes += address_routes(link, address)
    loopback = find_link(stack, "lo0")
    if loopback is not None and loopback["addresses"]:
        routes += loopback_routes(fib)
    return unique(routes)


def address_routes(link: Link, address: Address) -> list[Route]:
    family, fib, text = address["family"], address["fib"], address["address"]
    if link["kind"] == "lo" and link["unit"] == 0:
        return [] if family == "inet6" else [fixed(fib, "inet", text, 32, "UH")]
    if address["length"] == WIDTHS[family]:
        return [fixed(fib, family, text, WIDTHS[family], "UH" if family == "inet" else "UHS")]
    _, zone, scope = text.partition("%")
    network: Route = {
        "fib": fib,
        "family": family,
        "destination": masked(family, text, address["length"]) + zone + scope,
        "length": address["length"],
        "link": link["name"],
        "gateway": "",
        "source": text,
        "flags": "U",
        "mtu": 0,
    }
    return [network, fixed(fib, family, text, WIDTHS[family], "UHS")]


def loopback_routes(fib: int) -> list[Route]:
    if fib != 0:
        return [fixed(fib, "inet", "127.0.0.1", 32, "UHS"), fixed(fib, "inet6", "::1", 128, "UHS")]
    refused = [("::", 96), ("::ffff:0.0.0.0", 96), ("fe80::%lo0", 10), ("ff02::", 16)]
    return [
        *(fixed(fib, "inet6", text, length, "URS") for text, length in refused),
        fixed(fib, "inet6", "::1", 128, "UHS"),
        fixed(fib, "inet6", "fe80::%lo0", 64, "U"),
        fixed(fib, "inet6", "fe80::1%lo0", 128, "UHS"),
    ]


def fixed(fib: int, family: str, destination: str, length: int, flags: str) -> Route:
    """A route over lo0, to an address of the host itself."""
    return {
        "fib": fib,
        "family": "inet6" if family == "inet6" else "inet",
        "destination": destination,
        "length": length,
        "link": "lo0",
        "gateway": "",
        "source": destination,
        "flags": flags,
        "mtu": 0,
    }


def unique(routes: list[Route]) -> list[Route]:
    """The same address on two interfaces makes one route (seen)."""
    seen = {(route["destination"], route["length"]): route for route in reversed(routes)}
    return list(seen.values())


def need_link(host: Host, call: Call, name: str) -> Link:
    link = find_link(stack_of(host, call.jail), name)
    if link is None:
        raise Exit(1, f"ifconfig: interface {name} does not exist")
    return link
