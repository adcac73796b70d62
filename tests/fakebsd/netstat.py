"""netstat(1) -rnW, as text and as libxo's JSON."""

from __future__ import annotations

import json

from .addresses import WIDTHS, packed
from .call import Call, Exit, find_link, set_jail, stack_of
from .links import connected_routes
from .route import route_mtu

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .shapes import Family, Host, Route, Stack

FLAG_WORDS = {
    "U": "up",
    "G": "gateway",
    "H": "host",
    "R": "reject",
    "S": "static",
    "B": "blackhole",
}
WIDE = {"inet": (18, 18), "inet6": (33, 29)}


def run(host: Host, call: Call) -> int:
    families: list[Family] = ["inet", "inet6"]
    fib, as_json, asked = int(call.environment.get("FAKEBSD_FIB", "0")), False, False
    words = iter(call.args)
    for word in words:
        if word == "-j":
            name = next(words)
            set_jail(host, call, name, f'netstat: jail "{name}" not found')
        elif word == "-F":
            fib = fib_number(host, next(words))
        elif word == "-f":
            families = ["inet6" if next(words) == "inet6" else "inet"]
        elif word in ("--libxo", "--libxo=json"):
            as_json = "=" in word or next(words) == "json"
        elif word.startswith("-") and set(word[1:]) == set("rnW"):
            asked = True
        else:
            raise call.not_imitated()
    if not asked:
        raise call.not_imitated()
    stack = stack_of(host, call.jail)
    tables = [(family, sorted_routes(stack, family, fib)) for family in families]
    (say_json if as_json else say_text)(call, stack, fib, tables)
    return 0


def fib_number(host: Host, text: str) -> int:
    if not (text.isdigit() and int(text) < host["fibs"]):
        raise Exit(64, f"netstat: {text}: invalid fib")
    return int(text)


def sorted_routes(stack: Stack, family: Family, fib: int) -> list[Route]:
    every = [*connected_routes(stack, fib), *stack["routes"]]
    mine = [route for route in every if (route["fib"], route["family"]) == (fib, family)]
    return sorted(mine, key=lambda route: (packed(family, route["destination"]), route["length"]))


def cells(stack: Stack, route: Route) -> tuple[str, str]:
    """Destination and gateway as printed; a host route has no length."""
    text = route["destination"]
    if route["length"] < WIDTHS[route["family"]]:
        text += f"/{route['length']}"
    link = find_link(stack, route["link"])
    via = route["gateway"] or f"link#{link['index'] if link else 0}"
    return "default" if route["length"] == 0 else text, via


def next_hops(stack: Stack, routes: list[Route]) -> list[int]:
    """The kernel's slot numbers, loopback first; one for all routes that differ in the destination only."""
    keys = [
        (
            route["link"],
            route["gateway"],
            route["flags"],
            route_mtu(stack, route),
            route["source"] if route["link"] != "lo0" or "H" in route["flags"] else "",
        )
        for route in routes
    ]
    order = sorted(set(keys), key=lambda key: (key[0] != "lo0", key))
    return [order.index(key) + 1 for key in keys]


def say_text(call: Call, stack: Stack, fib: int, tables: list[tuple[Family, list[Route]]]) -> None:
    call.say("Routing tables" + (f" (fib: {fib})" if fib else ""))
    for family, routes in tables:
        call.say("")
        call.say("Internet6:" if family == "inet6" else "Internet:")
        left, right = WIDE[family]
        title = f"{'Destination':{left}} {'Gateway':{right}} {'Flags':6} {'Nhop#':>6} {'Mtu':>6}"
        call.say(f"{title} {'Netif':>16} Expire")
        for route, hop in zip(routes, next_hops(stack, routes), strict=True):
            to, via = cells(stack, route)
            row = f"{to:{left}} {via:{right}} {route['flags']:6} {hop:6} {route_mtu(stack, route):6}"
            call.say(f"{row} {route['link']:>16}")


def say_json(call: Call, stack: Stack, fib: int, tables: list[tuple[Family, list[Route]]]) -> None:
    shown = []
    for family, routes in tables:
        rows = [row(stack, route, hop) for route, hop in zip(routes, next_hops(stack, routes), strict=True)]
        name = "Internet6" if family == "inet6" else "Internet"
        shown.append(f'{{"address-family":"{name}", "rt-entry": [{", ".join(rows)}]}}')
    number = f'"fib":{fib}, ' if fib else ""
    table = f'{number}"route-table": {{"rt-family": [{", ".join(shown)}]}}'
    call.say(f'{{"statistics": {{"route-information": {{{table}}}}}}}')


def row(stack: Stack, route: Route, hop: int) -> str:
    to, via = cells(stack, route)
    words = ",".join(json.dumps(FLAG_WORDS[flag]) for flag in route["flags"])
    return (
        f'{{"destination":"{to}","gateway":"{via}","flags":"{route["flags"]}", "flags_pretty": [{words}],'
        f'"weight":1,"nhop-kidx":{hop},"nhop":{hop},"mtu":{route_mtu(stack, route)},'
        f'"interface-name":"{route["link"]}"}}'
    )
