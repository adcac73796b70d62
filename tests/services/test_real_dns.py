"""The module ``dns`` on the real name servers: what it writes is served, and what they swallow is noticed."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dns.zone
import msgspec
import pytest
from ports import free_port
from real_service import Running, need, open_folder, program, running
from service_rig import NOW, a_view
from until import wait_until

from meshd.services.config import ModuleConfig, read_modules
from meshd.services.dns_query import ask
from meshd.services.journal import Journal
from meshd.services.modules.dns import Dns, DnsConfig
from meshd.services.plan import File, ServicePlan
from meshd.services.schedule import Outcome
from meshd.services.transaction import Report, Transaction
from meshd.services.view import PathView, ServiceView

pytestmark = [pytest.mark.slow, pytest.mark.real]


@pytest.fixture
def folder() -> Iterator[Path]:
    with open_folder() as made:
        yield made


class Site:
    """One name server of one host, and the module that feeds it."""

    def __init__(self, folder: Path, server: str, **own: Any) -> None:
        self.folder, self.port = folder, free_port()
        self.zones = folder / "zones"
        self.zones.mkdir()
        self.file = folder / "mesh.conf"
        place = (
            {"file": str(self.file)} if server in ("unbound", "dnsmasq") else {"directory": str(self.zones)}
        )
        self.table: dict[str, Any] = {
            "server": server,
            "ask": f"127.0.0.1:{self.port}",
            "reverse": ["77.10.in-addr.arpa"],
            **place,
            **own,
        }

    def config(self) -> ModuleConfig:
        return read_modules({"dns": self.table}, "test")["dns"]

    def plan(self, view: ServiceView) -> ServicePlan:
        return Dns().render(view, msgspec.convert(dict(self.config().own), DnsConfig))

    def apply(self, view: ServiceView, plan: ServicePlan | None = None) -> Report:
        transaction = Transaction(config=self.config(), journal=Journal(self.folder / "state"))
        return transaction.apply(plan or self.plan(view), view, f"input {view.generation}", now=NOW)

    def ask(self, name: str, kind: str = "A") -> list[str]:
        try:
            return ask(("127.0.0.1", self.port), name, kind, 2.0)
        except (OSError, ValueError) as error:
            return [str(error)]

    def stage_files(self, view: ServiceView) -> None:
        """What is there before a server is started for the first time."""
        self.table["reload_command"] = ["/bin/true"]
        plan = msgspec.structs.replace(self.plan(view), verify=())
        report = self.apply(view, plan)
        assert report.outcome is Outcome.APPLIED, report
        del self.table["reload_command"]


def bigger(generation: int) -> ServiceView:
    return a_view(generation, "a", "b", "c", "d")


def serve_and_change(site: Site) -> None:
    """A host that is added is answered for, with a new serial; the same again is not even reloaded."""
    assert "10.77.0.1" in site.ask("a.mesh.")
    assert site.apply(a_view(1)).outcome is Outcome.UNCHANGED
    report = site.apply(bigger(9))
    assert report.outcome is Outcome.APPLIED, report
    assert site.ask("d.mesh.") == ["10.77.0.4"]
    assert set(site.ask("app.svc.mesh.")) == {"10.77.0.1", "10.77.0.2", "10.77.0.3", "10.77.0.4"}


Start = Callable[[Path], tuple[Site, list[str]]]
ZONES = ("mesh.", "77.10.in-addr.arpa.")


def nsd(folder: Path) -> tuple[Site, list[str]]:
    need("nsd", "nsd-control", "nsd-checkzone")
    site, main = Site(folder, "nsd"), folder / "nsd.conf"
    main.write_text(
        f"""server:
    ip-address: 127.0.0.1@{site.port}
    username: ""
    chroot: ""
    zonesdir: "{site.zones}"
    pidfile: "{folder}/nsd.pid"
    database: ""
    xfrdfile: "{folder}/xfrd.state"
    zonelistfile: "{folder}/zone.list"
    server-count: 1
remote-control:
    control-enable: yes
    control-interface: {folder / "nsd.sock"}
"""
        + "".join(f'zone:\n    name: "{zone}"\n    zonefile: "{zone}zone"\n' for zone in ZONES)
    )
    site.table["control"] = ["nsd-control", "-c", str(main)]
    return site, ["nsd", "-d", "-c", str(main)]


def knot(folder: Path) -> tuple[Site, list[str]]:
    need("knotd", "knotc", "kzonecheck")
    site, main, rundir = Site(folder, "knot"), folder / "knot.conf", folder / "run"
    rundir.mkdir()
    main.write_text(
        f"""server:
    rundir: "{rundir}"
    listen: 127.0.0.1@{site.port}
database:
    storage: "{folder}/db"
template:
  - id: default
    storage: "{site.zones}"
    zonefile-sync: -1
    zonefile-load: whole
    journal-content: none
zone:
"""
        + "".join(f'  - domain: "{zone}"\n    file: "{zone}zone"\n' for zone in ZONES)
    )
    site.table["control"] = ["knotc", "-c", str(main)]
    return site, ["knotd", "-c", str(main)]


def bind(folder: Path) -> tuple[Site, list[str]]:
    need("named", "rndc", "named-checkzone", "named-checkconf")
    site, main, key, control = Site(folder, "bind"), folder / "named.conf", folder / "rndc.key", free_port()
    subprocess.run(
        [program("rndc-confgen"), "-a", "-c", str(key)], check=True, capture_output=True, timeout=60
    )
    main.write_text(
        f"""include "{key}";
options {{ directory "{folder}"; listen-on port {site.port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }};
  recursion no; pid-file "{folder}/named.pid"; session-keyfile "{folder}/session.key";
  include "{site.zones}/mesh.sortlist";
  dnssec-validation no; }};
controls {{ inet 127.0.0.1 port {control} allow {{ 127.0.0.1; }} keys {{ "rndc-key"; }}; }};
"""
        + "".join(f'zone "{zone}" {{ type primary; file "{site.zones}/{zone}zone"; }};\n' for zone in ZONES)
    )
    site.table["control"] = ["rndc", "-p", str(control), "-k", str(key)]
    return site, ["named", "-g", "-c", str(main)]


def unbound(folder: Path) -> tuple[Site, list[str]]:
    need("unbound", "unbound-control", "unbound-checkconf")
    site, main = Site(folder, "unbound"), folder / "unbound.conf"
    main.write_text(
        f"""server:
    interface: 127.0.0.1@{site.port}
    do-daemonize: no
    username: ""
    chroot: ""
    directory: "{folder}"
    pidfile: "{folder}/unbound.pid"
    use-syslog: no
    rrset-roundrobin: no
    do-not-query-localhost: no
    module-config: "iterator"
remote-control:
    control-enable: yes
    control-interface: {folder / "control.sock"}
    control-use-cert: no
include: "{site.file}"
"""
    )
    site.table["control"] = ["unbound-control", "-c", str(main)]
    return site, ["unbound", "-d", "-c", str(main)]


def dnsmasq(folder: Path) -> tuple[Site, list[str]]:
    need("dnsmasq")
    site = Site(folder, "dnsmasq")
    argv = [
        "dnsmasq",
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--no-resolv",
        "--no-hosts",
        "--no-round-robin",
        "--user=root",
        f"--port={site.port}",
        "--listen-address=127.0.0.1",
        "--bind-interfaces",
        f"--addn-hosts={site.file}",
        f"--pid-file={folder}/pid",
    ]
    return site, argv


@contextlib.contextmanager
def serving(folder: Path, start: Start, view: ServiceView) -> Iterator[tuple[Site, Running]]:
    """That server, once it answers from what the module wrote of this view."""
    site, argv = start(folder)
    site.stage_files(view)
    with running(argv, folder / "log") as server:
        wait_until(server.said(), lambda: site.ask("a.mesh.") == ["10.77.0.1"])
        if start is dnsmasq:
            site.table["reload_command"] = ["/bin/kill", "-HUP", str(server.process.pid)]
        yield site, server


def test_nsd_serves_what_the_module_writes(folder: Path) -> None:
    with serving(folder, nsd, a_view(1)) as (site, _):
        serve_and_change(site)
        assert site.ask("mesh.", "SOA") == ["serial 9"]
        assert site.ask("2.0.77.10.in-addr.arpa.", "PTR") == ["b.mesh."]
        assert "0 0 8080 a.mesh." in site.ask("_app._tcp.svc.mesh.", "SRV")


def from_far(generation: int, *, to_b: int) -> ServiceView:
    """As ``a`` sees it: the service is on four other hosts, d is near and c is far."""
    view = a_view(generation, "a", "b", "c", "d", "e")
    app = view.services["app"]
    app = msgspec.structs.replace(app, placements=app.placements[1:])
    buckets = {"b": to_b, "c": 4, "d": 1, "e": 3}
    paths = {name: PathView(bucket=bucket) for name, bucket in buckets.items()}
    return msgspec.structs.replace(view, services={"app": app}, paths=paths)


@pytest.mark.parametrize("start", [nsd, bind, unbound, dnsmasq])
def test_addresses_come_in_the_order_of_this_hosts_distances(folder: Path, start: Start) -> None:
    """Asked often: most servers shuffle or sort addresses unless they are told not to."""
    with serving(folder, start, from_far(1, to_b=2)) as (site, _):
        found = {tuple(site.ask("app.svc.mesh.")) for _ in range(8)}
        assert found == {("10.77.0.4", "10.77.0.2", "10.77.0.5", "10.77.0.3")}
        report = site.apply(from_far(2, to_b=5))
        assert report.outcome is Outcome.APPLIED, report
        found = {tuple(site.ask("app.svc.mesh.")) for _ in range(8)}
        assert found == {("10.77.0.4", "10.77.0.5", "10.77.0.3", "10.77.0.2")}


def test_knot_sorts_addresses_its_own_way_and_srv_has_the_distance(folder: Path) -> None:
    with serving(folder, knot, from_far(1, to_b=2)) as (site, _):
        assert site.ask("app.svc.mesh.") == [f"10.77.0.{number}" for number in (2, 3, 4, 5)], "the trap"
        near_first = sorted(site.ask("_app._tcp.svc.mesh.", "SRV"), key=lambda text: int(text.split()[0]))
        assert [text.split()[-1] for text in near_first] == ["d.mesh.", "b.mesh.", "e.mesh.", "c.mesh."]


def test_a_sortlist_that_bind_would_not_read_is_never_in_place(folder: Path) -> None:
    """BIND would go on with all that it had, the zones' new records with it."""
    with serving(folder, bind, a_view(1)) as (site, _):
        plan = site.plan(bigger(9))
        files = tuple(
            File(path=file.path, text="sortlist { nonsense; };\n") if file.path.endswith("sortlist") else file
            for file in plan.files
        )
        report = site.apply(bigger(9), msgspec.structs.replace(plan, files=files))
        assert report.outcome is Outcome.REFUSED and site.ask("d.mesh.") == ["NXDOMAIN"], report


@pytest.mark.parametrize("start", [nsd, knot, bind])
def test_a_broken_zone_is_refused_and_what_a_server_swallows_is_undone(folder: Path, start: Start) -> None:
    """The second time its checker is left out: NSD says "ok", exit status 0, and that is not believed."""
    with serving(folder, start, a_view(1)) as (site, server):
        plan = site.plan(bigger(9))
        broken = tuple(
            File(path=file.path, text=file.text + "x.mesh. A 10.77.0.999\n", comment=";")
            if file.path.endswith("/mesh.zone")
            else file
            for file in plan.files
        )
        refused = site.apply(bigger(9), msgspec.structs.replace(plan, files=broken))
        assert refused.outcome is Outcome.REFUSED and site.ask("a.mesh.") == ["10.77.0.1"]
        unchecked = msgspec.structs.replace(plan, files=broken, checks=(), verify_seconds=3.0)
        report = site.apply(bigger(9), unchecked)
        assert report.outcome is Outcome.ROLLED_BACK, report
        if start is nsd:
            assert "SOA" in report.reason and ("SERVFAIL" in report.reason or "serial 1" in report.reason)
        wait_until(server.said(), lambda: site.ask("a.mesh.") == ["10.77.0.1"])
        assert site.ask("mesh.", "SOA") == ["serial 1"]


def test_knot_serves_what_the_module_writes(folder: Path) -> None:
    with serving(folder, knot, a_view(1)) as (site, _):
        serve_and_change(site)
        assert site.ask("mesh.", "SOA") == ["serial 9"]


def test_bind_serves_what_the_module_writes(folder: Path) -> None:
    with serving(folder, bind, a_view(1)) as (site, _):
        serve_and_change(site)
        assert site.ask("mesh.", "SOA") == ["serial 9"]


def test_unbound_serves_what_the_module_writes(folder: Path) -> None:
    with serving(folder, unbound, a_view(1)) as (site, _):
        serve_and_change(site)
        assert site.ask("mesh.", "SOA") == ["serial 9"]
        plan = site.plan(bigger(10))
        bad = File(path=str(site.file), text='server:\n    local-data: "x.mesh. A nonsense"\n')
        report = site.apply(bigger(10), msgspec.structs.replace(plan, files=(bad,)))
        assert report.outcome is Outcome.REFUSED and site.ask("d.mesh.") == ["10.77.0.4"], report


def test_dnsmasq_serves_what_the_module_writes(folder: Path) -> None:
    with serving(folder, dnsmasq, a_view(1)) as (site, server):
        serve_and_change(site)
        site.table["reload_command"] = ["/bin/true"]  # says ok and reads nothing
        fewer = site.apply(a_view(10, "a", "b", "c"))
        assert fewer.outcome is Outcome.ROLLED_BACK and site.ask("d.mesh.") == ["10.77.0.4"], fewer
        site.table["reload_command"] = ["/bin/kill", "-HUP", str(server.process.pid)]
        assert site.apply(a_view(11, "a", "b", "c")).outcome is Outcome.APPLIED
        assert site.ask("d.mesh.") == ["REFUSED"]  # it has nobody to ask


def test_every_zone_is_read_by_a_parser_that_is_not_ours(folder: Path) -> None:
    site = Site(folder, "nsd", svcb=True)
    for file in site.plan(bigger(9)).files:
        assert file.path.endswith(".zone")
        origin = Path(file.path).name.removesuffix("zone")
        parsed = dns.zone.from_text(file.text.replace("{generation}", "9"), origin=origin, relativize=False)
        soa = parsed.get_soa()
        assert soa is not None and soa.serial == 9
