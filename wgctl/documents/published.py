"""Every document that ``--json`` prints, of wgctl and of meshd, by its format; and the schema of each.

docs/schemas is written from here (``make schemas``). A document that is not in this table is not printed: a
test asks for each verb that has ``--json``, and the tests of the verbs hold every output against its schema.
"""

from __future__ import annotations

import inspect
from typing import Any, Final

import msgspec

from meshd.host.readiness import Readiness
from meshd.observe.matrix import Matrix
from meshd.observe.path_document import DrainDocument, MeasuredPath, PathDocument
from meshd.observe.protocol import ApplyDocument, PlanDocument, ServiceDocument
from meshd.observe.status import Status
from meshd.observe.trend import HistoryDocument
from wgctl.documents import lab, machine, members, services, signing
from wgctl.views.ping import PingReport
from wgctl.views.status import StatusReport

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
TYPES: Final[tuple[type[msgspec.Struct], ...]] = (
    # this host, from its meshd
    StatusReport,
    Status,
    Matrix,
    HistoryDocument,
    PlanDocument,
    ApplyDocument,
    PathDocument,
    MeasuredPath,
    DrainDocument,
    PingReport,
    ServiceDocument,
    Readiness,
    machine.Examined,
    machine.ProgramVersion,
    # who is in the mesh
    members.HostList,
    members.StatementList,
    members.Explanations,
    members.ExplainedCondition,
    members.HostAdded,
    members.HostRemoved,
    members.ClientAdded,
    members.ClientChecked,
    members.RotationAsked,
    members.Endorsed,
    members.Drafted,
    # keys, roots, registries as files
    signing.MeshFounded,
    signing.RootList,
    signing.RootShown,
    signing.RootSigned,
    signing.RootTrusted,
    signing.Refounded,
    signing.PaperChecked,
    signing.AdminList,
    signing.AdminJoined,
    signing.Exported,
    signing.Imported,
    signing.DraftSigned,
    # services and Garage
    services.ServiceList,
    services.ServiceShown,
    services.WordsSigned,
    services.Advised,
    services.Discovered,
    services.LayoutShown,
    services.LayoutApplied,
    services.GarageSynced,
    # the demo
    lab.DemoShown,
    lab.ServicesDemoShown,
    lab.Swept,
)


def format_of(kind: type[msgspec.Struct]) -> str:
    """As it stands in the document: ``wgctl-list/1``."""
    return str(kind.__struct_config__.tag)


DOCUMENTS: Final = {format_of(kind): kind for kind in TYPES}


def schema_of(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """What the document looks like. Every member is required, as msgspec leaves none out when it writes."""
    found = msgspec.json.schema(kind)
    for definition in found["$defs"].values():
        if "description" in definition:
            definition["description"] = inspect.cleandoc(definition["description"]).replace("``", "`")
        if "properties" in definition:
            definition["required"] = list(definition["properties"])
    return {"$schema": DIALECT, "title": format_of(kind), **found}
