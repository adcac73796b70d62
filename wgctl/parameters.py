"""Words of the command line that are values: networks, addresses, instants. Wrong ones end with 2."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from meshd.model.keys import PublicKey
from meshd.model.network import IPAddress, IPNetwork, parse_address, parse_network
from wgctl.completing import FILE

if TYPE_CHECKING:
    _Parameter = click.ParamType[Any]
else:
    _Parameter = click.ParamType  # generic in newer clicks only

F = TypeVar("F", bound=Callable[..., Any])

UNIT_SECONDS: Final = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_SPAN: Final = re.compile(r"([1-9][0-9]{0,4})([hdw])")
_AHEAD: Final = re.compile(r"\+([1-9][0-9]{0,4})([mhdw])")


class NetworkParameter(_Parameter):
    name = "CIDR"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> IPNetwork:
        try:
            return parse_network(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class OptionalNetworkParameter(NetworkParameter):
    """As above, or the word ``none``: then None."""

    name = "CIDR|none"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return None if value == "none" else super().convert(value, param, ctx)


class PublicKeyParameter(_Parameter):
    """In base64, as wg(8) writes it."""

    name = "KEY"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> PublicKey:
        try:
            return PublicKey.parse(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class AddressParameter(_Parameter):
    name = "ADDRESS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> IPAddress:
        try:
            return parse_address(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class InstantParameter(_Parameter):
    """``90d``, ``12h``, ``4w`` from now, or ``2031-05-01`` (UTC) -> unix seconds in the future."""

    name = "WHEN"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        now, text = time.time(), str(value)
        if match := _SPAN.fullmatch(text):
            return int(now) + int(match[1]) * UNIT_SECONDS[match[2]]
        at = _parse_instant(text)
        if at is None:
            self.fail(f"{text!r} seen, 90d, 12h, 4w or a date as 2031-05-01 expected", param, ctx)
        if at <= now:
            self.fail(f"{text!r} is over already", param, ctx)
        return at


class ExpiryParameter(InstantParameter):
    """As above, or the word ``never``: 0."""

    name = "WHEN|never"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        return 0 if value == "never" else super().convert(value, param, ctx)


class AnyInstantParameter(_Parameter):
    """``now``, ``+30m``, ``+2h``, ``+4d``, or a date or RFC 3339 instant (UTC where it names no zone)
    -> unix seconds, past ones included."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        now, text = time.time(), str(value)
        if text == "now":
            return int(now)
        if match := _AHEAD.fullmatch(text):
            return int(now) + int(match[1]) * UNIT_SECONDS[match[2]]
        at = _parse_instant(text)
        if at is None or at < 0:
            expected = "now, +2h, +30m or an instant as 2031-05-01T12:00:00Z expected"
            self.fail(f"{text[:80]!r} seen, {expected}", param, ctx)
        return at


def _parse_instant(text: str) -> int | None:
    """Unix seconds of an RFC 3339 text, which may be a date alone; UTC where it names no zone."""
    try:
        at = datetime.fromisoformat(text)
        return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError):
        return None


NETWORK: Final = NetworkParameter()
NETWORK_OR_NONE: Final = OptionalNetworkParameter()
ADDRESS: Final = AddressParameter()
PUBLIC_KEY: Final = PublicKeyParameter()
EXPIRY: Final = ExpiryParameter()
ANY_INSTANT: Final = AnyInstantParameter()


def garage_options(function: F) -> F:
    """``--garage-admin`` and ``--garage-token-file`` as ``garage_admin`` and ``garage_token_file``."""
    urls = click.option(
        "--garage-admin",
        multiple=True,
        metavar="URL",
        help="Garage's admin API, as http://10.99.0.1:3903; again for more of its nodes.",
    )
    token = click.option(
        "--garage-token-file",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="Its token, mode 0600. [default: $GARAGE_ADMIN_TOKEN]",
    )
    return urls(token(function))


def ssh_options(function: F) -> F:
    """``--ssh`` and what goes with it: ``ssh``, ``ssh_words``, ``endpoints``, ``host_config``, ``start``."""
    for option in (
        click.option(
            "--start",
            default="",
            metavar="COMMAND",
            help="With --ssh: what starts meshd there. [default: its service]",
        ),
        click.option(
            "--host-config",
            default="",
            metavar="FILE",
            help="With --ssh: meshd.toml there. [default: its own place]",
        ),
        click.option(
            "--endpoint",
            "endpoints",
            multiple=True,
            metavar="ADDRESS:PORT|none",
            help="With --ssh, for a host without settings: where the others reach it.",
        ),
        click.option(
            "--ssh-option",
            "ssh_words",
            multiple=True,
            metavar="NAME=VALUE",
            help="With --ssh: as ssh's -o; may be given again.",
        ),
        click.option(
            "--ssh", metavar="[USER@]HOST", help="Do all of it there, as root, by this machine's ssh."
        ),
    ):
        function = option(function)
    return function


def draft_option(function: F) -> F:
    """``--draft FILE`` as the parameter ``draft``."""
    option = click.option(
        "--draft",
        type=FILE,
        metavar="FILE",
        help="Sign nothing: add this to FILE, for `wgctl sign` where the key is.",
    )
    return option(function)
