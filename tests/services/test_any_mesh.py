"""Modules whose checker needs more than a file: of any mesh they say what that mesh has."""

from __future__ import annotations

import ipaddress
import json
import re
import tomllib
from typing import Any

import msgspec
from drawn_views import service_views
from hypothesis import given
from trials import trials

from meshd.errors import ConfigError
from meshd.services.modules.garage import Garage, GarageConfig
from meshd.services.modules.gitea_runner import GiteaRunner, GiteaRunnerConfig
from meshd.services.modules.postgres import Postgres, PostgresConfig
from meshd.services.view import PlacementView, ServiceEntry, ServiceView

POSTGRES = PostgresConfig(file="/etc/patroni.d/20-mesh.yml", cluster="patroni")
GARAGE = GarageConfig(admin="http://127.0.0.1:3903", cluster="s3", file="/etc/garage.toml")


def own_places(view: ServiceView, name: str) -> list[PlacementView]:
    service = view.services.get(name)
    places = view.in_scope(service) if service is not None else ()
    return [each for each in places if each.host == view.self_name]


def sources(lines: list[str], database: str) -> set[str]:
    """Who may connect to it from elsewhere, as pg_hba.conf says."""
    words = [line.split() for line in lines]
    found = {each[3] for each in words if each[:3] == ["host", database, "all"]}
    return {text for text in found if not ipaddress.ip_network(text).is_loopback}


@trials()
@given(service_views())
def test_patroni_is_told_its_own_address_and_lets_members_and_the_mesh_in_and_nobody_else(
    view: ServiceView,
) -> None:
    own = own_places(view, "patroni")
    try:
        plan = Postgres().render(view, POSTGRES)
    except ConfigError:
        assert len(own) != 1
        return
    document = json.loads(plan.files[0].text)["postgresql"]
    assert document["connect_address"] == own[0].at
    members = view.services["patroni"].placements
    allowed = {str(ipaddress.ip_network(each.address)) for each in members}
    assert sources(document["pg_hba"], "replication") == allowed
    networks = [network for host in view.hosts.values() for network in (*host.addresses, *host.jail_networks)]
    assert sources(document["pg_hba"], "all") == {str(ipaddress.ip_network(each)) for each in networks}
    assert set(plan.endpoints) >= {each.id for each in members}


@trials()
@given(service_views())
def test_garage_is_told_every_other_node_at_its_address_and_itself_at_its_own(view: ServiceView) -> None:
    view = with_nodes(view)
    own = own_places(view, "s3")
    try:
        plan = Garage().render(view, GARAGE)
    except ConfigError:
        assert len(own) != 1
        return
    written = tomllib.loads(plan.files[0].text)
    others = [each for each in view.services["s3"].placements if each != own[0]]
    assert written["rpc_public_addr"] == own[0].at
    assert written["bootstrap_peers"] == [f"{each.tags['node_id']}@{each.at}" for each in others]
    called: list[Any] = [getattr(call, "body", None) for call in plan.calls]
    assert called == ([written["bootstrap_peers"]] if others else [])


def with_nodes(view: ServiceView) -> ServiceView:
    """Every Garage has said its node's id."""
    service = view.services.get("s3")
    if service is None:
        return view
    places = tuple(
        msgspec.structs.replace(each, tags={"node_id": f"{number:064x}"})
        for number, each in enumerate(service.placements, 1)
    )
    return with_service(view, msgspec.structs.replace(service, kind="garage", placements=places))


def with_service(view: ServiceView, service: ServiceEntry) -> ServiceView:
    return msgspec.structs.replace(view, services={**view.services, service.name: service})


@trials()
@given(service_views())
def test_a_runner_has_labels_that_a_workflow_can_name_and_its_settings_are_kept(view: ServiceView) -> None:
    config = GiteaRunnerConfig(
        file="/etc/runner.yaml", system="freebsd", architecture="amd64", settings={"log": {"level": "info"}}
    )
    forge = view.services.get("http")
    if forge is None:
        return
    forge = msgspec.structs.replace(forge, name="gitea", kind="gitea")
    plan = GiteaRunner().render(with_service(view, forge), config)
    document = json.loads(plan.files[0].text)
    assert document["log"] == config.settings["log"]
    labels = document["runner"]["labels"]
    assert "host-h1:host" in labels and len(set(labels)) == len(labels)
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+:host", label) for label in labels), labels
