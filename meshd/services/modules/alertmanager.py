"""Alertmanager: an alert goes to whoever is on call for its region, and one about what drains goes to nobody.

Its file has no includes, so the settings hold it whole, as TOML under ``base``, with secrets by name.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Final

import msgspec

from meshd.errors import ConfigError
from meshd.services.compose import digest
from meshd.services.module import MODULE_API
from meshd.services.plan import Command, File, HttpGet, ServicePlan
from meshd.services.view import ServiceView, address_port

CLUSTER_PORT: Final = 9094
KIND: Final = "alertmanager"
SECRET_KEYS: Final = frozenset(
    (
        *("api_key", "api_secret", "api_url", "auth_password", "auth_secret", "bot_token", "credentials"),
        *("opsgenie_api_key", "password", "routing_key", "service_key", "slack_api_url"),
        *("smtp_auth_password", "smtp_auth_secret", "token", "user_key", "victorops_api_key"),
        *("webhook_url", "wechat_api_secret"),
    )
)
"""What Alertmanager itself never shows. ``api_url`` is Slack's; other services have no secret in theirs."""


class AlertmanagerConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``file``: alertmanager.yml. ``base``: what it holds, in Alertmanager's own words. ``regions``: region
    to receiver. ``url``: of this Alertmanager, to see what it took. ``group``: of the file, for Alertmanager.
    """

    file: str
    base: dict[str, Any]
    regions: dict[str, str] = {}
    url: str = ""
    owner: str = ""
    group: str = ""
    amtool: str = "amtool"


class Alertmanager:
    name: ClassVar[str] = "alertmanager"
    api: ClassVar[int] = MODULE_API
    config_model: ClassVar[type[msgspec.Struct]] = AlertmanagerConfig

    def render(self, view: ServiceView, config: AlertmanagerConfig) -> ServicePlan:
        document, word = _document(view, config)
        text = json.dumps(document, indent=1, sort_keys=True, default=str) + "\n"
        file = File(path=config.file, text=text, mode=0o640, owner=config.owner, group=config.group)
        return ServicePlan(
            files=(file,),
            checks=(
                Command(
                    argv=(config.amtool, "check-config", f"{{staged:{config.file}}}"), refuse="FAILED|warn"
                ),
            ),
            reload="reload",
            verify=_probes(config, word),
            notes=tuple(_notes(view, config)),
        )


def _document(view: ServiceView, config: AlertmanagerConfig) -> tuple[dict[str, Any], str]:
    """-> the file, and the name of its receiver that tells nobody. The name is the digest of all the rest:
    Alertmanager shows the names of what it runs, and of secrets nothing."""
    route, receivers = config.base.get("route"), config.base.get("receivers")
    if not isinstance(route, dict) or not isinstance(receivers, list):
        raise ConfigError("alertmanager.base: a table route and a list receivers expected")
    for path, value in _plain_secrets(config.base, "base"):
        raise ConfigError(f"alertmanager.{path}: {value} seen, '{{secret:NAME}}' expected")
    resting = [
        {"matchers": [_equals("host", each.host), _equals("service", service.name)]}
        for service in view.services.values()
        for each in service.placements
        if each.state == "draining"
    ]
    regions = [
        {"matchers": [_equals("region", region)], "receiver": receiver}
        for region, receiver in sorted(config.regions.items())
    ]
    own = route.get("routes", [])
    word = "meshd-" + digest(json.dumps([config.base, resting, regions], sort_keys=True, default=str))[:16]
    routes = [*({**each, "receiver": word} for each in resting), *own, *regions]
    document = {
        **config.base,
        "route": {**route, "routes": routes},
        "receivers": [*receivers, {"name": word}],
    }
    return document, word


def _plain_secrets(part: Any, path: str) -> Iterator[tuple[str, str]]:
    """Keys that hold a secret in the open, and what sort of value. Never the value."""
    if isinstance(part, Mapping):
        for key, value in part.items():
            hidden = isinstance(value, str) and value.startswith("{secret:") and value.endswith("}")
            if key in SECRET_KEYS and not hidden:
                yield f"{path}.{key}", "a value" if isinstance(value, str) else "another type"
            yield from _plain_secrets(value, f"{path}.{key}")
    elif isinstance(part, list):
        for number, each in enumerate(part):
            yield from _plain_secrets(each, f"{path}[{number}]")


def _equals(label: str, value: str) -> str:
    return f"{label}={json.dumps(value)}"


def _probes(config: AlertmanagerConfig, word: str) -> tuple[HttpGet, ...]:
    if not config.url:
        return ()
    url = config.url.rstrip("/")
    loaded = "alertmanager_config_last_reload_successful 1"
    return (
        HttpGet(url=f"{url}/api/v2/status", expect=(word,)),
        HttpGet(url=f"{url}/metrics", expect=(loaded,)),
    )


def _notes(view: ServiceView, config: AlertmanagerConfig) -> Iterator[str]:
    """What only its command line can hold, and regions in which nobody is."""
    regions = {host.region for host in view.hosts.values()}
    for region in sorted(set(config.regions) - regions):
        yield f"regions.{region}: no host of the mesh is there"
    for service in view.of_kind(KIND):
        own = [each for each in service.placements if each.host == view.self_name]
        others = [each for each in service.placements if each.host != view.self_name]
        if own and others:
            flags = [f"--cluster.advertise-address={address_port(own[0].address, CLUSTER_PORT)}"]
            flags += [f"--cluster.peer={address_port(each.address, CLUSTER_PORT)}" for each in others]
            yield f"its peers are given on its command line: {' '.join(flags)}"
