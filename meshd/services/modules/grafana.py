"""Grafana: every Prometheus, Loki and Alertmanager of the mesh is a data source, and has its dashboards.

Grafana reads its provisioning files at its start, and when it is asked to over its API. There is no checker:
it is asked afterwards what it has.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

import msgspec

from meshd.services.compose import digest
from meshd.services.module import MODULE_API
from meshd.services.plan import Call, File, HttpCall, HttpGet, Probe, ServicePlan
from meshd.services.view import PlacementView, ServiceEntry, ServiceView

KINDS: Final = ("alertmanager", "loki", "prometheus")
"""Of services; Grafana's own names of the types."""
MAX_UID: Final = 40


class GrafanaConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``sources_file``: below provisioning/datasources; ``dashboards_file``: below provisioning/dashboards,
    for the JSON files in ``dashboards``. ``url``: of this Grafana. ``user``: its administrator;
    ``password``: name of the secret, which without a user is a token.
    """

    sources_file: str
    dashboards_file: str = ""
    dashboards: str = ""
    url: str = ""
    user: str = ""
    password: str = ""


class Grafana:
    name: ClassVar[str] = "grafana"
    api: ClassVar[int] = MODULE_API
    config_model: ClassVar[type[msgspec.Struct]] = GrafanaConfig

    def render(self, view: ServiceView, config: GrafanaConfig) -> ServicePlan:
        places = [(service, each) for service in view.of_kind(*KINDS) for each in view.in_scope(service)]
        sources = [_source(service, each) for service, each in places]
        document = {"apiVersion": 1, "prune": True, "datasources": sources}
        files = [File(path=config.sources_file, text=_yaml(document))]
        if config.dashboards_file:
            files.append(File(path=config.dashboards_file, text=_yaml(_provider(config.dashboards))))
        return ServicePlan(
            files=tuple(files),
            calls=_calls(config),
            reload="none" if config.url else "restart",
            restart_why="without url it reads its provisioning files at its start alone",
            verify=_probes(config, sources),
            verify_seconds=30.0,
            endpoints=tuple(each.id for _, each in places),
            services=tuple(dict.fromkeys(service.name for service, _ in places)),
        )


def source_uid(service: str, place: PlacementView) -> str:
    """The same for as long as the placement is there, as dashboards name it. At most 40 letters."""
    name = f"mesh-{service}-{place.host}" + (f"-{place.jail}" if place.jail else "")
    plain = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in name)
    if plain == name and len(name) <= MAX_UID:
        return name
    return f"{plain[: MAX_UID - 9]}-{digest(name)[:8]}"


def _source(service: ServiceEntry, place: PlacementView) -> dict[str, Any]:
    where = f"{place.host}/{place.jail}" if place.jail else place.host
    source: dict[str, Any] = {
        "name": f"{service.name} on {where}",
        "uid": source_uid(service.name, place),
        "type": service.kind,
        "access": "proxy",
        "orgId": 1,
        "url": f"http://{place.at}",
        "editable": False,
    }
    if service.kind == "alertmanager":
        source["jsonData"] = {"implementation": "prometheus"}
    return source


def _provider(directory: str) -> dict[str, Any]:
    """What is changed in the browser would be lost with the next file, so it cannot be changed there."""
    provider = {
        "name": "mesh",
        "type": "file",
        "orgId": 1,
        "folder": "Mesh",
        "allowUiUpdates": False,
        "options": {"path": directory},
    }
    return {"apiVersion": 1, "providers": [provider]}


def _yaml(document: dict[str, Any]) -> str:
    """JSON is YAML. Grafana puts environment variables in for ``$NAME`` in values; ``$$`` is one ``$``."""
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode().replace("$", "$$") + "\n"


def _calls(config: GrafanaConfig) -> tuple[Call, ...]:
    if not config.url:
        return ()
    kinds = ["datasources", *(["dashboards"] if config.dashboards_file else [])]
    return tuple(
        HttpCall(
            method="POST",
            url=f"{config.url.rstrip('/')}/api/admin/provisioning/{kind}/reload",
            user=config.user,
            secret=config.password,
        )
        for kind in kinds
    )


def _probes(config: GrafanaConfig, sources: list[dict[str, Any]]) -> tuple[Probe, ...]:
    """Grafana has each of them at its address, in its own words."""
    if not config.url:
        return ()
    return tuple(
        HttpGet(
            url=f"{config.url.rstrip('/')}/api/datasources/uid/{source['uid']}",
            expect=(f'"url":"{source["url"]}"',),
            user=config.user,
            secret=config.password,
        )
        for source in sources
    )
