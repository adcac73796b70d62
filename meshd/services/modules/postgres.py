"""PostgreSQL under Patroni: where this member and the others are, who may connect, whom to prefer.

Patroni reads a directory of files in the order of their names, and the last one wins. This module has one
file there; whatever is the operator's stays in others. Who leads is Patroni's to say, never meshd's:
priorities only break ties between replicas that have the same.
"""

from __future__ import annotations

from statistics import median_low
from typing import Any, ClassVar, Final

import msgspec

from meshd.errors import ConfigError
from meshd.model.service import parse_check
from meshd.services.module import MODULE_API
from meshd.services.pg_hba import TAKEN, access_lines, access_sources, in_force_question
from meshd.services.placed import find_service, own_placement
from meshd.services.plan import GENERATION, Command, File, HttpGet, Probe, ServicePlan
from meshd.services.view import PlacementView, ServiceEntry, ServiceView, address_port

PRIORITY_TAG: Final = "failover_priority"
HIGHEST_PRIORITY: Final = 100
PRIORITY_STEP: Final = 10
REST_PORT: Final = 8008
SLOW_BUCKET: Final = 2
"""From here on, 10 ms, etcd's own time-outs want to be set by hand."""
ACCESS: Final = (
    "local all all peer",
    "host all all 127.0.0.1/32 scram-sha-256",
    "host all all ::1/128 scram-sha-256",
    # Patroni's own, by which a leader that was away finds out that it has to rewind.
    "host replication all 127.0.0.1/32 scram-sha-256",
    "host replication all ::1/128 scram-sha-256",
    "host replication all {members} scram-sha-256",
    "host all all {mesh} scram-sha-256",
)
TOO_OLD: Final = r"(?:^|\s)(?:[0-2]|3\.[01])\.\d"
_NOT_WRONG: Final = r"Port \d+ is already in use|is not reachable"
"""What Patroni's check says of a Patroni that runs, and of a DCS that is away. 4.1 has the option -i against
the first, 3.0 has not."""
_CHECK_SECONDS: Final = 60.0
"""Patroni is Python and imports much: on a busy host, and at a check's low priority, it takes its time."""
_NOWHERE: Final = '{"etcd3": {"hosts": ["127.0.0.1:1"]}}\n'


class PostgresConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``file``: this module's own in Patroni's directory. ``cluster``, ``dcs``: services, of kind patroni and
    of kind etcd. ``jail_of``: which of several placements on this host. ``access``: lines of pg_hba.conf;
    none: it is left alone. ``primary_region``, ``near``: whom to prefer. ``user``, ``connect``: how psql gets
    in. ``rest``: URL of Patroni's REST API.
    """

    file: str
    cluster: str = "postgres"
    dcs: str = ""
    jail_of: str = ""
    access: tuple[str, ...] = ACCESS
    primary_region: str = ""
    near: str = ""
    user: str = "postgres"
    connect: str = ""
    rest: str = ""
    patroni: str = "patroni"
    psql: str = "psql"


class Postgres:
    name: ClassVar[str] = "postgres"
    api: ClassVar[int] = MODULE_API
    config_model: ClassVar[type[msgspec.Struct]] = PostgresConfig

    def render(self, view: ServiceView, config: PostgresConfig) -> ServicePlan:
        if "password" in config.connect.replace("passfile", ""):
            raise ConfigError("postgres.connect: a password is not for here; passfile=/PATH expected")
        cluster = find_service(view, config.cluster, "patroni", "postgres.cluster")
        dcs = find_service(view, config.dcs, "etcd", "postgres.dcs") if config.dcs else None
        own = own_placement(view, cluster, config.jail_of)
        lines = access_lines(view, config.access, cluster.placements)
        tags = _tags(view, config, own)
        document: dict[str, Any] = {
            "restapi": {"connect_address": address_port(own.address, _rest_port(cluster))},
            "postgresql": {"connect_address": own.at},
            "tags": tags,
        }
        if lines:
            document["postgresql"]["pg_hba"] = lines
        if dcs is not None:
            document["etcd3"] = {"hosts": [each.at for each in view.in_scope(dcs)]}
        used = (*cluster.placements, *(view.in_scope(dcs) if dcs is not None else ()))
        sources = access_sources(view, config.access)
        return ServicePlan(
            files=(File(path=config.file, text=msgspec.json.format(msgspec.json.encode(document)).decode()),),
            checks=_checks(config, has_priority=PRIORITY_TAG in tags),
            reload="reload",
            verify=_probes(config, cluster, own, lines),
            verify_seconds=45.0,
            endpoints=tuple(dict.fromkeys((*(each.id for each in used), *sources))),
            services=tuple(each.name for each in (cluster, dcs) if each is not None),
            notes=_advice(view, dcs),
        )


def priority(view: ServiceView, config: PostgresConfig, own: PlacementView) -> int | None:
    """How much this member is preferred when several replicas have the same; None: nobody wants to know.

    The placement's tag wins. Hosts of the primary region have the highest; others less by their distance to
    the application, so that a failover does not cross an ocean without need.
    """
    tag = own.tags.get(PRIORITY_TAG, "")
    if tag:
        if not (tag.isascii() and tag.isdigit() and len(tag) <= 4):
            raise ConfigError(f"{own.id}: tag {PRIORITY_TAG}={tag[:20]!r} seen, 0 to 9999 expected")
        return int(tag)
    if not config.primary_region and not config.near:
        return None
    if config.primary_region and view.me.region == config.primary_region:
        return HIGHEST_PRIORITY
    return HIGHEST_PRIORITY - PRIORITY_STEP * (1 + _distance(view, config))


def _distance(view: ServiceView, config: PostgresConfig) -> int:
    """The bucket of the application's majority; without one, of the nearest host of the primary region."""
    if config.near:
        application = view.services.get(config.near)
        if application is None or not application.active:
            raise ConfigError(f"postgres.near: service {config.near!r} has no active placement")
        return median_low(view.bucket(each.host) for each in application.active)
    region = [host.name for host in view.hosts.values() if host.region == config.primary_region]
    if not region:
        raise ConfigError(f"postgres.primary_region: no host is in {config.primary_region!r}")
    return min(view.bucket(name) for name in region)


def _tags(view: ServiceView, config: PostgresConfig, own: PlacementView) -> dict[str, Any]:
    """``meshd`` tells which generation Patroni has read, as a zone's serial does. A draining member is never
    promoted; ``nofailover`` says so to every version, and Patroni takes but one of the two."""
    tags: dict[str, Any] = {"meshd": GENERATION}
    if view.me.region:
        tags["region"] = view.me.region
    preferred = priority(view, config, own)
    if own.state == "draining":
        tags["nofailover"] = True
    elif preferred is not None:
        tags[PRIORITY_TAG] = preferred
    return tags


def _checks(config: PostgresConfig, *, has_priority: bool) -> tuple[Command, ...]:
    """Patroni's own, on the whole directory. It connects to every DCS host that it reads of, without a
    time-out; so its copy has a last file with one that refuses at once: no dead host holds a file back."""
    directory = config.file.rpartition("/")[0]
    checks = [
        Command(
            argv=(config.patroni, "--validate-config", f"{{staged-directory:{directory}}}"),
            ignore=_NOT_WRONG,
            beside={"zz-meshd-check.yml": _NOWHERE} if config.dcs else {},
            timeout_seconds=_CHECK_SECONDS,
        )
    ]
    if has_priority:
        why = f"{PRIORITY_TAG} needs Patroni 3.2 or later: set neither primary_region, near nor the tag"
        version = (config.patroni, "--version")
        checks.insert(0, Command(argv=version, refuse=TOO_OLD, why=why, timeout_seconds=_CHECK_SECONDS))
    return tuple(checks)


def _probes(
    config: PostgresConfig, cluster: ServiceEntry, own: PlacementView, lines: list[str]
) -> tuple[Probe, ...]:
    rest = config.rest.rstrip("/") or f"http://{address_port(own.address, _rest_port(cluster))}"
    probes: list[Probe] = [
        HttpGet(url=f"{rest}/patroni", status=(200, 503), expect=(f'"meshd": "{GENERATION}"',)),
        HttpGet(url=f"{rest}/cluster", expect=(f'"host": "{own.address}"',)),
    ]
    if lines:
        login = f"dbname=postgres port={own.port} connect_timeout=5 {config.connect}".strip()
        probes.append(
            Command(
                argv=(config.psql, "-XAtq", "-d", login, "-c", in_force_question(lines)),
                user=config.user,
                expect=(TAKEN,),
            )
        )
    return tuple(probes)


def _rest_port(cluster: ServiceEntry) -> int:
    check = parse_check(cluster.check)
    return check.port if check is not None and check.kind == "http" and check.port else REST_PORT


def _advice(view: ServiceView, dcs: ServiceEntry | None) -> tuple[str, ...]:
    """What only an operator can set. With its defaults, 100 ms and 1 s, etcd takes a slow path for a dead
    leader."""
    if dcs is None:
        return ()
    found = []
    if len(dcs.placements) < 3 or len(dcs.placements) % 2 == 0:
        found.append(f"{dcs.name}: {len(dcs.placements)} members; 3 or 5 outlive the loss of one")
    paths = [view.paths.get(each.host) for each in dcs.placements if each.host != view.self_name]
    times = [path.srtt_seconds for path in paths if path is not None and path.srtt_seconds is not None]
    slow = max((view.bucket(each.host) for each in dcs.placements), default=0)
    if times and slow >= SLOW_BUCKET:
        beat = max(100, round(1500 * max(times)))
        found.append(
            f"{dcs.name}: {1000 * max(times):.0f} ms to the farthest member: --heartbeat-interval {beat} "
            f"--election-timeout {10 * beat} --pre-vote, the same on every member"
        )
        found.append("Patroni: ttl over loop_wait + 2 * retry_timeout expected (patronictl show-config)")
    return tuple(found)
