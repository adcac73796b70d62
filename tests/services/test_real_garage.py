"""The module ``garage`` on real Garage nodes: they find each other, and no data is moved."""

from __future__ import annotations

import contextlib
import tomllib
from collections.abc import Iterator

import msgspec
import pytest
from garage_site import GarageSite
from real_service import open_folder
from service_rig import a_view
from until import wait_until

from meshd.errors import ConfigError
from meshd.services.modules.garage import Garage, GarageConfig
from meshd.services.schedule import Outcome

pytestmark = [pytest.mark.slow, pytest.mark.garage]
NOBODY = "ab" * 32
CONFIG = GarageConfig(admin="http://127.0.0.1:3903")


@pytest.fixture
def site() -> Iterator[GarageSite]:
    with open_folder() as folder, contextlib.ExitStack() as stack:
        made = GarageSite(folder, stack)
        made.start("a", "b")
        yield made


def test_nodes_that_never_met_are_connected_although_one_is_gone_and_no_layout_is_made(
    site: GarageSite,
) -> None:
    a, b = site.node_id("a"), site.node_id("b")
    assert set(site.known("a")) == {a}, "nobody has told them"
    for host in ("a", "b"):
        report = site.apply(site.view(host, a=a, b=b, c=NOBODY))
        assert report.outcome is Outcome.APPLIED, report
    wait_until("both see each other", lambda: site.known("a").get(b) and site.known("b").get(a))
    layout = site.ask("a", "GET", "GetClusterLayout")
    assert layout["version"] == 0 and layout["roles"] == [] and layout["stagedRoleChanges"] == []
    written = tomllib.loads(site.file("a").read_text())
    assert written["rpc_public_addr"] == f"127.0.4.1:{site.rpc_port}"
    assert written["bootstrap_peers"] == [
        f"{b}@127.0.4.2:{site.rpc_port}",
        f"{NOBODY}@127.0.4.3:{site.rpc_port}",
    ]
    assert written["admin"]["admin_token_file"] and site.file("a").stat().st_mode & 0o777 == 0o600


def test_nodes_that_forgot_each_other_meet_again_by_the_file_alone(site: GarageSite) -> None:
    a, b = site.node_id("a"), site.node_id("b")
    assert site.apply(site.view("a", a=a, b=b)).outcome is Outcome.APPLIED
    for host in ("a", "b"):
        site.running[host].end()
        (site.folder / host / "meta" / "peer_list").unlink(missing_ok=True)
    site.start("b")
    site.start("a")
    wait_until("they meet", lambda: site.known("b").get(a))


def test_an_operators_own_key_of_that_name_is_found_before_garage_would_not_start(site: GarageSite) -> None:
    before = f'rpc_public_addr = "127.0.4.1:{site.rpc_port}"\n' + site.file("a").read_text()
    site.file("a").write_text(before)
    report = site.apply(site.view("a", a=site.node_id("a"), b=site.node_id("b")))
    assert report.outcome is Outcome.REFUSED and "in meshd's lines alone" in report.reason, report
    assert site.file("a").read_text() == before


def test_a_block_that_somebody_moved_into_a_table_is_refused(site: GarageSite) -> None:
    """TOML would take it for keys of that table, and Garage for none of its own, without a word."""
    text = site.file("a").read_text()
    site.file("a").write_text(text + "# BEGIN meshd garage\n# END meshd garage\n")
    report = site.apply(site.view("a", a=site.node_id("a")))
    assert report.outcome is Outcome.REFUSED and "above the first [table]" in report.reason, report
    assert site.file("a").read_text() == text + "# BEGIN meshd garage\n# END meshd garage\n"


def test_a_node_that_is_not_the_signed_one_is_told_apart(site: GarageSite) -> None:
    report = site.apply(site.view("a", a=NOBODY), file="")
    assert report.outcome is Outcome.FAILED and NOBODY[:8] in report.reason, report
    site.token_file.write_text("not the token")
    report = site.apply(site.view("a", a=site.node_id("a"), b=NOBODY), file="")
    assert report.outcome is Outcome.FAILED and "403" in report.reason, report


def test_a_node_without_an_id_is_named_with_what_to_type(site: GarageSite) -> None:
    view = site.view("a", a=site.node_id("a"))
    plan = Garage().render(view, CONFIG)
    assert not plan.calls and "wgctl service place b/garage --tag node_id=" in plan.notes[0]


def test_settings_and_tags_that_make_no_sense_are_refused_by_name(site: GarageSite) -> None:
    with pytest.raises(ConfigError, match="64 hexadecimal digits"):
        Garage().render(site.view("a", b='x" rm -rf'), CONFIG)
    with pytest.raises(ConfigError, match="kind garage"):
        Garage().render(a_view(), CONFIG)
    with pytest.raises(ConfigError, match="0 placements seen"):
        Garage().render(site.view("a"), msgspec.structs.replace(CONFIG, jail_of="store"))
