"""The modules ``nginx`` and ``caddy`` on the real ones: who is asked, who instead, what is undone."""

from __future__ import annotations

import http.client
import socket
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest
from ports import free_port
from real_service import Running, need, open_folder, program, running
from service_rig import NOW, a_view
from until import wait_until

from meshd.services.config import ModuleConfig, read_modules
from meshd.services.journal import Journal
from meshd.services.module import load_module, read_config
from meshd.services.plan import ServicePlan
from meshd.services.schedule import Outcome
from meshd.services.transaction import Report, Transaction
from meshd.services.view import ServiceView

pytestmark = [pytest.mark.slow, pytest.mark.real]

NGINX = """worker_processes 1;
daemon off;
pid {folder}/pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    include {folder}/mesh.conf;
    {more}
    server {{
        listen 127.0.0.1:{port};
        location / {{ proxy_pass http://mesh_app; proxy_connect_timeout 2s; }}
    }}
}}
"""
CADDY = """{{
	admin unix/{folder}/admin.sock
	storage file_system {folder}/storage
}}
import {folder}/mesh.conf
{more}
http://127.0.0.1:{port} {{
	bind 127.0.0.1
	reverse_proxy {{
		import mesh_app
	}}
}}
"""
BROKEN = {"nginx": "upstream mesh_app {{ server 10.0.0.1:1; }}", "caddy": "http://x.test {{\n\tnonsense\n}}"}


class Backends:
    """HTTP servers at 127.0.2.x that say which one they are."""

    def __init__(self) -> None:
        self.port = free_port(address="127.0.2.1")
        self._servers: dict[int, ThreadingHTTPServer] = {}

    def start(self, number: int) -> None:
        class Says(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Length", "1")
                self.end_headers()
                self.wfile.write(str(number).encode())

            def log_message(self, format: str, *args: Any) -> None:
                pass

        server = ThreadingHTTPServer((f"127.0.2.{number}", self.port), Says)
        self._servers[number] = server
        threading.Thread(target=server.serve_forever, daemon=True).start()

    def stop(self, number: int) -> None:
        server = self._servers.pop(number)
        server.shutdown()
        server.server_close()

    def close(self) -> None:
        for number in list(self._servers):
            self.stop(number)


class Site:
    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder, self.port = name, folder, free_port()
        self.file, self.main = folder / "mesh.conf", folder / "main.conf"
        self.backends = Backends()
        self.table: dict[str, Any] = {
            "file": str(self.file),
            "services": ["app"],
            "status": f"127.0.0.1:{free_port()}",
            "reload_command": ["/bin/true"],
        }
        self.write_main()

    def write_main(self, more: str = "") -> None:
        text = NGINX if self.name == "nginx" else CADDY
        self.main.write_text(text.format(folder=self.folder, port=self.port, more=more))

    def config(self) -> ModuleConfig:
        return read_modules({self.name: self.table}, "test")[self.name]

    def plan(self, view: ServiceView, **changes: Any) -> ServicePlan:
        module = load_module(self.name)
        plan = module.render(view, read_config(module, self.config().own))
        return msgspec.structs.replace(plan, **changes)

    def apply(self, view: ServiceView, **changes: Any) -> Report:
        transaction = Transaction(config=self.config(), journal=Journal(self.folder / "state"))
        return transaction.apply(self.plan(view, **changes), view, f"input {view.generation}", now=NOW)

    def view(self, generation: int, *names: str, **changes: Any) -> ServiceView:
        """a and c are in this host's region, b is not; x is at 127.0.2.x."""
        view = a_view(generation, *(names or ("a", "b", "c")), **changes)
        app = view.services["app"]
        placements = tuple(
            msgspec.structs.replace(each, address=f"127.0.2.{number}", port=self.backends.port)
            for number, each in enumerate(app.placements, 1)
        )
        return msgspec.structs.replace(
            view, services={"app": msgspec.structs.replace(app, placements=placements)}
        )

    def answer(self) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", "/")
            response = connection.getresponse()
            text = response.read().decode()
            return text if response.status == 200 else ""
        except OSError:
            return ""
        finally:
            connection.close()

    def argv(self) -> list[str]:
        if self.name == "nginx":
            return ["nginx", "-e", "stderr", "-c", str(self.main)]
        return ["caddy", "run", "--adapter", "caddyfile", "--config", str(self.main)]

    def reloads(self, server: Running) -> None:
        if self.name == "nginx":
            self.table["reload_command"] = ["/bin/kill", "-HUP", str(server.process.pid)]
            return
        words = ["reload", "--adapter", "caddyfile", "--config", str(self.main)]
        self.table["reload_command"] = [
            program("caddy"),
            *words,
            "--address",
            f"unix/{self.folder}/admin.sock",
        ]


@pytest.fixture(params=("nginx", "caddy"))
def site(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    need(request.param)
    with open_folder() as folder:
        monkeypatch.setenv("HOME", str(folder))
        made = Site(request.param, folder)
        report = made.apply(made.view(1), verify=())
        assert report.outcome is Outcome.APPLIED, report
        try:
            yield made
        finally:
            made.backends.close()


def test_the_own_region_is_asked_first_another_one_when_it_is_gone_and_a_new_host_after_a_reload(
    site: Site,
) -> None:
    for number in (1, 2, 3, 5):
        site.backends.start(number)
    with running(site.argv(), site.folder / "log") as server:
        wait_until(server.said(), lambda: site.answer() != "")
        assert {site.answer() for _ in range(10)} <= {"1", "3"}, "b is in another region"
        site.backends.stop(1)
        site.backends.stop(3)
        assert site.answer() == "2", server.said()
        site.reloads(server)
        report = site.apply(site.view(2, "a", "b", "c", "d", "e"))
        assert report.outcome is Outcome.APPLIED, (report, server.said())
        wait_until("e, which is near, is asked", lambda: {site.answer() for _ in range(5)} == {"5"})


def test_a_reload_that_never_comes_is_noticed_and_undone(site: Site) -> None:
    with running(site.argv(), site.folder / "log") as server:
        site.reloads(server)
        wait_until(server.said(), lambda: site.apply(site.view(1)).outcome is Outcome.UNCHANGED)
        before = site.file.read_text()
        site.table["reload_command"] = ["/bin/true"]
        report = site.apply(site.view(2, "a", "b", "c", "d"), verify_seconds=0.5)
        assert report.outcome is Outcome.ROLLED_BACK and "/meshd" in report.reason, report
        assert site.file.read_text() == before


def test_what_only_the_whole_configuration_shows_is_undone_and_the_proxy_goes_on(site: Site) -> None:
    """The operator's own part is broken meanwhile: nginx tells its log alone, Caddy whoever reloads it."""
    site.backends.start(1)
    with running(site.argv(), site.folder / "log") as server:
        site.reloads(server)
        wait_until(server.said(), lambda: site.answer() == "1")
        site.write_main(BROKEN[site.name].replace("{{", "{").replace("}}", "}"))
        before = site.file.read_text()
        report = site.apply(site.view(2, "a", "b", "c", "d"), verify_seconds=0.5)
        assert report.outcome in (Outcome.ROLLED_BACK, Outcome.BROKEN), report
        assert site.file.read_text() == before and site.answer() == "1"


def test_what_it_would_not_read_is_never_in_place(site: Site) -> None:
    before = site.file.read_text()
    [file] = site.plan(site.view(2)).files
    bad = file.text.replace("fail_timeout", "fail_tmeout").replace("fail_duration", "fail_duratoin")
    assert bad != file.text
    report = site.apply(site.view(2), files=(msgspec.structs.replace(file, text=bad),))
    assert report.outcome is Outcome.REFUSED and site.file.read_text() == before, report


def test_caddy_checks_of_a_snippet_only_what_is_imported_so_the_check_imports_it() -> None:
    need("caddy")
    with open_folder() as folder:
        site = Site("caddy", folder)
        site.file.write_text(site.plan(site.view(1)).files[0].text.replace("fail_duration", "fail_duratoin"))
        argv = [program("caddy"), "validate", "--adapter", "caddyfile", "--config", str(site.file)]
        assert subprocess.run(argv, capture_output=True, timeout=60).returncode == 0, "the trap is there"


def test_the_word_of_what_runs_is_told_on_its_own_address_alone(site: Site) -> None:
    """Caddy's address of a site is a name to answer to, not where it listens."""
    port = int(site.table["status"].rpartition(":")[2])
    with running(site.argv(), site.folder / "log") as server:
        site.reloads(server)
        wait_until(server.said(), lambda: site.apply(site.view(1)).outcome is Outcome.UNCHANGED)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.2.9", port), 5)
