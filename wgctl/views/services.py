"""Services and modules for people, and as rows for programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import msgspec

from meshd.errors import ConfigError, ControlError
from meshd.model.host import Host
from meshd.observe.status import ModuleStatus, ServicesStatus
from meshd.registry.ledger import Ledger
from wgctl.output import BAD, FAINT, FAIR, GOOD, NOTHING, Cell, Column, build_table, render_age, say, show

if TYPE_CHECKING:
    from meshd.observe.protocol import ModuleReport, ModuleRetry, ServiceDocument
    from wgctl.options import Options

STYLES: Final = {"ok": GOOD, "pending": FAIR, "held": FAIR, "failed": BAD, "broken": BAD, "released": FAINT}
SERVICE_COLUMNS: Final = (
    Column(name="SERVICE"),
    Column(name="STATE"),
    Column(name="HEALTH"),
    Column(name="HOST"),
    Column(name="ADDRESS", gives_way=1),
    Column(name="PORT", right=True, gives_way=2),
    Column(name="KIND", gives_way=3),
    Column(name="SCOPE", gives_way=4),
)
MODULE_COLUMNS: Final = (
    Column(name="MODULE"),
    Column(name="STATE"),
    Column(name="GENERATION", right=True, gives_way=2),
    Column(name="ENDPOINTS", right=True, gives_way=1),
    Column(name="TAKEN", right=True),
    Column(name="WHY", text=True),
)
PLACE_STYLES: Final = {"active": GOOD, "draining": FAIR, "retired": FAINT}


class PlacementRow(msgspec.Struct, frozen=True, kw_only=True):
    host: str
    hid: str
    jail: str
    address: str
    state: str
    tags: dict[str, str]
    statement: str


class ServiceRow(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    kind: str
    port: int
    scope: str
    min_endpoints: int
    check: str
    state: str
    statement: str
    placements: tuple[PlacementRow, ...]


def build_rows(ledger: Ledger, now: float) -> list[ServiceRow]:
    """Every service, retired ones too, with the placements whose hosts are members."""
    membership = ledger.membership(now)
    rows = []
    for service in membership.services.values():
        placements = tuple(
            PlacementRow(
                host=membership.hosts[each.hid].name,
                hid=each.hid,
                jail=each.jail,
                address=str(each.address),
                state=each.state,
                tags=dict(each.tags),
                statement=str(each.provenance),
            )
            for each in service.placements
            if each.hid in membership.hosts
        )
        rows.append(
            ServiceRow(
                name=service.name,
                kind=service.kind,
                port=service.port,
                scope=service.scope,
                min_endpoints=service.min_endpoints,
                check=service.check,
                state="retired" if service.retired else "active",
                statement=str(service.provenance),
                placements=placements,
            )
        )
    return rows


def ask_modules(options: Options) -> ServicesStatus | None:
    """How this host's modules are; None where no meshd runs here."""
    from wgctl.client import ControlClient

    try:
        with ControlClient(options.control_socket()) as client:
            return client.status().services
    except (ConfigError, ControlError):
        return None


def own_host(options: Options, now: float) -> tuple[Ledger, Host]:
    """This host as its verified registry has it. ConfigError where this is no host of a mesh."""
    from meshd.host.state import HostState
    from meshd.registry.cache import RegistryCache

    state = HostState(options.read_settings().state_dir)
    cache: RegistryCache = state.open_cache()
    if not cache.exists():
        raise ConfigError(f"{state.directory}: this host has not joined a mesh")
    ledger = cache.load()
    own = ledger.membership(now).hosts.get(state.read_hid())
    if own is None:
        raise ConfigError("this host has no place in the mesh: wgctl list")
    return ledger, own


def _health(status: ServicesStatus | None, now: float) -> Mapping[tuple[str, str, str], Cell]:
    """By hid, service and jail: what each placement's own host found, and how long ago."""
    told = (*status.placements, *status.elsewhere) if status is not None else ()
    return {
        (each.hid, each.service, each.jail): (
            f"{each.health} {render_age(each.checked_at, now)} ago",
            {"pass": GOOD, "fail": BAD}.get(each.health, FAINT),
        )
        for each in told
    }


def show_services(rows: list[ServiceRow], status: ServicesStatus | None, now: float) -> None:
    """``status``: of this host's meshd, which knows how the placements are; None: there is none."""
    health = _health(status, now)
    cells = [line for row in rows for line in _service_lines(row, health)]
    if not cells:
        say("no services; the first one: wgctl service add NAME --kind WORD --port N")
        return
    show(build_table(SERVICE_COLUMNS, cells))


def _service_lines(row: ServiceRow, health: Mapping[tuple[str, str, str], Cell]) -> list[list[Cell]]:
    """A line for each placement; what they share stands in the first."""
    if row.state == "retired":
        state: Cell = ("retired", FAINT)
        return [[(row.name, FAINT), state, NOTHING, NOTHING, NOTHING, str(row.port), row.kind, row.scope]]
    living = [each for each in row.placements if each.state != "retired"]
    if not living:
        nowhere: Cell = ("nowhere", FAIR)
        return [[row.name, nowhere, NOTHING, NOTHING, NOTHING, str(row.port), row.kind, row.scope]]
    shared = [str(row.port), row.kind, row.scope]
    return [
        [
            "" if number else row.name,
            (each.state, PLACE_STYLES[each.state]),
            health.get((each.hid, row.name, each.jail), NOTHING),
            each.host + (f"/{each.jail}" if each.jail else ""),
            each.address,
            *([""] * len(shared) if number else shared),
        ]
        for number, each in enumerate(living)
    ]


def show_modules(status: ServicesStatus, now: float) -> None:
    cells: list[list[Cell]] = [
        [
            module.name,
            (module.state, STYLES.get(module.state, "")),
            str(module.generation or NOTHING),
            str(module.endpoints),
            render_age(module.last_success_at, now),
            module.reason or NOTHING,
        ]
        for module in status.modules
    ]
    if cells:
        show(build_table(MODULE_COLUMNS, cells))
    for each in status.placements:
        name = each.service + (f" in {each.jail}" if each.jail else "")
        style = {"pass": GOOD, "fail": BAD}.get(each.health, FAINT)
        say(f"here: {name}: {each.health}, asked {render_age(each.checked_at, now)} ago", style)


def show_service(row: ServiceRow) -> None:
    say(f"service {row.name}: kind {row.kind}, port {row.port}, scope {row.scope}, {row.state}")
    say(f"  at least {row.min_endpoints} placements, check {row.check or 'none'}; {row.statement}")
    for each in row.placements:
        where = each.host + (f"/{each.jail}" if each.jail else "")
        tags = "".join(f" {name}={value}" for name, value in sorted(each.tags.items()))
        say(f"  {each.state:8} {where} {each.address}{tags}; {each.statement}", PLACE_STYLES[each.state])


def show_module(module: ModuleStatus, now: float) -> None:
    say(f"module {module.name} ({module.kind}): {module.state}", STYLES.get(module.state, ""))
    say(f"  generation {module.generation}, taken {render_age(module.last_success_at, now)} ago")
    say(f"  last run {render_age(module.last_run_at, now)} ago: {module.outcome or 'none'} {module.reason}")
    for path in module.files:
        say(f"  writes {path}")


def show_reports(document: ServiceDocument, *, dry_run: bool) -> None:
    for report in document.reports:
        for diff in report.diffs:
            _show_diff(diff)
        say(_line(report, dry_run=dry_run), _style(report.outcome))


def show_advice(document: ServiceDocument) -> None:
    for report in document.reports:
        for text in report.notes:
            say(f"{report.name}: {text}")
        if not report.notes:
            say(f"{report.name}: {report.reason or 'nothing to advise'}")


def show_retries(document: ServiceDocument) -> None:
    for retry in document.retries:
        say(f"{retry.name}: {_when(retry)}")
    say("what comes of it: wgctl service list" if document.retries else "this host has no modules")


def _when(retry: ModuleRetry) -> str:
    if retry.when == "in_mesh":
        return "tried once this host has a place in the mesh"
    if retry.running_seconds is None:
        return "tried now"
    left = retry.module_limit_seconds - retry.running_seconds
    then = f"; if it hangs, it is ended in {max(left, 1):.0f} s at most" if left > 0 else ""
    return f"tried at the end of the run that began {retry.running_seconds:.0f} s ago{then}"


def _line(report: ModuleReport, *, dry_run: bool) -> str:
    if dry_run and report.outcome in ("applied", "unchanged"):
        what = f"{len(report.diffs)} files would change" if report.diffs else "nothing to do"
        return f"{report.name}: {what}"
    return f"{report.name}: {report.outcome}" + (f": {report.reason}" if report.reason else "")


def _style(outcome: str) -> str:
    return {"applied": GOOD, "unchanged": GOOD, "held": FAIR, "rolled_back": FAIR}.get(outcome, BAD)


def _show_diff(diff: str) -> None:
    for line in diff.splitlines():
        style = GOOD if line.startswith("+") else BAD if line.startswith("-") else ""
        say(line.expandtabs(), style)
