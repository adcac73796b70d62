"""Nextcloud: which proxies it believes, and where its database and cache are, in a fragment of its own.

Nextcloud reads every ``*.config.php`` after config.php, in natural order, and array_merge()s them: a key of a
later file replaces the whole key, an array and all. So the fragment has whole keys alone. There is no reload
and no going back in between: what is wrong in it is an error 500 at once, so PHP itself loads it first.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, ClassVar, Final

import msgspec

from meshd.errors import ConfigError
from meshd.services.module import MODULE_API
from meshd.services.placed import find_service, upstreams
from meshd.services.plan import Command, File, HttpGet, ServicePlan
from meshd.services.view import PlacementView, ServiceView, address_port
from meshd.settings import parse_listen

_END: Final = "MESHD_END_OF_SECRET_5f2e"
"""Ends a nowdoc, in which PHP reads a secret as it stands; a line that begins so would end it before."""
_LOAD: Final = """<?php
error_reporting(E_ALL);
ini_set('display_errors', 'stderr');
ob_start();
include '{staged:FILE}';
$said = ob_get_clean();
if ($said !== '') { fwrite(STDERR, "it prints before any page: " . $said); exit(3); }
if (isset($CONFIG['redis']['password'])) { unset($CONFIG['redis']['password']); }
echo json_encode($CONFIG, JSON_UNESCAPED_SLASHES | JSON_THROW_ON_ERROR);
"""


class NextcloudConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``file``: config/mesh.config.php. ``proxies``: services whose placements are believed what they say of
    a client's address. ``database``, ``cache``: ADDRESS:PORT, as HAProxy's ``bind``; the cache also a service
    of kind redis that has but one place. ``password``: name of the secret for it. ``domains``: all of them.
    ``url``: of this Nextcloud.
    """

    file: str
    proxies: tuple[str, ...] = ()
    database: str = ""
    cache: str = ""
    password: str = ""
    domains: tuple[str, ...] = ()
    url: str = ""
    owner: str = ""
    group: str = ""
    php: str = "php"


class Nextcloud:
    name: ClassVar[str] = "nextcloud"
    api: ClassVar[int] = MODULE_API
    config_model: ClassVar[type[msgspec.Struct]] = NextcloudConfig

    def render(self, view: ServiceView, config: NextcloudConfig) -> ServicePlan:
        if not config.file.endswith(".config.php"):
            raise ConfigError(f"nextcloud.file: {config.file!r} seen, a name ending in .config.php expected")
        document, used = _document(view, config)
        text = _php(document, config.password if "redis" in document else "")
        staged = f"{{staged:{config.file}}}"
        expected = json.dumps(document, ensure_ascii=True, separators=(",", ":"))
        load = Command(
            argv=(config.php, "-n", "{beside}/load.php"),
            beside={"load.php": _LOAD.replace("FILE", config.file)},
            expect=(expected,),
        )
        return ServicePlan(
            # A comment before <?php would be the first line of every page.
            files=(
                File(
                    path=config.file,
                    text=text,
                    mode=0o640,
                    owner=config.owner,
                    group=config.group,
                    comment="",
                ),
            ),
            checks=(Command(argv=(config.php, "-n", "-l", staged), refuse="rror:"), load),
            verify=_probes(config),
            verify_seconds=90.0,
            endpoints=tuple(place.id for place in used),
            services=tuple(dict.fromkeys(place.service for place in used)),
            notes=tuple(_notes(view, config)),
        )


def _document(view: ServiceView, config: NextcloudConfig) -> tuple[dict[str, Any], list[PlacementView]]:
    document: dict[str, Any] = {}
    proxies = [
        place
        for each in upstreams(view, config.proxies)
        for place in (*each.first, *each.rest, *each.draining)
    ]
    if config.proxies:
        # One by one, never a network: whoever is believed may claim any client's address.
        document["trusted_proxies"] = sorted({place.address for place in proxies})
    if config.database:
        document["dbhost"] = address_port(*_address(config.database, "database"))
    used = list(proxies)
    if config.cache:
        address, port, place = _cache(view, config)
        document["redis"] = {"host": address, "port": port}
        used += place
    if config.domains:
        document["trusted_domains"] = list(config.domains)
    return document, used


def _cache(view: ServiceView, config: NextcloudConfig) -> tuple[str, int, list[PlacementView]]:
    """Locks are kept there, so every Nextcloud has to have the same one: no choice by distance."""
    if ":" in config.cache:
        return *_address(config.cache, "cache"), []
    service = find_service(view, config.cache, "redis", "nextcloud.cache")
    places = service.active or service.placements
    if len(places) != 1:
        raise ConfigError(
            f"nextcloud.cache: {service.name} has {len(places)} places, one expected; for several name "
            "ADDRESS:PORT of a load balancer"
        )
    return places[0].address, places[0].port, list(places)


def _address(text: str, key: str) -> tuple[str, int]:
    return parse_listen(text, f"nextcloud.{key}")


def _php(document: dict[str, Any], password: str) -> str:
    lines = ["<?php", "// By meshd: module nextcloud. Changes by hand hold it up.", "$CONFIG = ["]
    for key, value in document.items():
        if key == "redis" and password:
            body = "".join(f"    {_literal(name)} => {_literal(each)},\n" for name, each in value.items())
            secret = f"<<<'{_END}'\n{{secret:{password}}}\n{_END}"
            lines.append(f"  'redis' => [\n{body}    'password' => {secret},\n  ],")
        else:
            lines.append(f"  {_literal(key)} => {_literal(value)},")
    return "\n".join([*lines, "];"]) + "\n"


def _literal(value: Any) -> str:
    """As PHP writes it. In single quotes only ``\\`` and ``'`` mean something."""
    if isinstance(value, int):
        return str(value)
    if isinstance(value, list):
        return "[" + ", ".join(map(_literal, value)) + "]"
    if isinstance(value, dict):
        return "[" + ", ".join(f"{_literal(key)} => {_literal(each)}" for key, each in value.items()) + "]"
    return "'" + str(value).replace("\\", "\\\\").replace("'", "\\'") + "'"


def _probes(config: NextcloudConfig) -> tuple[HttpGet, ...]:
    if not config.url:
        return ()
    return (HttpGet(url=f"{config.url.rstrip('/')}/status.php", expect=('"installed":true',)),)


def _notes(view: ServiceView, config: NextcloudConfig) -> Iterator[str]:
    for name in config.proxies:
        if name not in view.services:
            yield f"proxies: no service {name!r} is declared, so nobody is believed for it"
