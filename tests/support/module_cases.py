"""Cases of the modules of applications, and all cases together."""

from __future__ import annotations

import ipaddress
import json
import re
import subprocess
import tempfile
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fake_alloy
from drawn_views import KINDS
from fake_alloy import FAKE_ALLOY
from module_case import Endpoints, ModuleCase, in_scope
from network_cases import NETWORK_CASES
from real_service import program

from meshd.services.plan import ServicePlan
from meshd.services.view import ServiceView


def _proxy_table(name: str, services: tuple[str, ...]) -> Callable[[str], dict[str, Any]]:
    return lambda folder: {"file": f"{folder}/{name}", "services": list(services)}


def _read_nginx(plan: ServicePlan) -> Endpoints:
    text = plan.files[0].text
    blocks = re.findall(r"^upstream mesh_(\S+) \{\n(.*?)^\}", text, re.MULTILINE | re.DOTALL)
    return frozenset(
        f"{name} {server}"
        for name, block in blocks
        for server in re.findall(r"^ +server (\S+?)[ ;]", block, re.MULTILINE)
    )


def _read_caddy(plan: ServicePlan) -> Endpoints:
    """As Caddy itself reads it: its own JSON of the fragment with every snippet in use."""
    text = plan.files[0].text
    names = re.findall(r"^\(mesh_(\S+)\)", text, re.MULTILINE)
    sites = [f"http://{name}.test:1 {{\n reverse_proxy {{\n import mesh_{name}\n }}\n}}\n" for name in names]
    argv = [program("caddy"), "adapt", "--adapter", "caddyfile", "--config", "/dev/stdin"]
    given = (text + "\n" + "".join(sites)).encode()
    done = subprocess.run(argv, input=given, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    document = json.loads(done.stdout)
    found = set()
    for server in document["apps"]["http"]["servers"].values():
        for route in server["routes"]:
            host = route.get("match", [{}])[0].get("host", [""])[0]
            dials = re.findall(r'"dial": "([^"]+)"', json.dumps(route))
            found |= {f"{host.removesuffix('.test')} {dial}" for dial in dials}
    return frozenset(found)


def _alertmanager_table(folder: str) -> dict[str, Any]:
    return {
        "file": f"{folder}/alertmanager.yml",
        "regions": {"eu-west": "europe", "us-east": "night"},
        "secrets": {"night": f"file:{folder}/night.secret"},
        "base": {
            "route": {"receiver": "europe", "group_by": ["alertname", "region"]},
            "receivers": [
                {"name": "europe", "webhook_configs": [{"url": "http://10.17.6.5:8080/alerts"}]},
                {"name": "night", "discord_configs": [{"webhook_url": "{secret:night}"}]},
            ],
        },
    }


def _read_alertmanager(plan: ServicePlan) -> Endpoints:
    routes = json.loads(plan.files[0].text)["route"]["routes"]
    muted = [each["matchers"] for each in routes if each["receiver"].startswith("meshd-")]
    return frozenset(" ".join(json.loads(each.partition("=")[2]) for each in matchers) for matchers in muted)


def _draining(view: ServiceView) -> Endpoints:
    return frozenset(
        f"{each.host} {service.name}"
        for service in view.services.values()
        for each in service.placements
        if each.state == "draining"
    )


def _postfix_table(folder: str) -> dict[str, Any]:
    return {
        "networks_file": f"{folder}/mesh_networks",
        "transport_file": f"{folder}/mesh_transport",
        "config_directory": folder,
        "relay_for": ["newton", "curie/app", "fermi", "nobody"],
        "transport": {"example.org": "mail", ".example.net": "mail"},
    }


def _postfix_drawn(folder: str) -> dict[str, Any]:
    return {**_postfix_table(folder), "relay_for": ["h1", "h2/http", "h3", "h9"], "transport": {}}


def _postfix_main(folder: Path) -> None:
    tables = f"mynetworks = 127.0.0.0/8, cidr:{folder}/mesh_networks\n"
    maps = f"transport_maps = texthash:{folder}/mesh_transport\n"
    (folder / "master.cf").touch()
    (folder / "main.cf").write_text(f"compatibility_level = 3.6\nmyhostname = mx.test\n{tables}{maps}")


def _read_postfix(plan: ServicePlan) -> Endpoints:
    lines = plan.files[0].text.splitlines()
    return frozenset(str(ipaddress.ip_network(line.split()[0]).network_address) for line in lines)


def _relayed(view: ServiceView) -> Endpoints:
    names = {"h1", "h3", "newton", "fermi"} & set(view.hosts)
    jails = {("h2", "http"), ("curie", "app")}
    places = [place for service in view.services.values() for place in service.placements]
    return frozenset(
        {address for name in names for address in view.hosts[name].addresses}
        | {each.address for each in places if (each.host, each.service) in jails}
    )


def _dovecot_table(folder: str) -> dict[str, Any]:
    return {
        "file": f"{folder}/95-mesh.conf",
        "main": f"{folder}/dovecot.conf",
        "trusted": ["127.0.0.0/8", "app", "http"],
        "proxies": ["wiki", "smtp", "nobody"],
    }


def _read_dovecot(plan: ServicePlan) -> Endpoints:
    """As Dovecot itself reads it: KEY ADDRESS."""
    with tempfile.TemporaryDirectory() as made:
        file = Path(made) / "dovecot.conf"
        file.write_text(plan.files[0].text)
        argv = [program("doveconf"), "-c", str(file), "login_trusted_networks", "haproxy_trusted_networks"]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and not done.stderr, done
    rows = [line.partition(" = ")[::2] for line in done.stdout.splitlines()]
    networks = [(key, ipaddress.ip_network(each)) for key, value in rows for each in value.split()]
    return frozenset(f"{key} {each.network_address}" for key, each in networks if not each.is_loopback)


def _trusted(view: ServiceView) -> Endpoints:
    lists = {"login_trusted_networks": ("app", "http"), "haproxy_trusted_networks": ("wiki", "smtp")}
    return frozenset(
        f"{key} {each.address}"
        for key, names in lists.items()
        for name in names
        if name in view.services
        for each in view.in_scope(view.services[name])
    )


def _nextcloud_table(folder: str) -> dict[str, Any]:
    return {
        "file": f"{folder}/mesh.config.php",
        "proxies": ["app", "http"],
        "database": "127.0.0.1:5432",
        "cache": "127.0.0.1:6379",
        "password": "cache",
        "domains": ["cloud.example.org", "it's \\ {$here}"],
        "secrets": {"cache": f"file:{folder}/cache.secret"},
    }


def _read_nextcloud(plan: ServicePlan) -> Endpoints:
    """As PHP itself reads it, merged after a config.php as Nextcloud does it."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        (folder / "config.php").write_text(NEXTCLOUD_BASE)
        (folder / "mesh.config.php").write_text(plan.files[0].text)
        (folder / "merge").write_text(NEXTCLOUD_MERGE)
        argv = [program("php"), "-n", str(folder / "merge")]
        done = subprocess.run(argv, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return frozenset(json.loads(done.stdout)["trusted_proxies"])


NEXTCLOUD_BASE = """<?php
$CONFIG = array('dbhost' => 'old', 'trusted_proxies' => array('192.0.2.1'), 'instanceid' => 'kept');
"""
NEXTCLOUD_MERGE = """<?php
$files = array_merge([__DIR__ . '/config.php'], glob(__DIR__ . '/*.config.php'));
$cache = [];
foreach ($files as $file) {
    unset($CONFIG);
    include $file;
    if (headers_sent() || ob_get_length()) { exit(3); }
    $cache = array_merge($cache, $CONFIG);
}
if ($cache['instanceid'] !== 'kept' || $cache['dbhost'] !== '127.0.0.1:5432') { exit(4); }
echo json_encode($cache);
"""


def _believed(view: ServiceView) -> Endpoints:
    services = [view.services[name] for name in ("app", "http") if name in view.services]
    return frozenset(each.address for service in services for each in view.in_scope(service))


def _alloy_table(folder: str) -> dict[str, Any]:
    return {"file": f"{folder}/alloy.d/mesh.alloy", "logs": "logs", "to": "all", "alloy": f"{folder}/alloy"}


def _alloy_drawn(folder: str) -> dict[str, Any]:
    return {**_alloy_table(folder), "logs": "loki"}


def _alloy_directory(folder: Path) -> None:
    (folder / "alloy.d").mkdir(exist_ok=True)
    (folder / "alloy").symlink_to(FAKE_ALLOY)
    (folder / "alloy.d" / "own.alloy").write_text(
        'loki.source.journal "own" {\n\tforward_to = [loki.write.mesh.receiver]\n}\n'
    )


def _read_alloy(plan: ServicePlan) -> Endpoints:
    [component] = fake_alloy.parse(plan.files[0].text)
    urls = [end["url"] for end in component.blocks("endpoint")]
    return frozenset(urllib.parse.urlsplit(url).netloc for url in urls)


def _logging(view: ServiceView) -> Endpoints:
    services = [service for service in view.of_kind("loki") if service.placements]
    return frozenset(
        each.rpartition(" ")[2]
        for service in services
        for each in in_scope(view, draining=False)
        if each.startswith(f"{service.name} ")
    )


def _grafana_table(folder: str) -> dict[str, Any]:
    return {
        "sources_file": f"{folder}/sources.yaml",
        "dashboards_file": f"{folder}/dashboards.yaml",
        "dashboards": "/usr/local/share/meshd/grafana",
        "url": "http://127.0.0.1:3000",
        "user": "admin",
        "password": "admin",
        "secrets": {"admin": f"file:{folder}/admin.secret"},
    }


def _read_grafana(plan: ServicePlan) -> Endpoints:
    sources = json.loads(plan.files[0].text)["datasources"]
    assert len({each["uid"] for each in sources}) == len({each["name"] for each in sources}) == len(sources)
    assert all(len(each["uid"]) <= 40 for each in sources)
    return frozenset(urllib.parse.urlsplit(each["url"]).netloc for each in sources)


def _sources(view: ServiceView) -> Endpoints:
    services = view.of_kind("alertmanager", "loki", "prometheus")
    return frozenset(each.at for service in services for each in view.in_scope(service))


CASES = (
    *NETWORK_CASES,
    ModuleCase(
        name="nginx",
        programs=("nginx",),
        table=_proxy_table("mesh.conf", ("app", "objects", "wiki")),
        drawn=_proxy_table("mesh.conf", KINDS),
        read=_read_nginx,
        meant=in_scope,
    ),
    ModuleCase(
        name="caddy",
        programs=("caddy",),
        table=_proxy_table("mesh.caddy", ("app", "objects", "wiki")),
        drawn=_proxy_table("mesh.caddy", KINDS),
        read=_read_caddy,
        meant=lambda view: in_scope(view, draining=False),
    ),
    ModuleCase(
        name="alertmanager",
        programs=("amtool",),
        table=_alertmanager_table,
        drawn=_alertmanager_table,
        read=_read_alertmanager,
        meant=_draining,
        secrets={"night": "https://discord.com/api/webhooks/1/PLANTED-nightly"},
    ),
    ModuleCase(
        name="postfix",
        programs=("postconf", "postmap"),
        table=_postfix_table,
        drawn=_postfix_drawn,
        read=_read_postfix,
        meant=_relayed,
        prepare=_postfix_main,
    ),
    ModuleCase(
        name="dovecot",
        programs=("doveconf",),
        table=_dovecot_table,
        drawn=_dovecot_table,
        read=_read_dovecot,
        meant=_trusted,
    ),
    ModuleCase(
        name="nextcloud",
        programs=("php",),
        table=_nextcloud_table,
        drawn=_nextcloud_table,
        read=_read_nextcloud,
        meant=_believed,
        secrets={"cache": "a'PLANTED\\\"${x}<?php"},
    ),
    ModuleCase(
        name="alloy",
        programs=(),
        table=_alloy_table,
        drawn=_alloy_drawn,
        read=_read_alloy,
        meant=_logging,
        prepare=_alloy_directory,
    ),
    ModuleCase(
        name="grafana",
        programs=(),
        table=_grafana_table,
        drawn=_grafana_table,
        read=_read_grafana,
        meant=_sources,
        secrets={"admin": "PLANTED-admin"},
    ),
)
