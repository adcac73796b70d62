"""The module ``dovecot`` on a real Dovecot: whom it trusts, what it holds back for, and who is believed."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from ports import free_port
from real_service import Running, need, open_folder
from service_rig import NOW, a_view
from until import wait_until

from meshd.errors import ConfigError
from meshd.services.config import read_modules
from meshd.services.journal import Journal
from meshd.services.modules.dovecot import Dovecot, DovecotConfig
from meshd.services.schedule import Outcome
from meshd.services.transaction import Report, Transaction
from meshd.services.view import ServiceView

_MAIN = """base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/log
ssl = no
auth_verbose = yes
protocols = imap
default_login_user = nobody
default_internal_user = nobody
default_internal_group = nogroup
passdb {{
  driver = static
  args = password=right
}}
userdb {{
  driver = static
  args = uid=nobody gid=nogroup home={folder}/home
}}
service imap-login {{
  chroot =
  inet_listener imap {{
    port = 0
  }}
  inet_listener imaps {{
    port = 0
  }}
  inet_listener proxied {{
    address = 127.0.0.1
    port = {port}
    haproxy = yes
  }}
}}
!include_try conf.d/*.conf
"""


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"trusted": ("0.0.0.0/0",)}, "everybody could claim any address"),
        ({"trusted": ("::/0",)}, "everybody could claim any address"),
        ({"proxies": ("10.0.0.0/33",)}, "a service or a network expected"),
        ({"proxies": ("10.0.0.1/8",)}, "has host bits set"),
        ({"trusted": ("app x/1",)}, "a service or a network expected"),
        ({"trusted": tuple(f"s{number}" for number in range(51))}, "at most 50 expected"),
        ({}, "at least one of them expected"),
    ],
)
def test_a_list_that_would_let_others_in_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Dovecot().render(a_view(1), DovecotConfig(file="/etc/dovecot/conf.d/95-mesh.conf", **changes))


def test_a_name_that_nobody_declared_lets_nobody_in_and_is_noticed() -> None:
    plan = Dovecot().render(a_view(1), DovecotConfig(file="/x.conf", trusted=("nobody",)))
    assert plan.files[0].text == "login_trusted_networks = \n"
    assert plan.notes == ("trusted: no service 'nobody' is declared, so nobody is believed for it",)


class Site:
    """A Dovecot that takes the PROXY protocol on loopback; 127.0.0.1 is where ``app`` is, if anywhere."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port, self.generation = folder, free_port(), 0
        for name in ("run", "state", "home", "conf.d"):
            (folder / name).mkdir()
        self.main = folder / "dovecot.conf"
        self.main.write_text(_MAIN.format(folder=folder, port=self.port))
        self.running = Running(["dovecot", "-F", "-c", str(self.main)], folder / "out")

    def view(self, address: str) -> ServiceView:
        self.generation += 1
        view = a_view(self.generation)
        app = view.services["app"]
        places = tuple(msgspec.structs.replace(each, address=address) for each in app.placements[:1])
        return msgspec.structs.replace(
            view, services={"app": msgspec.structs.replace(app, min_endpoints=0, placements=places)}
        )

    def apply(self, address: str) -> Report:
        table = {
            "file": str(self.folder / "conf.d" / "95-mesh.conf"),
            "main": str(self.main),
            "proxies": ["app"],
            "reload_command": ["doveadm", "-c", str(self.main), "reload"],
        }
        config = read_modules({"dovecot": table}, "test")["dovecot"]
        view = self.view(address)
        plan = Dovecot().render(view, msgspec.convert(dict(config.own), DovecotConfig))
        plan = msgspec.structs.replace(plan, verify_seconds=0.0)
        transaction = Transaction(config=config, journal=Journal(self.folder / "journal"))
        return transaction.apply(plan, view, f"input {view.generation}", now=NOW)

    def greets(self, claimed: str) -> bool:
        """Whether somebody on loopback is served who says that the client is ``claimed``."""
        header = f"PROXY TCP4 {claimed} 127.0.0.1 40000 143\r\n".encode()
        try:
            with socket.create_connection(("127.0.0.1", self.port), 20) as connection:
                connection.sendall(header)
                return connection.recv(100).startswith(b"* OK")
        except OSError:
            return False


@pytest.fixture
def site() -> Iterator[Site]:
    need("dovecot", "doveconf", "doveadm")
    with open_folder() as folder:
        made = Site(folder)
        try:
            wait_until("Dovecot runs", (folder / "run" / "master.pid").exists)
            yield made
        finally:
            made.running.end()


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.root
def test_a_place_of_the_service_is_believed_and_another_one_is_not(site: Site) -> None:
    report = site.apply("127.0.0.1")
    assert report.outcome is Outcome.APPLIED, (report, site.running.said())
    wait_until(f"it greets: {site.running.said()}", lambda: site.greets("203.0.113.7"))
    assert site.apply("10.77.0.9").outcome is Outcome.APPLIED, "the service has moved"
    wait_until("it no longer greets", lambda: not site.greets("203.0.113.7"))


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.root
def test_a_later_file_that_says_otherwise_is_noticed_and_ours_undone(site: Site) -> None:
    (site.folder / "conf.d" / "99-own.conf").write_text("haproxy_trusted_networks = 192.0.2.0/24\n")
    report = site.apply("127.0.0.1")
    assert report.outcome is Outcome.ROLLED_BACK, report
    assert "a later file says otherwise" in report.reason
    assert not (site.folder / "conf.d" / "95-mesh.conf").exists()
