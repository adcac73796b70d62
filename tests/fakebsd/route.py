"""route(8): add, change, delete and get, with -j, -fib, -q."""

from __future__ import annotations

from .addresses import WIDTHS, contains, family_of, mask, masked, packed, text_of
from .call import Call, Exit, find_link, set_jail, stack_of
from .links import connected_routes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .shapes import Family, Host, Link, Route, Stack

USAGE = "route: usage: route [-j jail] [-46dnqtv] command [[modifiers] args]"
PRESENT, ABSENT, INVALID = "route already in table", "not in table", "Invalid argument"
KERNEL_WORDS = {
    PRESENT: "message indicates error: File exists",
    ABSENT: "route has not been found",
    INVALID: "message indicates error: Invalid argument",
}


FLAG_NAMES = {
    "U": "UP",
    "G": "GATEWAY",
    "H": "HOST",
    "R": "REJECT",
    "D": "DONE",
    "S": "STATIC",
    "B": "BLACKHOLE",
}


class Order:
    """One command line, understood."""

    __slots__ = ("blackhole", "family", "fibs", "gateway", "interface", "length", "mtu", "target", "verb")

    def __init__(self, verb: str, default_fib: int) -> None:
        self.verb = verb
        self.family: Family = "inet"
        self.target = ""
        self.length = -1
        self.interface = ""
        self.gateway = ""
        self.mtu = 0
        self.blackhole = False
        self.fibs = [default_fib]

    @property
    def destination(self) -> str:
        return masked(self.family, self.target, self.prefix)

    @property
    def prefix(self) -> int:
        return WIDTHS[self.family] if self.length < 0 else self.length


def run(host: Host, call: Call) -> int:
    words, quiet = switches(host, call)
    order = understood(host, call, words)
    if order.verb == "flush":
        if stack_of(host, call.jail)["routes"]:
            raise call.not_imitated()
        return 0
    if order.verb == "get":
        return get(host, call, order)
    if not call.privileged:
        raise Exit(77, "route: must be root to alter routing table")
    code = alter_all(host, call, order)
    if quiet:
        call.lines.clear()
        call.errors.clear()
    return code


def switches(host: Host, call: Call) -> tuple[list[str], bool]:
    words, quiet = list(call.args), False
    while words and words[0].startswith("-"):
        if words[0] == "-j":
            set_jail(host, call, words[1], "route: Jail not found")
            words = words[1:]
        elif any(letter not in "46dnqtv" for letter in words[0][1:]):
            raise Exit(64, f"route: illegal option -- {words[0][1]}\n{USAGE}")
        quiet = quiet or "q" in words[0]
        words = words[1:]
    return words, quiet


def understood(host: Host, call: Call, words: list[str]) -> Order:
    order = Order(words[0] if words else "", int(call.environment.get("FAKEBSD_FIB", "0")))
    rest = iter(words[1:])
    for word in rest:
        if word in ("-inet", "-inet6"):
            order.family = "inet6" if word == "-inet6" else "inet"
        elif word == "-fib":
            order.fibs = fib_numbers(host, next(rest))
        elif word == "-interface":
            order.interface = next(rest)
        elif word == "-mtu":
            order.mtu = int(next(rest))
        elif word == "-blackhole":
            order.blackhole = True
        elif word.startswith("-"):
            raise call.not_imitated()
        elif not order.target:
            destination(order, word)
        else:
            order.gateway = word
    if order.verb not in ("add", "change", "delete", "get", "flush"):
        raise call.not_imitated()
    if order.interface and find_link(stack_of(host, call.jail), order.interface) is None:
        raise Exit(65, f"route: interface '{order.interface}' does not exist")
    return order


def fib_numbers(host: Host, text: str) -> list[int]:
    numbers: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        numbers += range(int(first), int(last or first) + 1)
    for number in numbers:
        if number >= host["fibs"]:
            raise Exit(64, f"route: invalid fib number: {number}")
    return numbers


def destination(order: Order, word: str) -> None:
    if word == "default":
        order.target, order.length = ("0.0.0.0" if order.family == "inet" else "::"), 0
        return
    text, _, length = word.partition("/")
    try:
        order.target = text_of(order.family, packed(order.family, text))
    except OSError as error:
        raise Exit(68, f"route: bad address: {word}") from error
    if length:
        if not (length.isdigit() and int(length) <= WIDTHS[order.family]):
            raise Exit(68, f"route: bad mask length: {length}")
        order.length = int(length)


def alter_all(host: Host, call: Call, order: Order) -> int:
    """One line for all tables when all went well; else a line per table up to the first failure (seen)."""
    done: list[int] = []
    for fib in order.fibs:
        problem = alter(stack_of(host, call.jail), order, fib)
        if problem:
            call.lines += [f"{described(order)} fib {number}" for number in done]
            call.say(f"{described(order)} fib {fib}: {problem}")
            call.warn(f"route: {KERNEL_WORDS[problem]}")
            return 1
        done.append(fib)
    tables = ",".join(str(number) for number in done)
    call.say(described(order) + (f" fib {tables}" if host["fibs"] > 1 else ""))
    return 0


def described(order: Order) -> str:
    """inet loses its prefix length, inet6 keeps it; an inet /32 is a net, an inet6 /128 a host (seen)."""
    text = "default" if order.length == 0 else order.target
    if order.family == "inet6" and order.length > 0:
        text += f"/{order.length}"
    host = order.length < 0 or (order.family == "inet6" and order.length == 128)
    via = order.interface or order.gateway
    return f"{order.verb} {'host' if host else 'net'} {text}" + (f": gateway {via}" if via else "")


def alter(stack: Stack, order: Order, fib: int) -> str:
    old = find_route(stack, order, fib)
    if order.verb == "delete":
        if old is None or (order.interface and order.interface != old["link"]):
            return ABSENT
        stack["routes"].remove(old)
        return ""
    connected = any(same(route, order, fib) for route in connected_routes(stack, fib))
    if order.verb == "add" and (old is not None or connected) and not joins(stack, order, fib):
        return PRESENT
    if order.verb == "change" and old is None:
        return ABSENT
    made = build(stack, order, fib)
    if made is None:
        return INVALID
    if old is not None and order.verb == "change":
        stack["routes"].remove(old)
    stack["routes"].append(made)
    return ""


def joins(stack: Stack, order: Order, fib: int) -> bool:
    """Another gateway for the same prefix silently becomes a path more (route.8, ROUTE_MPATH), but only where
    every path has a gateway (nhop_can_multipath(), sys/net/route/nhop.c): two interfaces never (seen)."""
    there = [route for route in stack["routes"] if same(route, order, fib)]
    others = all(route["gateway"] and route["gateway"] != order.gateway for route in there)
    return bool(there) and bool(order.gateway) and not order.blackhole and others


def find_route(stack: Stack, order: Order, fib: int) -> Route | None:
    return next((route for route in stack["routes"] if same(route, order, fib)), None)


def same(route: Route, order: Order, fib: int) -> bool:
    return (route["fib"], route["family"], route["destination"], route["length"]) == (
        fib,
        order.family,
        order.destination,
        order.prefix,
    )


def build(stack: Stack, order: Order, fib: int) -> Route | None:
    """None: the gateway is on none of our networks."""
    name = order.interface or gateway_link(stack, order, fib)
    link = find_link(stack, name)
    if link is None:
        return None
    host = "H" if order.prefix == WIDTHS[order.family] else ""
    local = order.interface or order.blackhole
    return {
        "fib": fib,
        "family": order.family,
        "destination": order.destination,
        "length": order.prefix,
        "link": name,
        "gateway": "" if local else order.gateway,
        "source": source(link, order),
        "mtu": order.mtu,
        "flags": f"U{'' if local else 'G'}{host}S{'B' if order.blackhole else ''}",
    }


def gateway_link(stack: Stack, order: Order, fib: int) -> str:
    try:
        reached = [
            route
            for route in connected_routes(stack, fib)
            if route["family"] == order.family
            and family_of(order.gateway) == order.family
            and contains(order.family, route["destination"], route["length"], order.gateway)
        ]
    except OSError:
        return ""
    return max(reached, key=lambda route: route["length"])["link"] if reached else ""


def source(link: Link, order: Order) -> str:
    """The address the route is made from, chosen now: the nearest, else the first (ifaof_ifpforaddr())."""
    own = [one for one in link["addresses"] if one["family"] == order.family]
    near = [one for one in own if contains(order.family, one["address"], one["length"], order.target)]
    best = max(near, key=lambda one: one["length"]) if near else (own[0] if own else None)
    return best["address"] if best else ""


def get(host: Host, call: Call, order: Order) -> int:
    stack = stack_of(host, call.jail)
    found = looked_up(stack, order.family, order.target, order.fibs[0])
    if found is None:
        raise Exit(255, "route: route has not been found")
    family, length = found["family"], found["length"]
    call.say(f"   route to: {order.target}")
    call.say(f"destination: {'default' if length == 0 else found['destination']}")
    if length < WIDTHS[family]:
        call.say(f"       mask: {'default' if length == 0 else text_of(family, mask(family, length))}")
    if found["gateway"]:
        call.say(f"    gateway: {found['gateway']}")
    call.say(f"        fib: {found['fib']}")
    call.say(f"  interface: {found['link']}")
    flags = sorted(found["flags"] + "D", key=list(FLAG_NAMES).index)
    call.say(f"      flags: <{','.join(FLAG_NAMES[flag] for flag in flags)}>")
    call.say(" recvpipe  sendpipe  ssthresh  rtt,msec    mtu        weight    expire")
    call.say(f"{0:8}  {0:8}  {0:8}  {0:8}  {route_mtu(stack, found):8}  {1:8}  {0:8} ")
    return 0


def looked_up(stack: Stack, family: Family, target: str, fib: int) -> Route | None:
    """The longest prefix wins."""
    matching = [
        route
        for route in [*connected_routes(stack, fib), *stack["routes"]]
        if (route["fib"], route["family"]) == (fib, family)
        and contains(family, route["destination"], route["length"], target)
    ]
    return max(matching, key=lambda route: route["length"]) if matching else None


def route_mtu(stack: Stack, route: Route) -> int:
    link = find_link(stack, route["link"])
    return route["mtu"] or (link["mtu"] if link else 0)
