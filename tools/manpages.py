"""Manual pages from the commands and the settings themselves: meshd(8), wgctl(8), meshd.toml(5).

    .venv/bin/python tools/manpages.py      writes contrib/man anew; a test compares it with the code

Written as mdoc(7), which man(1) reads on FreeBSD and on Linux. Verbs, options and their words come from
click, so that a page says what --help says. Settings come from contrib/meshd.toml.sample, which has them all.
What neither knows (files, environment, exit codes) stands here.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import click

from meshd.daemon.main import main as meshd
from wgctl.main import main as wgctl

ROOT: Final = Path(__file__).resolve().parents[1]
TARGET: Final = ROOT / "contrib" / "man"
SAMPLE: Final = ROOT / "contrib" / "meshd.toml.sample"
DATE: Final = "November 28, 2026"

_OPTION: Final = re.compile(r"--?[a-z][a-z0-9-]*")
_TABLE: Final = re.compile(r"\[([a-z.]+)\]")
_KEY: Final = re.compile(r"#?([a-z_0-9]+) = (.+)")

_WGCTL_TAIL: Final = """
.Sh ENVIRONMENT
.Bl -tag -width Ds
.It Ev WGCTL_HOME
The admin home, where
.Fl -home
names none.
.It Ev WGCTL_PASSPHRASE_FILE
As
.Fl -passphrase-file .
.It Ev AWS_ACCESS_KEY_ID , AWS_SECRET_ACCESS_KEY , AWS_SESSION_TOKEN
For S3 stores, where the admin home has no credentials.
.It Ev HTTPS_PROXY , NO_PROXY
The proxy on the way to S3 stores that are reached by TLS.
.It Ev SSL_CERT_FILE
Certificates of authorities that TLS servers are checked against.
.It Ev GARAGE_ADMIN_TOKEN
The token of Garage's admin API, where
.Fl -garage-token-file
names none.
.It Ev NO_COLOR
Set to anything: no colours.
.El
.Sh FILES
.Bl -tag -width Ds
.It Pa ~/.config/wgctl
The admin home: sealed keys, and everything verified so far.
.It Pa /usr/local/etc/meshd/meshd.toml , /etc/meshd/meshd.toml
The settings of this host's
.Xr meshd 8 ,
on FreeBSD and on Linux.
.El
.Sh EXIT STATUS
.Bl -tag -width Ds
.It 0
Done, or nothing to do.
.It 1
Failed: a store, the registry, the kernel or a check said no.
.It 2
What was typed or configured is wrong; nothing was changed.
.It 3
.Xr meshd 8
does not answer.
.It 4
Held as unsafe: it would take something away.
.It 5
.Cm plan
only: there are changes.
.It 130
Interrupted.
.El
.Sh EXAMPLES
A host that can be logged in to as root joins a mesh that was founded before:
.Pp
.Dl wgctl add-host tesla --ssh root@tesla.example.net --endpoint 192.0.2.10:51820
.Pp
What a condition means and what to do, without asking anybody:
.Pp
.Dl wgctl explain plan_held
.Sh SEE ALSO
.Xr meshd.toml 5 ,
.Xr meshd 8 ,
.Xr wg 8
"""

_MESHD_TAIL: Final = """
.Sh SIGNALS
.Bl -tag -width Ds
.It Dv SIGHUP
Read the settings again.
What is wrong in them is reported, and the old ones stay in force.
.It Dv SIGTERM , SIGINT
End.
The mesh stays up.
.El
.Sh ENVIRONMENT
.Bl -tag -width Ds
.It Ev AWS_ACCESS_KEY_ID , AWS_SECRET_ACCESS_KEY , AWS_SESSION_TOKEN
For S3 stores, where the state directory has no
.Pa s3.json .
.It Ev HTTPS_PROXY , NO_PROXY
The proxy on the way to S3 stores that are reached by TLS.
.It Ev SSL_CERT_FILE
Certificates of authorities that TLS servers are checked against.
.El
.Sh FILES
.Bl -tag -width Ds
.It Pa /usr/local/etc/meshd/meshd.toml , /etc/meshd/meshd.toml
The settings, on FreeBSD and on Linux.
.It Pa /var/db/meshd , /var/lib/meshd
The state directory: this host's keys and the verified registry.
.It Pa /var/run/meshd , /run/meshd
The control socket.
.El
.Sh EXIT STATUS
.Bl -tag -width Ds
.It 0
Done.
.It 1
Failed.
.It 2
The settings, or what was typed, are wrong; nothing was changed.
.It 4
Held as unsafe.
.El
.Sh SEE ALSO
.Xr meshd.toml 5 ,
.Xr wg 8 ,
.Xr wgctl 8
"""

_TOML_TAIL: Final = """
.Sh FILES
.Bl -tag -width Ds
.It Pa /usr/local/etc/meshd/meshd.toml
On FreeBSD.
.It Pa /etc/meshd/meshd.toml
On Linux.
.El
.Sh EXAMPLES
.Bd -literal -offset indent
[host]
endpoints = ["192.0.2.10:51820"]

[jails]
networks = ["10.17.1.0/24"]
.Ed
.Sh SEE ALSO
.Xr meshd 8 ,
.Xr wgctl 8
"""


def render_pages() -> dict[str, str]:
    """By file name. Each ends with a line end."""
    return {
        "meshd.8": _page("meshd", 8, "keep this host in its WireGuard mesh", _command(meshd), _MESHD_TAIL),
        "wgctl.8": _page(
            "wgctl",
            8,
            "run a WireGuard mesh: its signed registry and this host",
            _command(wgctl),
            _WGCTL_TAIL,
        ),
        "meshd.toml.5": _page(
            "meshd.toml", 5, "settings of meshd", _settings(SAMPLE.read_text()), _TOML_TAIL
        ),
    }


def _page(name: str, section: int, what: str, body: Iterable[str], tail: str) -> str:
    head = [f".Dd {DATE}", f".Dt {name.upper()} {section}", ".Os", ".Sh NAME", f".Nm {name}", f".Nd {what}"]
    return "\n".join([*head, *body]) + tail


def _command(command: click.Command) -> Iterator[str]:
    """SYNOPSIS and DESCRIPTION, then each verb with its options."""
    name = command.name if command.name not in (None, "main") else ""
    program = "meshd" if command is meshd else "wgctl"
    context = click.Context(command, info_name=name or program)
    yield from (".Sh SYNOPSIS", f".Nm {program}", ".Op Ar option ...", ".Ar verb", ".Op Ar word ...")
    yield ".Sh DESCRIPTION"
    yield from _prose(command)
    yield ".Pp"
    yield "These options stand before the verb:"
    yield from _options(context)
    yield ".Sh VERBS"
    assert isinstance(command, click.Group)
    for path, verb, inner in _verbs(command, context, ()):
        yield f".Ss {' '.join(path)}{_arguments(verb, inner)}"
        yield from _prose(verb)
        yield from _options(inner)


def _verbs(
    group: click.Group, context: click.Context, path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], click.Command, click.Context]]:
    """Every verb that does something, with the words that lead to it."""
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        assert found is not None
        inner = click.Context(found, info_name=name, parent=context)
        if isinstance(found, click.Group):
            yield from _verbs(found, inner, (*path, name))
        else:
            yield (*path, name), found, inner


def _arguments(command: click.Command, context: click.Context) -> str:
    """As the usage line has them, without the word for options."""
    words = [word for word in command.collect_usage_pieces(context) if word != "[OPTIONS]"]
    return "".join(f" {word}" for word in words)


def _options(context: click.Context) -> Iterator[str]:
    records = [
        record
        for option in context.command.get_params(context)
        if isinstance(option, click.Option)
        and "--help" not in option.opts
        and (record := option.get_help_record(context)) is not None
    ]
    if not records:
        return
    yield ".Bl -tag -width Ds"
    for names, text in records:
        yield f".It {_option_names(names)}"
        yield from _sentences(text)
    yield ".El"


def _option_names(names: str) -> str:
    """``-h, --host HOST`` -> ``Fl h , Fl -host Ar HOST``."""
    words = []
    for word in names.replace(",", " ,").split():
        if _OPTION.fullmatch(word):
            words.append(f"Fl {word[1:]}")
        elif word in (",", "/"):
            words.append(word)
        else:
            words.append(f"Ar {_quoted(word)}")
    return " ".join(words)


def _prose(command: click.Command) -> Iterator[str]:
    """The words of --help. A block behind a backspace stands as it is, as click has it."""
    text = inspect.cleandoc(command.help or command.short_help or "").partition("\f")[0]
    for number, block in enumerate(re.split(r"\n\s*\n", text)):
        lines = block.splitlines()
        if lines and lines[0].strip() == "\b":
            yield from (".Bd -literal -offset indent", *map(_escape, lines[1:]), ".Ed")
            continue
        if number:
            yield ".Pp"
        yield from _sentences(" ".join(lines))


def _sentences(text: str) -> list[str]:
    """A line each, as mdoc(7) wants them."""
    return [_escape(line) for line in re.split(r"(?<=[.;:])\s+(?=[A-Z\[])", " ".join(text.split())) if line]


def _settings(sample: str) -> Iterator[str]:
    """The sample file: comments before a key are its text, comments before a table that table's."""
    comment: list[str] = []
    is_open = False
    yield ".Sh DESCRIPTION"
    for line in sample.splitlines():
        if table := _TABLE.fullmatch(line.removeprefix("#")):
            yield from ((".El",) if is_open else ())
            yield f".Sh TABLE [{table[1]}]"
            yield from _paragraphs(comment)
            is_open, comment = False, []
        elif (key := _KEY.fullmatch(line)) is not None:
            yield from (() if is_open else (".Bl -tag -width Ds",))
            is_open = True
            yield f".It Ic {key[1]} No = {_quoted(key[2])}"
            yield from _paragraphs(comment)
            comment = []
        elif line.startswith("#"):
            comment.append(line.removeprefix("#").strip())
        elif comment and not is_open:
            yield from _paragraphs(comment)
            comment = []
    if is_open:
        yield ".El"


def _paragraphs(lines: list[str]) -> Iterator[str]:
    for number, block in enumerate(filter(None, "\n".join(lines).strip().split("\n\n"))):
        if number:
            yield ".Pp"
        yield from _sentences(block)


def _escape(text: str) -> str:
    """What roff(7) would take for a request, an escape or a macro."""
    text = text.replace("\\", "\\e")
    return f"\\&{text}" if text.startswith((".", "'")) else text


def _quoted(text: str) -> str:
    """In a macro's line, where quotes group words."""
    return _escape(text).replace('"', "\\(dq")


def main() -> None:
    TARGET.mkdir(exist_ok=True)
    for name, page in render_pages().items():
        (TARGET / name).write_text(page)


if __name__ == "__main__":
    main()
