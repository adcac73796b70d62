"""A laptop or a phone without meshd: granted by the administrator's word, with a file that says how it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from admin_desk import AdminDesk
from click.testing import Result

from meshd.model.keys import PrivateKey
from meshd.registry.bundle import parse_request
from meshd.registry.signing import render_fingerprint
from meshd.store.directory import DirectoryStore

Run = Callable[..., Result]
THEIRS = PrivateKey(bytes([7]) * 32)


@pytest.fixture
def desk(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AdminDesk:
    """A mesh of two hosts that can be called and one that cannot."""
    monkeypatch.chdir(tmp_path)
    desk = AdminDesk(run, tmp_path)
    desk.found("ada")
    desk.add("ada", "tesla", "--jails", "10.17.1.0/24", networks=("10.17.1.0/24",))
    desk.add("ada", "newton", endpoint="newton.example.net:51820")
    desk.add("ada", "bohr", endpoint="")
    return desk


def sections(text: str) -> list[dict[str, str]]:
    """As wg-quick reads it: [Interface] first, then each [Peer]."""
    found: list[dict[str, str]] = []
    for line in text.splitlines():
        plain = line.partition("#")[0].strip()
        if plain.startswith("["):
            found.append({})
        elif plain:
            name, _, value = plain.partition(" = ")
            found[-1][name] = value
    return found


def fingerprint_of(desk: AdminDesk, who: str) -> str:
    (request,) = desk.directory.glob(f"{who}-*.request")
    return render_fingerprint(parse_request(request.read_text()).kid)


def key_of(desk: AdminDesk, who: str) -> str:
    (request,) = desk.directory.glob(f"{who}-*.request")
    return parse_request(request.read_text()).record.record.wireguard


def test_a_client_gets_a_file_with_every_host_that_can_be_called_and_what_lies_behind(
    desk: AdminDesk,
) -> None:
    done = desk.ok("ada", "add-client", "phone")
    path = desk.directory / "phone.conf"
    assert path.stat().st_mode & 0o777 == 0o600
    own, *peers = sections(path.read_text())
    hosts = desk.hosts("ada")
    assert own["Address"].split(", ")[0] == f"{hosts['phone']['addresses'][0]}/32"
    by_key = {peer["PublicKey"]: peer for peer in peers}
    tesla, newton = by_key[key_of(desk, "tesla")], by_key[key_of(desk, "newton")]
    assert len(by_key) == 2
    assert tesla["Endpoint"] == "192.0.2.1:51820" and newton["Endpoint"] == "newton.example.net:51820"
    assert set(tesla["AllowedIPs"].split(", ")) == {
        *(f"{a}/{128 if ':' in a else 32}" for a in hosts["tesla"]["addresses"]),
        "10.17.1.0/24",
    }
    assert hosts["phone"]["state"] == "client" and not hosts["phone"]["granted"]
    assert "bohr" in done.stdout and "bohr" in path.read_text()


def test_its_private_key_is_in_its_file_and_nowhere_else(desk: AdminDesk) -> None:
    done = desk.ok("ada", "add-client", "phone")
    (key,) = [
        line.split(" = ")[1] for line in Path("phone.conf").read_text().splitlines() if "Private" in line
    ]
    kept = [path for path in desk.directory.rglob("*") if path.is_file() and path.name != "phone.conf"]
    assert not [path for path in kept if key in path.read_text(errors="replace")]
    assert key not in done.output
    assert key not in desk.ok("ada", "client", "config", "phone").stdout
    again = desk.ok("ada", "client", "config", "phone", "--key-from", "phone.conf").stdout
    assert f"PrivateKey = {key}" in again


def test_a_client_that_made_its_own_key_tells_nobody(desk: AdminDesk) -> None:
    desk.ok("ada", "add-client", "laptop", "--public-key", THEIRS.public())
    own, *peers = sections(Path("laptop.conf").read_text())
    assert "PrivateKey" not in own and len(peers) == 2
    assert "PrivateKey" in Path("laptop.conf").read_text(), "a line that says where it goes"


@pytest.mark.parametrize("what", ["a host's key", "a host's name", "a client's name", "no name"])
def test_nobody_is_taken_for_somebody_else(desk: AdminDesk, what: str) -> None:
    desk.ok("ada", "add-client", "phone", "--public-key", THEIRS.public())
    words = {
        "a host's key": ("tablet", "--public-key", key_of(desk, "tesla")),
        "a host's name": ("tesla",),
        "a client's name": ("phone",),
        "no name": ("My Phone",),
    }[what]
    before = desk.json("ada", "log")["statements"]
    assert desk.refused(2, "ada", "add-client", *words, "--out", desk.directory / "never.conf")
    assert desk.json("ada", "log")["statements"] == before
    assert not (desk.directory / "never.conf").exists()


def test_a_key_that_was_only_named_gives_way_to_the_host_that_has_it(desk: AdminDesk) -> None:
    """A client's public key comes without a proof. Whoever has the private one loses nothing by that."""
    desk.ok("ada", "add-client", "phone", "--public-key", THEIRS.public())
    assert not desk.codes("ada")
    desk.add("ada", "curie", endpoint="192.0.2.9:51820", key=THEIRS)
    assert desk.codes("ada") == {"wireguard_key_unproven"}
    hosts = desk.hosts("ada")
    assert hosts["curie"]["record_version"] is not None and hosts["phone"]["record_version"] is None


def test_an_address_that_a_host_has_is_not_given_to_a_client(desk: AdminDesk) -> None:
    taken = desk.hosts("ada")["tesla"]["addresses"][0]
    desk.refused(1, "ada", "add-client", "phone", "--address", taken)
    assert "phone" not in desk.hosts("ada")


def test_what_changed_since_is_said_of_a_file(desk: AdminDesk) -> None:
    desk.ok("ada", "add-client", "phone")
    assert "is right" in desk.ok("ada", "client", "check", "phone.conf").stdout
    desk.ok("ada", "remove-host", "newton", "--yes")
    desk.add("ada", "curie", endpoint="192.0.2.9:51820")
    done = desk.run("ada", "client", "check", "phone.conf")
    assert done.exit_code == 1
    assert "curie: its key is not in the file" in done.stdout and "a key that no host has" in done.stdout
    command = done.stdout.splitlines()[-1].partition("wgctl ")[2]
    desk.ok("ada", *command.split())
    assert desk.ok("ada", "client", "check", "phone.conf").exit_code == 0
    assert Path("phone.conf").stat().st_mode & 0o777 == 0o600
    desk.ok("ada", "remove-host", "phone", "--yes")
    assert "phone was revoked" in desk.refused(1, "ada", "client", "check", "phone.conf")


def test_an_edited_file_is_compared_by_what_it_says(desk: AdminDesk) -> None:
    desk.ok("ada", "add-client", "phone")
    text = Path("phone.conf").read_text()
    Path("phone.conf").write_text(
        text.replace("10.17.1.0/24", "10.17.9.0/24").replace("192.0.2.1:", "192.0.2.2:")
    )
    done = desk.run("ada", "client", "check", "phone.conf")
    assert done.exit_code == 1 and "10.17.1.0/24" in done.stdout
    Path("phone.conf").write_text("to whom it may concern")
    assert "a file of wg-quick expected" in desk.refused(2, "ada", "client", "check", "phone.conf")


def test_another_clients_key_makes_no_file(desk: AdminDesk) -> None:
    desk.ok("ada", "add-client", "phone")
    desk.ok("ada", "add-client", "tablet")
    line = desk.refused(2, "ada", "client", "config", "phone", "--key-from", "tablet.conf")
    assert "that of phone expected" in line


@pytest.mark.parametrize(
    "words",
    [
        ("rotate-keys", "phone"),
        ("add-host", "phone", "--add-jails", "10.17.9.0/24"),
        ("add-host", "phone", "--role", "db", "--yes"),
        ("service", "place", "phone/web"),
        ("client", "config", "tesla"),
        ("add-host", "tesla", "--role", "client"),
    ],
)
def test_what_takes_a_meshd_is_refused_for_a_client(desk: AdminDesk, words: tuple[str, ...]) -> None:
    desk.ok("ada", "add-client", "phone")
    desk.ok("ada", "service", "add", "web", "--kind", "http", "--port", "80")
    before = desk.json("ada", "log")["statements"]
    assert "client" in desk.refused(2, "ada", *words)
    assert desk.json("ada", "log")["statements"] == before


def test_a_clients_end_can_be_moved_and_it_is_explained(desk: AdminDesk) -> None:
    desk.ok("ada", "add-client", "phone", "--expires", "90d")
    desk.ok("ada", "add-host", "phone", "--expires", "never")
    phone = desk.hosts("ada")["phone"]
    assert (phone["state"], phone["expires_at"], phone["roles"]) == ("client", None, ["client"])
    assert "client" in desk.ok("ada", "explain", "phone").stdout


def test_a_client_waits_for_endorsement_where_the_root_wants_two(desk: AdminDesk) -> None:
    desk.appoint("ada", "bob")
    for name in ("tesla", "newton", "bohr"):
        desk.ok("bob", "endorse", name, "--yes", "--fingerprint", fingerprint_of(desk, name))
    desk.ok("ada", "root", "threshold", "--admin", "2", "--yes")
    made = desk.json("ada", "add-client", "phone")
    assert any("wgctl endorse" in warning for warning in made["warnings"]) and len(made["warnings"]) == 1
    assert desk.hosts("ada")["phone"]["state"] == "proposed"
    desk.ok("bob", "endorse", "phone", "--yes", "--fingerprint", made["fingerprint"])
    assert desk.hosts("ada")["phone"]["state"] == "client"
    assert "is right" in desk.ok("ada", "client", "check", "phone.conf").stdout


@pytest.mark.parametrize(
    "text",
    [
        "{key}\n",
        "PrivateKey = {key}\n[Interface]\n",
        "[Interface]\nPrivateKey: {key}\n",
        "[Interface]\n{key}\n",
        "[Interface]\nPrivateKey = {key}=\n",
    ],
)
@pytest.mark.parametrize("verb", ["config", "check"])
def test_no_piece_of_a_private_key_is_shown_of_a_file_that_is_none(
    desk: AdminDesk, verb: str, text: str
) -> None:
    """Also of one that wg(8) itself made: ``wg genkey > laptop.key``."""
    desk.ok("ada", "add-client", "laptop", "--public-key", THEIRS.public())
    key = THEIRS.reveal_text()
    Path("laptop.key").write_text(text.format(key=key))
    words = ("config", "laptop", "--key-from", "laptop.key") if verb == "config" else ("check", "laptop.key")
    done = desk.run("ada", "client", *words)
    assert done.exit_code == 2 and "laptop.key" in done.stderr
    assert not [piece for piece in (key[at : at + 6] for at in range(len(key) - 5)) if piece in done.output]


def test_no_file_is_in_the_way_of_a_new_client(desk: AdminDesk) -> None:
    """It may have somebody's one private key: a client's of another mesh, an interface's of this host."""
    Path("wg0.conf").write_text("[Interface]\nPrivateKey = of-this-host\n")
    before = desk.json("ada", "log")["statements"]
    assert "wg0.conf" in desk.refused(2, "ada", "add-client", "wg0")
    assert Path("wg0.conf").read_text() == "[Interface]\nPrivateKey = of-this-host\n"
    assert desk.json("ada", "log")["statements"] == before, "nothing was signed either"


def test_a_new_file_takes_no_private_key_away(desk: AdminDesk) -> None:
    desk.ok("ada", "add-client", "phone")
    desk.ok("ada", "add-client", "tablet")
    phone = Path("phone.conf").read_text()
    assert "--key-from" in desk.refused(2, "ada", "client", "config", "phone", "--out", "phone.conf")
    desk.refused(2, "ada", "client", "config", "tablet", "--key-from", "tablet.conf", "--out", "phone.conf")
    assert Path("phone.conf").read_text() == phone
    desk.ok("ada", "client", "config", "phone", "--key-from", "phone.conf", "--out", "phone.conf")
    assert sections(Path("phone.conf").read_text()) == sections(phone)


def test_a_key_is_in_its_file_also_where_no_store_takes_the_grant(
    desk: AdminDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The grant is signed for this key, and the next command publishes it."""
    monkeypatch.setattr("meshd.registry.sync._PUBLISH_PAUSES_SECONDS", ())

    def refuse(self: DirectoryStore, key: str, body: bytes) -> None:
        raise OSError("the test's disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("meshd.store.directory._write_whole", refuse)
        assert "NOT published" in desk.refused(1, "ada", "add-client", "phone")
    assert Path("phone.conf").stat().st_mode & 0o777 == 0o600
    assert desk.hosts("ada")["phone"]["state"] == "client"
    desk.ok("ada", "client", "config", "phone", "--key-from", "phone.conf", "--out", "phone.conf")
    assert "is right" in desk.ok("ada", "client", "check", "phone.conf").stdout


def test_where_nothing_was_granted_no_key_is_left(desk: AdminDesk) -> None:
    taken = desk.hosts("ada")["tesla"]["addresses"][0]
    desk.refused(1, "ada", "add-client", "phone", "--address", taken)
    desk.refused(2, "ada", "add-client", "tesla")
    assert not list(desk.directory.glob("*.conf"))
