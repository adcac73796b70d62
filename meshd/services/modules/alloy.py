"""Grafana Alloy: logs of this host go to the nearest Loki, with this host's name and region.

One component in a file of its own in Alloy's directory; what is collected stays the operator's, and is
forwarded to ``loki.write.mesh.receiver``.
"""

from __future__ import annotations

import json
from typing import ClassVar, Final, Literal

import msgspec

from meshd.errors import ConfigError
from meshd.services.module import MODULE_API
from meshd.services.placed import find_service, upstreams
from meshd.services.plan import Command, File, HttpGet, ServicePlan
from meshd.services.view import PlacementView, ServiceView

KIND: Final = "loki"


class AlloyConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``file``: in Alloy's directory, ending in .alloy. ``logs``: a service of kind loki. ``to``: ``all``
    where each Loki is to have everything: Alloy knows no second choice. ``url``: of this Alloy.
    """

    file: str
    logs: str = "loki"
    to: Literal["nearest", "all"] = "nearest"
    url: str = "http://127.0.0.1:12345"
    alloy: str = "alloy"


class Alloy:
    name: ClassVar[str] = "alloy"
    api: ClassVar[int] = MODULE_API
    config_model: ClassVar[type[msgspec.Struct]] = AlloyConfig

    def render(self, view: ServiceView, config: AlloyConfig) -> ServicePlan:
        directory, _, name = config.file.rpartition("/")
        if not name.endswith(".alloy"):
            raise ConfigError(f"alloy.file: {config.file!r} seen, a name ending in .alloy expected")
        service = find_service(view, config.logs, KIND, "alloy.logs")
        [upstream] = upstreams(view, (service.name,))
        places = (*upstream.first, *upstream.rest)
        used = places if config.to == "all" else places[:1]
        url = config.url.rstrip("/")
        return ServicePlan(
            files=(File(path=config.file, text=_component(view, used), comment="//"),),
            checks=(Command(argv=(config.alloy, "validate", f"{{staged-directory:{directory}}}")),),
            # Its answer comes after the reload and says how that went, so it is asked as a question.
            verify=(
                HttpGet(url=f"{url}/-/reload", expect=("config reloaded",)),
                HttpGet(url=f"{url}/-/ready"),
            ),
            endpoints=tuple(each.id for each in used),
            services=(service.name,),
        )


def _component(view: ServiceView, places: tuple[PlacementView, ...]) -> str:
    ends = [
        f"\tendpoint {{\n\t\turl = {_text(f'http://{each.at}/loki/api/v1/push')}\n\t}}\n" for each in places
    ]
    labels = {"host": view.self_name, "region": view.me.region}
    lines = [f"\t\t{_text(name)} = {_text(value)},\n" for name, value in labels.items() if value]
    return f'loki.write "mesh" {{\n{"".join(ends)}\texternal_labels = {{\n{"".join(lines)}\t}}\n}}\n'


def _text(value: str) -> str:
    """Alloy's strings are those of Go, and of JSON all that is needed."""
    return json.dumps(value)
