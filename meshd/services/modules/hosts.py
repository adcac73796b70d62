"""Names of the mesh in a marked block of the hosts file. All other lines stay the operator's."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from meshd.services.module import MODULE_API
from meshd.services.names import host_names, service_names, unnamed
from meshd.services.plan import File, ServicePlan
from meshd.services.view import ServiceView


class HostsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``services``: also the names of services, the nearest placement first."""

    file: str = "/etc/hosts"
    services: bool = True


class Hosts:
    name: ClassVar[str] = "hosts"
    api: ClassVar[int] = MODULE_API
    config_model: ClassVar[type[msgspec.Struct]] = HostsConfig

    def render(self, view: ServiceView, config: HostsConfig) -> ServicePlan:
        names = [*host_names(view), *(service_names(view) if config.services else ())]
        lines = [f"{address}\t{each.name}.{view.domain}\n" for each in names for address in each.addresses]
        endpoints = [each.id for service in view.services.values() for each in service.placements]
        return ServicePlan(
            files=(File(path=config.file, text="".join(lines), block=True),),
            endpoints=tuple(endpoints) if config.services else (),
            services=tuple(view.services) if config.services else (),
            notes=unnamed(view),
        )
