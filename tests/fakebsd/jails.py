"""jls(8), jail(8) -c and -r, jexec(8)."""

from __future__ import annotations

import json

from .addresses import WIDTHS, family_of
from .call import Call, Exit, find_jail, find_link, full_name, stack_of
from .links import add_address, move, new_stack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .shapes import Address, Host, Jail, Stack


def run(host: Host, call: Call) -> int:
    return {"jls": jls, "jail": jail, "jexec": jexec}[call.tool](host, call)


def jls(host: Host, call: Call) -> int:
    words = list(call.args)
    as_json = words[:1] == ["--libxo=json"] or words[:2] == ["--libxo", "json"]
    if as_json:
        words = words[1:] if "=" in words[0] else words[2:]
    flags = [word for word in words if word.startswith("-")]
    names = [word for word in words if not word.startswith("-")]
    jails = [seen_from(call.jail, one) for one in host["jails"] if is_below(call.jail, one)]
    if as_json and names and not flags:
        say_json(call, [parameters(one, names) for one in jails])
    elif as_json and flags == ["-v"] and not names:
        say_json(call, [verbose(one) for one in jails])
    elif not as_json and names == ["name"] and not flags:
        call.lines += [one["name"] for one in jails]
    elif not as_json and flags == ["-n"] and names:
        call.lines += [pairs(one, names) for one in jails]
    elif not flags and not names:
        (say_brief_json if as_json else say_table)(call, jails)
    else:
        raise call.not_imitated()
    return 0


def is_below(inside: str, one: Jail) -> bool:
    return not inside or one["name"].startswith(f"{inside}.")


def seen_from(inside: str, one: Jail) -> Jail:
    """Inside a jail the names of those within it begin below it (seen)."""
    return {**one, "name": one["name"].removeprefix(f"{inside}.")}


def say_table(call: Call, jails: list[Jail]) -> None:
    call.say("   JID  IP Address      Hostname                      Path")
    for one in jails:
        first = (one["ip4_addresses"] or [""])[0]
        call.say(f"{one['jid']:6}  {first:15.15} {one['hostname']:29.29} {one['path']:.74}")


def say_brief_json(call: Call, jails: list[Jail]) -> None:
    if jails:
        raise call.not_imitated()
    say_json(call, [])


def say_json(call: Call, rows: list[str]) -> None:
    call.say(f'{{"__version": "2", "jail-information": {{"jail": [{", ".join(rows)}]}}}}')


def parameters(one: Jail, names: list[str]) -> str:
    """With named parameters every scalar is a string, the jid too."""
    return joined([(name, value_of(one, name)) for name in names])


def joined(pairs: list[tuple[str, str | int | list[str]]]) -> str:
    """libxo sets a space before a list, none before a scalar."""
    text = ""
    for name, value in pairs:
        comma = "," if text else ""
        if isinstance(value, list):
            shown = ",".join(json.dumps(item) for item in value)
            text += f'{comma} "{name}": [{shown}]'
        else:
            text += f'{comma}"{name}":{json.dumps(value)}'
    return f"{{{text}}}"


def verbose(one: Jail) -> str:
    return joined(
        [
            ("jid", one["jid"]),
            ("hostname", one["hostname"]),
            ("path", one["path"]),
            ("name", one["name"]),
            ("state", "ACTIVE"),
            ("cpusetid", one["cpuset"]),
            ("ipv4_addrs", one["ip4_addresses"]),
            ("ipv6_addrs", one["ip6_addresses"]),
        ]
    )


def value_of(one: Jail, name: str) -> str | list[str]:
    values: dict[str, str | list[str]] = {
        "jid": str(one["jid"]),
        "name": one["name"],
        "vnet": one["vnet"],
        "path": one["path"],
        "host.hostname": one["hostname"],
        "ip4": one["ip4"],
        "ip4.addr": one["ip4_addresses"],
        "ip6.addr": one["ip6_addresses"],
    }
    if name not in values:
        raise Exit(1, f"jls: unknown parameter: {name}")
    return values[name]


def pairs(one: Jail, names: list[str]) -> str:
    return " ".join(f"{name}={plain(value_of(one, name))}" for name in names)


def plain(value: str | list[str]) -> str:
    return value if isinstance(value, str) else ",".join(value)


def jail(host: Host, call: Call) -> int:
    if call.args[:1] == ["-r"] and len(call.args) == 2:
        return remove(host, call, call.args[1])
    if call.args[:1] == ["-c"]:
        return create(host, call)
    raise call.not_imitated()


def create(host: Host, call: Call) -> int:
    settings = dict(word.partition("=")[::2] for word in call.args[1:])
    vnet = "vnet" in settings
    one: Jail = {
        "jid": host["next_jid"],
        "name": full_name(call.jail, settings["name"]),
        "path": settings.get("path", "/"),
        "hostname": settings.get("host.hostname", ""),
        "vnet": "new" if vnet else "inherit",
        "ip4": "inherit" if vnet else settings.get("ip4", "disable"),
        "ip4_addresses": bare(settings.get("ip4.addr", "")),
        "ip6_addresses": bare(settings.get("ip6.addr", "")),
        "cpuset": host["next_jid"] + 2,
        "children_max": int(settings.get("children.max", "0")),
    }
    if any(other["name"] == one["name"] for other in host["jails"]):
        raise Exit(1, f'jail: jail "{settings["name"]}" already exists')
    if any(len(children(host, above)) >= above["children_max"] for above in around(host, call.jail)):
        raise Exit(1, "jail: prison limit exceeded")
    host["next_jid"] += 1
    host["jails"].append(one)
    if vnet:
        new_stack(host, one["name"])
    for part in (settings.get("ip4.addr", "") + "," + settings.get("ip6.addr", "")).split(","):
        assign(stack_of(host, call.jail), part)
    return 0


def around(host: Host, inside: str) -> list[Jail]:
    """The jail of this name and those that it is in."""
    return [one for one in host["jails"] if inside and f"{inside}.".startswith(f"{one['name']}.")]


def children(host: Host, above: Jail) -> list[Jail]:
    return [one for one in host["jails"] if is_below(above["name"], one)]


def assign(stack: Stack, part: str) -> None:
    """`bastille0|10.17.1.10`: the address is put on the host's interface, unless it is there."""
    name, bar, text = part.partition("|")
    link = find_link(stack, name)
    if bar and link is not None and all(one["address"] != text for one in link["addresses"]):
        family = family_of(text)
        address: Address = {"family": family, "address": text, "length": WIDTHS[family], "fib": 0}
        add_address(stack, link, address)


def bare(text: str) -> list[str]:
    """`bastille0|10.17.1.10,...` without the interfaces."""
    return [part.rpartition("|")[2] for part in text.split(",") if part]


def remove(host: Host, call: Call, name: str) -> int:
    """The jails within die with it, a VNET jail's stack too; its ends of pairs go back to the host."""
    one = find_jail(host, call.jail, name)
    if one is None:
        raise Exit(1, f'jail: "{name}" not found')
    for dead in [*children(host, one), one]:
        host["jails"].remove(dead)
        stack = host["stacks"].pop(dead["name"], None)
        if stack is not None:
            for end in [link for link in stack["links"] if link["kind"] == "epair"]:
                move(stack, host["stacks"][""], end)
    return 0


def jexec(host: Host, call: Call) -> int:
    """The command runs once more through its own executable, inside the jail's stack."""
    words = call.args[1:] if call.args[:1] == ["-l"] else call.args
    if words[0].startswith("-"):
        raise call.not_imitated()
    one = find_jail(host, call.jail, words[0])
    if one is None:
        raise Exit(1, f'jexec: jail "{words[0]}" not found')
    call.follow_up = words[1:]
    call.jail = one["name"]
    return 0
