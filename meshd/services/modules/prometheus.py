"""Targets of Prometheus: hosts, and whatever is placed with a metrics port.

Served by meshd over HTTP (``http_sd_configs``), which needs no file, no reload and no rights; a file for
``file_sd_configs`` where Prometheus must do without meshd.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

import msgspec

from meshd.model.service import parse_check
from meshd.services.module import MODULE_API, Signals
from meshd.services.plan import Command, File, HttpGet, ServicePlan
from meshd.services.view import ServiceView, address_port
from meshd.settings import DEFAULT_METRICS_PORT

PROBE_MODULES: Final = {"tcp": "tcp_connect", "http": "http_2xx"}
"""As in the exporter's own example."""


class PrometheusConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``listen``: where meshd answers ``/sd/prometheus``. ``file``: for file_sd, ending in .json; or none.
    ``kinds``: of services whose placements are targets. ``meshd_port`` 0: hosts' own meshd is no target.
    ``config``: Prometheus's own file, for its check. ``url``: of Prometheus, to see what it took.
    ``blackbox``: ADDRESS:PORT of the exporter that probes from here; ``blackbox_modules``: names of its
    modules.
    """

    listen: str = "127.0.0.1:9893"
    file: str = ""
    kinds: tuple[str, ...] = ("metrics",)
    meshd_port: int = DEFAULT_METRICS_PORT
    config: str = ""
    url: str = ""
    blackbox: str = ""
    blackbox_modules: dict[str, str] = {}


class Prometheus:
    name: ClassVar[str] = "prometheus"
    api: ClassVar[int] = MODULE_API
    config_model: ClassVar[type[msgspec.Struct]] = PrometheusConfig

    def render(self, view: ServiceView, config: PrometheusConfig) -> ServicePlan:
        services = view.of_kind(*config.kinds)
        groups = target_groups(view, config)
        files: tuple[File, ...] = ()
        if config.file:
            text = msgspec.json.format(msgspec.json.encode(groups), indent=1).decode()
            files = (File(path=config.file, text=text, comment=""),)
        own_check = Command(argv=("promtool", "check", "config", config.config), refuse="FAILED|warning:")
        seen = HttpGet(
            url=f"{config.url}/api/v1/targets?state=active",
            expect=tuple(dict.fromkeys(target for group in groups for target in group["targets"])),
        )
        loaded = HttpGet(url=f"{config.url}/metrics", expect=("prometheus_config_last_reload_successful 1",))
        return ServicePlan(
            files=files,
            checks=(*_file_checks(files), *((own_check,) if config.config and config.file else ())),
            verify=(loaded, seen) if config.url else (),
            verify_seconds=90.0,
            endpoints=tuple(each.id for service in services for each in service.placements),
            services=tuple(service.name for service in services),
        )

    def signals(self, view: ServiceView, config: PrometheusConfig) -> Signals:
        """The documents of the discovery port; one for each service beside the one of all."""
        documents = _documents("/sd/prometheus", target_groups(view, config))
        if config.blackbox:
            documents |= _documents("/sd/blackbox", probe_groups(view, config))
        return Signals(documents=documents, listen=config.listen)


def _file_checks(files: tuple[File, ...]) -> tuple[Command, ...]:
    """promtool reads what a configuration names, so it gets one that names a copy of the new file."""
    document = {"scrape_configs": [{"job_name": "check", "file_sd_configs": [{"files": ["new.json"]}]}]}
    return tuple(
        Command(
            argv=("promtool", "check", "config", "{beside}/check.yml"),
            beside={"check.yml": msgspec.json.encode(document).decode(), "new.json": file.text},
            refuse="FAILED|warning:",
        )
        for file in files
    )


def target_groups(view: ServiceView, config: PrometheusConfig) -> list[dict[str, Any]]:
    """One group a target, as its labels are its own. A draining one is still measured."""
    groups = []
    if config.meshd_port:
        groups += [
            _group(
                view, host, address=view.hosts[host].address, port=config.meshd_port, service="meshd", jail=""
            )
            for host in view.hosts
        ]
    for service in view.of_kind(*config.kinds):
        groups += [
            _group(
                view, each.host, address=each.address, port=each.port, service=service.name, jail=each.jail
            )
            for each in view.in_scope(service)
        ]
    return groups


def probe_groups(view: ServiceView, config: PrometheusConfig) -> list[dict[str, Any]]:
    """What the blackbox exporter is to look at from here: every placement of a service with a check.

    Other than the check of its own host, this tells whether it can be reached from this one. All that the
    exporter needs is in the labels, so that a job needs no relabelling.
    """
    groups = []
    for service in view.services.values():
        check = parse_check(service.check)
        if check is None:
            continue
        for each in view.in_scope(service):
            where = address_port(each.address, check.port or each.port)
            group = _group(
                view, each.host, address=each.address, port=each.port, service=service.name, jail=each.jail
            )
            target = f"http://{where}{check.path}" if check.kind == "http" else where
            group["targets"] = [config.blackbox]
            group["labels"] |= {
                "__metrics_path__": "/probe",
                "__param_module": config.blackbox_modules.get(check.kind, PROBE_MODULES[check.kind]),
                "__param_target": target,
                "instance": target,
                "service": service.name,
            }
            groups.append(group)
    return groups


def _documents(path: str, groups: list[dict[str, Any]]) -> dict[str, bytes]:
    documents = {path: msgspec.json.encode(groups)}
    for name in {group["labels"]["__meta_mesh_service"] for group in groups}:
        chosen = [group for group in groups if group["labels"]["__meta_mesh_service"] == name]
        documents[f"{path}?service={name}"] = msgspec.json.encode(chosen)
    return documents


def _group(
    view: ServiceView, host: str, *, address: str, port: int, service: str, jail: str
) -> dict[str, Any]:
    member = view.hosts[host]
    labels = {
        "__meta_mesh_service": service,
        "host": host,
        "region": member.region,
        "role": ",".join(member.roles),
        "jail": jail,
    }
    return {
        "targets": [address_port(address, port)],
        "labels": {name: value for name, value in labels.items() if value},
    }
