"""The module ``postfix`` on the real one: it relays for whoever is in the list, and for nobody else."""

from __future__ import annotations

import contextlib
import re
import shutil
import smtplib
import socket
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from ports import free_port
from real_service import Running, need, open_folder, running
from service_rig import NOW
from six_hosts import six_hosts
from until import wait_until

from meshd.errors import ConfigError
from meshd.services.config import read_modules
from meshd.services.journal import Journal
from meshd.services.modules.postfix import Postfix, PostfixConfig
from meshd.services.plan import ServicePlan
from meshd.services.schedule import Outcome
from meshd.services.transaction import Report, Transaction
from meshd.services.view import ServiceView

MAIN = """compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
maillog_file = /dev/stdout
inet_protocols = ipv4
myhostname = mx.test
mydestination =
smtpd_peername_lookup = no
smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination
smtp_dns_support_level = disabled
smtp_connect_timeout = 2s
mynetworks = cidr:{folder}/etc/mesh_networks
transport_maps = texthash:{folder}/etc/mesh_transport
"""


class Sink:
    """An SMTP server that takes every mail and keeps it."""

    def __init__(self, address: str, port: int) -> None:
        self.mails: list[str] = []
        mails = self.mails

        class Session(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                self.wfile.write(b"220 sink.test\r\n")
                while line := self.rfile.readline().decode().strip().upper():
                    if line == "DATA":
                        self.wfile.write(b"354 go on\r\n")
                        text = b"".join(iter(self.rfile.readline, b".\r\n"))
                        mails.append(text.decode())
                    self.wfile.write(b"221 bye\r\n" if line == "QUIT" else b"250 sink.test\r\n")
                    if line == "QUIT":
                        return

        self.server = socketserver.ThreadingTCPServer((address, port), Session)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class Site:
    """Host x of six_hosts has 127.0.3.x, and so has what is placed on it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.etc, self.port = folder, folder / "etc", free_port()
        self.sink_port = free_port(address="127.0.3.1")
        self.etc.mkdir()
        for name in ("queue", "data"):
            (folder / name).mkdir()
        with contextlib.suppress(LookupError):
            shutil.chown(folder / "data", "postfix")
        self.write_main()
        services = Path("/etc/postfix/master.cf")
        if services.exists():
            text = re.sub(
                r"^smtp +inet +.*$",
                f"127.0.0.1:{self.port} inet n - n - - smtpd",
                services.read_text(),
                flags=re.MULTILINE,
            )
            text = re.sub(r"^(\S+ +unix +\S+ +\S+ +)y", r"\1n", text, flags=re.MULTILINE)
            (self.etc / "master.cf").write_text(text)
        self.table: dict[str, Any] = {
            "networks_file": f"{self.etc}/mesh_networks",
            "transport_file": f"{self.etc}/mesh_transport",
            "config_directory": str(self.etc),
            "relay_for": ["newton", "curie/app"],
            "transport": {"example.org": "mail"},
        }

    def write_main(self, more: str = "") -> None:
        (self.etc / "main.cf").write_text(MAIN.format(folder=self.folder) + more)

    def view(self, generation: int = 7) -> ServiceView:
        view = six_hosts(generation)
        numbers = {name: number for number, name in enumerate(view.hosts, 1)}
        hosts = {
            name: msgspec.structs.replace(host, addresses=(f"127.0.3.{numbers[name]}",))
            for name, host in view.hosts.items()
        }
        app, mail = view.services["app"], view.services["mail"]
        app = msgspec.structs.replace(
            app,
            placements=tuple(
                msgspec.structs.replace(each, address=f"127.0.3.{numbers[each.host] + 100}")
                for each in app.placements
            ),
        )
        places = tuple(
            msgspec.structs.replace(
                mail.placements[0], host=name, address=f"127.0.3.{number}", port=self.sink_port
            )
            for name, number in (("bohr", 202), ("newton", 201))
        )
        mail = msgspec.structs.replace(mail, placements=places)
        return msgspec.structs.replace(view, hosts=hosts, services={"app": app, "mail": mail})

    def plan(self, view: ServiceView) -> ServicePlan:
        config = read_modules({"postfix": self.table}, "test")["postfix"]
        return Postfix().render(view, msgspec.convert(dict(config.own), PostfixConfig))

    def apply(self, view: ServiceView, **changes: Any) -> Report:
        config = read_modules({"postfix": self.table}, "test")["postfix"]
        plan = msgspec.structs.replace(self.plan(view), **changes)
        transaction = Transaction(config=config, journal=Journal(self.folder / "state"))
        return transaction.apply(plan, view, f"input {view.generation}", now=NOW)

    def relays_for(self, client: str) -> bool:
        """Whether a client with this address may send to a domain that is none of Postfix's."""
        with smtplib.SMTP(source_address=(client, 0), timeout=30) as session:
            session.connect("127.0.0.1", self.port)
            session.ehlo("client.test")
            session.mail("a@client.test")
            code, said = session.rcpt("b@elsewhere.test")
            assert code in (250, 454, 554), (code, said)
            return code == 250

    def is_up(self, server: Running) -> bool:
        assert server.alive, server.said()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 5) as channel:
            channel.settimeout(10)
            return channel.recv(100).startswith(b"220")
        return False


@pytest.fixture
def site() -> Iterator[Site]:
    need("postfix", "postconf", "postmap")
    with open_folder() as folder:
        yield Site(folder)


@pytest.mark.root
@pytest.mark.slow
@pytest.mark.real
def test_it_relays_for_the_list_alone_and_mail_goes_to_the_next_place_when_the_nearest_is_dead(
    site: Site,
) -> None:
    report = site.apply(site.view(), verify=(), reload="none")
    assert report.outcome is Outcome.APPLIED, report
    sink = Sink("127.0.3.202", site.sink_port)
    try:
        with running(["postfix", "-c", str(site.etc), "start-fg"], site.folder / "log") as server:
            wait_until(server.said(), lambda: site.is_up(server))
            allowed = {
                number for number in (1, 2, 3, 4, 5, 6, 102, 104) if site.relays_for(f"127.0.3.{number}")
            }
            assert allowed == {4, 102}, "newton, and the jail of app on curie; not the other hosts and jails"
            assert not site.relays_for("127.0.0.1") and not site.relays_for("127.0.3.99")
            with smtplib.SMTP("127.0.0.1", site.port, source_address=("127.0.3.4", 0), timeout=30) as session:
                session.sendmail("a@client.test", ["b@example.org"], "Subject: hello\r\n\r\nmesh\r\n")
            wait_until(server.said(), lambda: "Subject: hello" in "".join(sink.mails))
            site.table["relay_for"] = ["newton", "tesla"]
            report = site.apply(site.view(8))
            assert report.outcome is Outcome.APPLIED, (report, server.said())
            wait_until(server.said(), lambda: site.relays_for("127.0.3.6"))
            assert not site.relays_for("127.0.3.102")
    finally:
        sink.close()


@pytest.mark.real
@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("smtpd_relay_restricitons = reject\n", "unused parameter"),
        ("mynetworks = 127.0.0.0/8\n", "does not use the table"),
        ("mynetworks_style = subnet\nmynetworks =\n", "does not use the table"),
    ],
)
def test_a_main_cf_that_does_not_mean_what_it_says_holds_the_change_back(
    site: Site, more: str, said: str
) -> None:
    """Of a parameter that it does not know Postfix only warns; and a style counts where no list is."""
    site.write_main()
    text = (site.etc / "main.cf").read_text()
    if "mynetworks" in more:
        text = re.sub(r"^mynetworks.*\n", "", text, flags=re.MULTILINE)
    (site.etc / "main.cf").write_text(text + more)
    report = site.apply(site.view())
    assert report.outcome is Outcome.REFUSED and said in report.reason, report
    assert not (site.etc / "mesh_networks").exists()


@pytest.mark.real
@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("127.0.0.0/8 oops\n", "would be relayed for"),
        ("0.0.0.0/0 oops\n", "would be relayed for"),
        ("127.0.3.4/24 oops\n", "non-null host address bits"),
    ],
)
def test_a_table_with_more_than_the_list_is_never_in_place(site: Site, line: str, said: str) -> None:
    """Whatever made it: a defect of the module, too, would be an open relay."""
    plan = site.plan(site.view())
    wider = msgspec.structs.replace(plan.files[0], text=plan.files[0].text + line)
    report = site.apply(site.view(), files=(wider, plan.files[1]))
    assert report.outcome is Outcome.REFUSED and said in report.reason, report
    assert not (site.etc / "mesh_networks").exists()


@pytest.mark.parametrize("name", ["*", "10.17.0.0/16", "", "region=eu", "newton/*", "a b"])
def test_only_names_are_in_the_list_and_no_word_means_everybody(name: str) -> None:
    config = PostfixConfig(networks_file="/etc/postfix/mesh_networks", relay_for=(name,))
    with pytest.raises(ConfigError, match="HOST or HOST/SERVICE expected"):
        Postfix().render(six_hosts(), config)


def test_without_a_list_and_for_names_that_are_not_there_nobody_is_let_in() -> None:
    config = PostfixConfig(networks_file="/etc/postfix/mesh_networks", relay_for=("gauss", "newton/wiki"))
    plan = Postfix().render(six_hosts(), config)
    assert plan.files[0].text == "" and "gauss" in plan.notes[0] and "newton/wiki" in plan.notes[1]


def test_a_domain_cannot_bring_a_line_of_its_own() -> None:
    config = PostfixConfig(networks_file="/etc/n", transport_file="/etc/t", transport={"x.org\n*": "mail"})
    with pytest.raises(ConfigError, match="a domain expected"):
        Postfix().render(six_hosts(), config)
