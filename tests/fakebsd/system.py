"""sysctl(8), kldload(8), kldstat(8), sysrc(8)."""

from __future__ import annotations

from .call import Call, Exit, stack_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .shapes import Host

LOADABLE = ("if_wg", "if_epair", "if_bridge", "pf")
OF_A_STACK = ("net.inet.", "net.inet6.")


def run(host: Host, call: Call) -> int:
    return {"sysctl": sysctl, "kldload": kldload, "kldstat": kldstat, "sysrc": sysrc}[call.tool](host, call)


def sysctl(host: Host, call: Call) -> int:
    bare = "-n" in call.args
    code = 0
    for word in call.args:
        name, assigned, value = word.partition("=")
        if word.startswith("-"):
            if word not in ("-n", "-q"):
                raise call.not_imitated()
        elif name not in known(host, call):
            code = 1
            if "-q" not in call.args:
                call.warn(f"sysctl: unknown oid '{name}'")
        elif assigned:
            code = max(code, assign(host, call, name, value))
        else:
            value = known(host, call)[name]
            call.say(value if bare else f"{name}: {value}")
    return code


def known(host: Host, call: Call) -> dict[str, str]:
    return {**host["sysctls"], **stack_of(host, call.jail)["sysctls"]}


def assign(host: Host, call: Call, name: str, value: str) -> int:
    """A VNET jail has the network's variables for itself."""
    if not call.privileged:
        call.warn(f"sysctl: {name}={value}: Operation not permitted")
        return 1
    own = call.jail and name.startswith(OF_A_STACK)
    call.say(f"{name}: {known(host, call)[name]} -> {value}")
    (stack_of(host, call.jail)["sysctls"] if own else host["sysctls"])[name] = value
    return 0


def kldload(host: Host, call: Call) -> int:
    for name in (word for word in call.args if not word.startswith("-")):
        if name in host["modules"]:
            if "-n" not in call.args:
                raise Exit(1, f"kldload: can't load {name}: module already loaded or in kernel")
        elif name in LOADABLE and name not in host["missing_modules"]:
            if not call.privileged:
                raise Exit(1, f"kldload: can't load {name}: Operation not permitted")
            host["modules"].append(name)
        else:
            raise Exit(1, f"kldload: can't load {name}: No such file or directory")
    return 0


def kldstat(host: Host, call: Call) -> int:
    """The module in if_wg.ko is called if_wg; a module named wg there is not."""
    flags = "".join(word[1:] for word in call.args if word.startswith("-"))
    names = [word for word in call.args if not word.startswith("-")]
    if len(names) != 1 or not ("m" in flags or "n" in flags):
        raise call.not_imitated()
    if names[0].removesuffix(".ko") in host["modules"]:
        if "q" not in flags:
            raise call.not_imitated()
        return 0
    what = "module" if "m" in flags else "file"
    raise Exit(1, "" if "q" in flags else f"kldstat: can't find {what} {names[0]}: No such file or directory")


def sysrc(host: Host, call: Call) -> int:
    """One variable of rc.conf(5) read or set."""
    bare = call.args[:1] == ["-n"]
    words = call.args[1:] if bare else call.args
    if len(words) != 1 or words[0].startswith("-"):
        raise call.not_imitated()
    name, assigned, value = words[0].partition("=")
    before = host["rc_conf"].get(name)
    if assigned:
        host["rc_conf"][name] = value
        call.say(f"{name}: {before or ''} -> {value}")
    elif before is None:
        raise Exit(1, f"sysrc: unknown variable '{name}'")
    else:
        call.say(before if bare else f"{name}: {before}")
    return 0
