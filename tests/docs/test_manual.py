"""The commands of the README and of the manual, typed as they stand on four machines with a mesh, or named
here with what runs them instead."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from command_lines import command_lines
from real_service import need
from typed_machines import CHECKOUT, Machines, machines, read_blocks
from typist import FINGERPRINT, MEETING_SECONDS, PASSPHRASE, Person
from until import wait_until

pytestmark = [pytest.mark.root, pytest.mark.slow]

PAGES = ("README.md", "docs/wgctl.md", "docs/operating.md", "docs/services.md", "docs/leaving.md")
SERVICE_PAGES = tuple(
    str(path.relative_to(CHECKOUT)) for path in sorted((CHECKOUT / "docs" / "services").glob("*.md"))
)
"""Their commands are an administrator's, and are typed on the desk."""
OTHER_PAGES = {
    "docs/tutorial.md": "tests/docs/test_tutorial.py",
    "docs/moving-in.md": "tests/docs/test_moving_in.py",
    "docs/garage.md": "tests/lab/test_garage_fleet.py: with real Garages on the mesh",
    "docs/freebsd.md": "needs a FreeBSD; on an imitation: tests/daemon, tests/golden",
}
_REMARK = re.compile(r"\s+#.*$|\s{3,}\S.*$|(?<=-12-24) .*$")
ADDRESSES = {"desk": "192.0.2.1/24", "tesla": "192.0.2.10/24", "newton": "192.0.2.20/24"}
"""Those of the tutorial."""
BOHR = "192.0.2.30"
BOHR_SETTINGS = f"""
ln -s /opt/wg-meshd/.venv/bin/meshd /opt/wg-meshd/.venv/bin/wgctl /usr/local/bin/
mkdir -p /etc/meshd /srv/mesh
cat > /etc/meshd/meshd.toml <<'END'
[host]
endpoints = ["{BOHR}:51820"]
END
"""

PIPE = next(
    line.strip().replace("ssh tesla", "ssh bohr").replace("10.17.1.0", "10.17.3.0")
    for line in (CHECKOUT / "README.md").read_text().splitlines()
    if line.startswith("    ssh tesla meshd enroll | wgctl add-host -")
)
"""The README's line, for a machine that has not joined yet."""


@dataclass(frozen=True)
class Step:
    """``command`` as a page has it; ``codes``: how it may end, by what the page says."""

    where: str
    command: str
    codes: tuple[int, ...] = (0,)
    shows: str = ""


SESSION = (
    # Another server, in one line of the README.
    Step("desk", PIPE),
    Step("desk", "wgctl list", shows="bohr"),
    Step("desk", "wgctl log --host newton", shows="newton"),
    Step("desk", "wgctl log --by bob", codes=(1,), shows="bob"),
    Step("desk", "wgctl explain newton", shows="granted"),
    Step("desk", "wgctl explain 10.17.2.9", shows="newton"),
    Step("desk", "wgctl explain plan_held", shows="plan_held"),
    Step("tesla", "wgctl status", shows="peers answer"),
    Step("tesla", "wgctl status --check", codes=(0, 1)),
    Step("tesla", "wgctl status --local"),
    Step("tesla", "wgctl status --history"),
    Step("tesla", "wgctl ping newton", shows="10.99.0.2"),
    Step("tesla", "wgctl drain", shows="takes no pair of other hosts"),
    Step("tesla", "wgctl drain --end", shows="may carry pairs of other hosts"),
    Step("tesla", "wgctl plan", codes=(0, 5)),
    Step("tesla", "wgctl apply"),
    Step("tesla", "wgctl apply --force"),
    Step("tesla", "wgctl rollback", codes=(0, 1)),
    Step("tesla", "wgctl apply"),
    Step("tesla", "wgctl doctor", codes=(0, 1), shows="checks:"),
    # What a page says of newton is asked of the desk.
    Step("desk", "wgctl add-host newton --request newton.request --jails 10.17.2.0/24 --region eu"),
    Step("desk", "wgctl rotate-keys newton tesla"),
    Step("desk", "wgctl rotate-keys --all --at +2h"),
    Step("desk", "wgctl rotate-keys --all --at 2025-12-24"),
    Step("desk", "wgctl endorse --all"),
    Step("desk", "wgctl root list", shows="1"),
    Step("desk", "wgctl root show", shows="10.99.0.0/16"),
    Step("desk", "wgctl admin request --name bob --out bob.key-request", shows="fingerprint"),
    Step("desk", "wgctl service add postgres --kind patroni --port 5432 --check http=:8008/health"),
    Step(
        "desk",
        "wgctl service place tesla/postgres --jail pg --address 10.17.1.5 --tag failover_priority=100",
    ),
    Step("desk", "wgctl service list", shows="postgres"),
    Step("desk", "wgctl service show postgres", shows="tesla"),
    Step("desk", "wgctl service place tesla/postgres --jail pg --address 10.17.1.5"),
    Step("desk", "wgctl service place newton/postgres --jail pg --address 10.17.2.5"),
    Step("tesla", "meshd check-config", shows="ok"),
    Step("tesla", "wgctl service list"),
    Step("tesla", "wgctl service diff", codes=(0, 5)),
    Step("tesla", "wgctl service apply"),
    Step("desk", "wgctl service drain tesla/postgres"),
    Step("desk", "wgctl service remove tesla/postgres"),
    Step("desk", "wgctl export --out fleet.registry", shows="fleet.registry"),
    # A phone and a laptop, which have no meshd.
    Step("desk", "wgctl add-client phone"),
    Step("desk", 'wgctl add-client laptop --public-key "$KEY"'),
    Step("desk", "wgctl client check phone.conf"),
    Step("desk", "wgctl client config phone --key-from phone.conf --out phone.conf"),
    Step("desk", "wgctl remove-host phone"),
    # The way of what is signed elsewhere, here on one machine.
    Step("desk", "wgctl add-host newton --request newton.request --jails 10.17.2.0/24 --draft today"),
    Step("desk", "wgctl remove-host bohr --why sold --draft today"),
    Step("desk", "wgctl rotate-keys --all --draft today"),
    Step("desk", "wgctl sign today"),
    Step("desk", "wgctl import today.signed"),
    Step("newton", "meshd leave --dry-run", codes=(0, 5)),
    Step("desk", 'wgctl remove-host newton --why "sold"'),
)

ELSEWHERE = {
    "wgctl add-host tesla --ssh": "tests/lab/test_onboarding_lab.py: a real sshd",
    "wgctl add-host newton --ssh": "the same",
    "wgctl init --name fleet --store s3+https": "tests/wgctl/test_wgctl_garage.py: a real Garage",
    "meshd enroll --name newton": "tests/docs/test_tutorial.py",
    "meshd join newton.bundle": "tests/docs/test_tutorial.py; the fingerprint is an example",
    "wgctl rotate-keys --all --watch": "tests/wgctl/test_wgctl_rotate.py: it ends when every host has moved",
    "wgctl rotate-keys newton --watch": "the same",
    "meshd enroll --new-identity": "tests/daemon/test_new_identity.py",
    "wgctl add-host newton --request newton.request --new-identity": "the same",
    "wgctl garage-sync": "tests/wgctl/test_wgctl_garage.py: a real Garage",
    "wgctl admin join": "tests/wgctl: a second home",
    "wgctl endorse newton": "tests/wgctl/test_wgctl_endorse.py: a second administrator",
    "wgctl root threshold": "tests/wgctl: a second holder of a root key",
    "wgctl --home ~/new root recover": "tests/wgctl/test_wgctl_roots.py",
    "wgctl root refound": "tests/wgctl: every host must be told by hand afterwards",
    "wgctl init --air-gapped": "tests/wgctl/test_wgctl_sign.py",
    "wgctl export --out today": "the same, of two machines",
    "wgctl export --out signed": "the same",
    "wgctl import today": "the same",
    "wgctl import signed": "the same",
    "wgctl admin cut": "tests/wgctl: a second administrator",
    "wgctl service diff": "tests/services: on a host with modules",
    "wgctl status --watch": "tests/wgctl/test_wgctl_terminal.py: it does not end by itself",
    "wgctl top": "tests/wgctl/test_wgctl_top.py: it does not end by itself",
    "wgctl ping 10.77.0.2": "tests/wgctl/test_wgctl_ping.py: the address is an example",
    "wgctl client config phone --key-from phone.conf --qr": "tests/wgctl/test_qr_code.py",
    "wgctl add-client phone --qr": "the same",
    "wgctl root check-paper": "tests/wgctl/test_wgctl_roots.py: the key is on paper",
    "wgctl service place ──►": "a picture",
    "wgctl service place tesla/garage": "tests/wgctl/test_wgctl_garage_layout.py: a real Garage",
    "wgctl service garage layout": "the same",
    "wgctl service place newton/syncoid": "tests/services/test_syncoid.py: the key is an example",
    "meshd leave": "tests/daemon/test_leave.py: with no daemon on the state directory",
    "wgctl demo": "tests/lab/test_demo.py",
}


def typed_lines(page: str) -> Iterator[str]:
    for _, text in command_lines((CHECKOUT / page).read_text()):
        yield " ".join(_REMARK.sub("", text).split())


SERVICES = tuple(
    Step("desk", line)
    for page in SERVICE_PAGES
    for line in typed_lines(page)
    if not any(line.startswith(begin) for begin in ELSEWHERE)
    and line not in {step.command for step in SESSION}
)


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_page_is_run_here_or_elsewhere(page: str) -> None:
    run = {step.command for step in SESSION}
    lost = [
        line
        for line in typed_lines(page)
        if line not in run and not any(line.startswith(begin) for begin in ELSEWHERE)
    ]
    assert not lost, f"{page}: run these in SESSION, or name what runs them in ELSEWHERE"


def test_every_page_with_commands_has_its_test() -> None:
    pages = [*(CHECKOUT / "docs").rglob("*.md"), CHECKOUT / "README.md"]
    typed = {str(page.relative_to(CHECKOUT)) for page in pages if any(command_lines(page.read_text()))}
    assert typed <= {*PAGES, *SERVICE_PAGES, *OTHER_PAGES}


def test_what_is_run_elsewhere_is_there() -> None:
    reasons = (*ELSEWHERE.values(), *OTHER_PAGES.values())
    named = {word for why in reasons for word in re.findall(r"tests/[\w/.]+", why)}
    assert not [path for path in named if not (CHECKOUT / path.rstrip(":")).exists()]
    lines = [line for page in (*PAGES, *SERVICE_PAGES) for line in typed_lines(page)]
    assert not [begin for begin in ELSEWHERE if not any(line.startswith(begin) for line in lines)]


class Reader:
    """Agrees to what is asked: comparing fingerprints is the tutorial's matter."""

    def answer(self, screen: str) -> str | None:
        line = screen.rpartition("\n")[2]
        if re.search(r"(passphrase|Repeat for confirmation)[^\n]*: ?$", line, re.IGNORECASE):
            return PASSPHRASE
        return "y" if line.endswith("[y/N]: ") else None


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Machines]:
    need("rsync")
    with machines(tmp_path, {**ADDRESSES, "bohr": f"{BOHR}/24"}) as found:
        yield found


def found_mesh(opened: Machines) -> str:
    """As the tutorial does, up to its sixth step -> the fingerprint of the root."""
    person = Person(opened)
    page, _, _ = (CHECKOUT / "docs" / "tutorial.md").read_text().partition("## 6.")
    for block in read_blocks(page, list(ADDRESSES)):
        if "not-run" not in block.words:
            person.type(block)
    tesla = opened["tesla"]

    def has_met() -> bool:
        return "1 of 1 peers answer" in tesla.do("wgctl status --local || :")

    wait_until("they meet", has_met, MEETING_SECONDS)
    listed = json.loads(opened["desk"].do("wgctl root list --offline --json"))
    return str(listed["roots"][-1]["fingerprint"])


def type_ten_commands(opened: Machines) -> None:
    """From a mesh to a service's name, line by line: the first block on the desk, the others on tesla."""
    page = (CHECKOUT / "docs" / "services.md").read_text()
    section = page.partition("## From nothing to `postgres.svc.mesh`\n")[2].partition("\n## ")[0]
    declared, table, taken = re.findall(r"(?:^    .*\n)+", section, re.MULTILINE)
    desk, tesla = opened["desk"], opened["tesla"]
    lines = [line.partition(" #")[0].strip() for line in (declared + taken).splitlines()]
    assert len(lines) == 10
    tesla.do(f"cat >>/etc/meshd/meshd.toml <<'END'\n{textwrap.dedent(table)}END\n")
    for number, line in enumerate(lines):
        if line == "systemctl reload meshd":  # there is no systemd in a namespace
            tesla.do("pkill -HUP -f '^[^ ]*python[^ ]* [^ ]*/meshd .* run$'")
            continue
        machine = desk if number < len(declared.splitlines()) else tesla
        if (machine, line) == (tesla, "wgctl service list"):  # again and again, as the page says
            desk.do("rsync -au /srv/mesh/ tesla:/srv/mesh/")
            wait_until(
                "tesla hears of it", lambda: "postgres" in tesla.do("wgctl service list"), MEETING_SECONDS
            )
        typed = machine.type(line, Reader().answer)
        if line == "wgctl service diff" and typed.code == 0:  # "or wait: it happens by itself"
            assert "postgres.svc.mesh" in tesla.do("cat /etc/hosts"), typed
            continue
        assert typed.code == (5 if line == "wgctl service diff" else 0), (line, typed)
    assert {"10.17.1.5", "10.17.2.5"} & set(typed.output.split()), typed


@pytest.mark.long
def test_the_manual_typed_as_it_stands(opened: Machines) -> None:
    """On the mesh of the tutorial, which a fourth machine joins by the pipe of the README."""
    root, reader = found_mesh(opened), Reader()
    type_ten_commands(opened)
    opened["bohr"].do(BOHR_SETTINGS)
    wrong = []
    for step in (*SESSION, *SERVICES):
        key = "KEY=$(wg genkey | wg pubkey); " if "$KEY" in step.command else ""
        typed = opened[step.where].type(key + FINGERPRINT.sub(root, step.command), reader.answer)
        if typed.code not in step.codes or step.shows not in typed.output:
            wrong.append(f"{step.where}: {step.command}: {typed.code}\n{typed.output}")
    assert not wrong, "\n".join(wrong)
