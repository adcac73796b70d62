"""The module ``dns`` on the real name servers: what it writes is served, and what they swallow is noticed."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dns.zone
import msgspec
import pytest
from ports import free_port
from real_service import need, open_folder, program, running
from service_rig import NOW, a_view
from until import wait_until

from meshd.services.config import ModuleConfig, read_modules
from meshd.services.dns_query import ask
from meshd.services.journal import Journal
from meshd.services.modules.dns import Dns, DnsConfig
from meshd.services.plan import File, ServicePlan
from meshd.services.schedule import Outcome
from meshd.services.transaction import Report, Transaction
from meshd.services.view import ServiceView

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


def nsd(folder: Path) -> tuple[Site, Path]:
    need("nsd", "nsd-control", "nsd-checkzone")
    site = Site(folder, "nsd")
    main = folder / "nsd.conf"
    control = folder / "nsd.sock"
    zones = ["mesh.", "77.10.in-addr.arpa."]
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
    control-interface: {control}
"""
        + "".join(f'zone:\n    name: "{zone}"\n    zonefile: "{zone}zone"\n' for zone in zones)
    )
    site.table["control"] = ["nsd-control", "-c", str(main)]
    site.stage_files(a_view(1))
    return site, main


def test_nsd_serves_what_the_module_writes(folder: Path) -> None:
    site, main = nsd(folder)
    with running(["nsd", "-d", "-c", str(main)], folder / "log") as server:
        wait_until(server.said(), lambda: site.ask("a.mesh.") == ["10.77.0.1"])
        serve_and_change(site)
        assert site.ask("mesh.", "SOA") == ["serial 9"]
        assert site.ask("2.0.77.10.in-addr.arpa.", "PTR") == ["b.mesh."]
        assert "0 0 8080 a.mesh." in site.ask("_app._tcp.svc.mesh.", "SRV")


def test_nsd_says_ok_to_a_broken_zone_and_the_old_one_is_in_force_again(folder: Path) -> None:
    """Its checker is left out here: what counts is that "ok", exit status 0, is not believed."""
    site, main = nsd(folder)
    with running(["nsd", "-d", "-c", str(main)], folder / "log") as server:
        wait_until(server.said(), lambda: site.ask("a.mesh.") == ["10.77.0.1"])
        plan = site.plan(bigger(9))
        broken = [
            File(path=file.path, text=file.text + "x.mesh. A 10.77.0.999\n", comment=";")
            if file.path.endswith("/mesh.zone")
            else file
            for file in plan.files
        ]
        refused = site.apply(bigger(9), msgspec.structs.replace(plan, files=tuple(broken)))
        assert refused.outcome is Outcome.REFUSED and site.ask("a.mesh.") == ["10.77.0.1"]
        unchecked = msgspec.structs.replace(plan, files=tuple(broken), checks=(), verify_seconds=3.0)
        report = site.apply(bigger(9), unchecked)
        assert report.outcome is Outcome.ROLLED_BACK, report
        assert "SOA" in report.reason and ("SERVFAIL" in report.reason or "serial 1" in report.reason)
        wait_until(server.said(), lambda: site.ask("a.mesh.") == ["10.77.0.1"])


def test_knot_serves_what_the_module_writes(folder: Path) -> None:
    need("knotd", "knotc", "kzonecheck")
    site = Site(folder, "knot")
    main, rundir = folder / "knot.conf", folder / "run"
    rundir.mkdir()
    zones = ["mesh.", "77.10.in-addr.arpa."]
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
        + "".join(f'  - domain: "{zone}"\n    file: "{zone}zone"\n' for zone in zones)
    )
    site.table["control"] = ["knotc", "-c", str(main)]
    site.stage_files(a_view(1))
    with running(["knotd", "-c", str(main)], folder / "log") as server:
        wait_until(server.said(), lambda: site.ask("a.mesh.") == ["10.77.0.1"])
        serve_and_change(site)
        assert site.ask("mesh.", "SOA") == ["serial 9"]


def test_knot_answers_ok_to_a_broken_zone_and_that_is_noticed(folder: Path) -> None:
    need("knotd", "knotc", "kzonecheck")
    site = Site(folder, "knot")
    plan = site.plan(a_view(1))
    broken = tuple(
        File(path=file.path, text=file.text + "a.mesh. CNAME b.mesh.\nx A 10.999.0.1\n", comment=";")
        for file in plan.files
    )
    report = site.apply(a_view(1), msgspec.structs.replace(plan, files=broken))
    assert report.outcome is Outcome.REFUSED and not list(site.zones.iterdir()), report


def test_bind_serves_what_the_module_writes(folder: Path) -> None:
    need("named", "rndc", "named-checkzone")
    site = Site(folder, "bind")
    main, key = folder / "named.conf", folder / "rndc.key"
    control = free_port()
    subprocess.run(
        [program("rndc-confgen"), "-a", "-c", str(key)], check=True, capture_output=True, timeout=60
    )
    zones = ["mesh.", "77.10.in-addr.arpa."]
    main.write_text(
        f"""include "{key}";
options {{ directory "{folder}"; listen-on port {site.port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }};
  recursion no; pid-file "{folder}/named.pid"; session-keyfile "{folder}/session.key";
  dnssec-validation no; }};
controls {{ inet 127.0.0.1 port {control} allow {{ 127.0.0.1; }} keys {{ "rndc-key"; }}; }};
"""
        + "".join(f'zone "{zone}" {{ type primary; file "{site.zones}/{zone}zone"; }};\n' for zone in zones)
    )
    site.table["control"] = ["rndc", "-p", str(control), "-k", str(key)]
    site.stage_files(a_view(1))
    with running(["named", "-g", "-c", str(main)], folder / "log") as server:
        wait_until(server.said(), lambda: site.ask("a.mesh.") == ["10.77.0.1"])
        serve_and_change(site)
        assert site.ask("mesh.", "SOA") == ["serial 9"]


def test_unbound_serves_what_the_module_writes(folder: Path) -> None:
    need("unbound", "unbound-control", "unbound-checkconf")
    site = Site(folder, "unbound")
    main, control = folder / "unbound.conf", folder / "control.sock"
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
    control-interface: {control}
    control-use-cert: no
include: "{site.file}"
"""
    )
    site.table["control"] = ["unbound-control", "-c", str(main)]
    site.stage_files(a_view(1))
    with running(["unbound", "-d", "-c", str(main)], folder / "log") as server:
        wait_until(server.said(), lambda: site.ask("a.mesh.") == ["10.77.0.1"])
        serve_and_change(site)
        assert site.ask("mesh.", "SOA") == ["serial 9"]
        plan = site.plan(bigger(10))
        bad = File(path=str(site.file), text='server:\n    local-data: "x.mesh. A nonsense"\n')
        report = site.apply(bigger(10), msgspec.structs.replace(plan, files=(bad,)))
        assert report.outcome is Outcome.REFUSED and site.ask("d.mesh.") == ["10.77.0.4"], report


def test_dnsmasq_serves_what_the_module_writes(folder: Path) -> None:
    need("dnsmasq")
    site = Site(folder, "dnsmasq")
    site.stage_files(a_view(1))
    argv = [
        "dnsmasq",
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--no-resolv",
        "--no-hosts",
        "--user=root",
        f"--port={site.port}",
        "--listen-address=127.0.0.1",
        "--bind-interfaces",
        f"--addn-hosts={site.file}",
        f"--pid-file={folder}/pid",
    ]
    with running(argv, folder / "log") as server:
        wait_until(server.said(), lambda: site.ask("a.mesh.") == ["10.77.0.1"])
        site.table["reload_command"] = ["/bin/kill", "-HUP", str(server.process.pid)]
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
        origin = Path(file.path).name.removesuffix("zone")
        parsed = dns.zone.from_text(file.text.replace("{generation}", "9"), origin=origin, relativize=False)
        soa = parsed.get_soa()
        assert soa is not None and soa.serial == 9
