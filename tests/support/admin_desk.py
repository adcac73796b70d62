"""Several administrators, each with an own home, around one store in a directory."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from admin_fixture import Newcomer, enroll
from click.testing import Result

from meshd.registry.key_request import parse_key_request
from meshd.registry.signing import render_fingerprint

Run = Callable[..., Result]


def compared_key(request: Path) -> tuple[object, ...]:
    """The words for whoever has compared the fingerprint that ``request`` showed over there."""
    kid = parse_key_request(request.read_text()).kid
    return "--key", request, "--fingerprint", render_fingerprint(kid)


class AdminDesk:
    """``wgctl`` from the home of whoever is named, who may be anybody's first word."""

    def __init__(self, run: Run, directory: Path) -> None:
        self._run = run
        self.directory = directory
        self.store = directory / "store"

    def home(self, who: str) -> Path:
        return self.directory / f"home-{who}"

    def run(self, who: str, *args: object, stdin: str | None = None) -> Result:
        return self._run("--home", self.home(who), *args, input=stdin)

    def ok(self, who: str, *args: object, stdin: str | None = None) -> Result:
        result = self.run(who, *args, stdin=stdin)
        assert result.exit_code == 0, (args, result.output)
        return result

    def json(self, who: str, *args: object, stdin: str | None = None) -> Any:
        return json.loads(self.ok(who, *args, "--json", stdin=stdin).stdout)

    def refused(self, exit_code: int, who: str, *args: object, stdin: str | None = None) -> str:
        """The one line that says why."""
        result = self.run(who, *args, stdin=stdin)
        errors = [line for line in result.stderr.splitlines() if line.startswith("wgctl: error: ")]
        assert (result.exit_code, len(errors)) == (exit_code, 1), result.output
        return errors[0]

    def found(self, who: str, *args: object) -> Any:
        """A mesh; its document, with the recovery key."""
        arguments = ("--name", "fleet", "--store", f"file://{self.store}", "--admin-name", who, *args)
        return self.json(who, "init", "--no-passphrase", *arguments)

    def appoint(self, by: str, who: str, *pools: str, role: str = "admin") -> None:
        """``who`` makes a key, ``by`` names it, ``who`` joins."""
        request = self.directory / f"{who}.key-request"
        bundle = self.directory / f"{who}.bundle"
        self.ok(who, role, "request", "--name", who, "--no-passphrase", "--out", request)
        verb = ("admin", "add") if role == "admin" else ("root", "add-key")
        options = [word for pool in pools for word in ("--pool", pool)] + (["--split"] if pools else [])
        self.ok(by, *verb, who, *compared_key(request), *options, "--out", bundle, "--yes")
        self.join(who, bundle, by)

    def join(self, who: str, bundle: Path, by: str, *words: object) -> Result:
        """``who`` opens a bundle or export, with the fingerprint that ``by`` reads out."""
        return self.ok(who, "admin", "join", bundle, "--fingerprint", self.root(by), *words)

    def root(self, who: str) -> str:
        """The fingerprint of the newest root, as this home shows it."""
        shown: str = self.json(who, "root", "list", "--offline")["roots"][-1]["fingerprint"]
        return shown

    def cosign(self, who: str, version: int) -> str:
        """``who`` reads what is proposed and types its fingerprint; what the verb said."""
        proposals = self.json(who, "root", "list")["proposals"]
        [proposal] = [each for each in proposals if each["version"] == version]
        return self.ok(who, "root", "sign", proposal["fingerprint"], "--yes").stdout

    def enroll(self, name: str, **options: Any) -> Newcomer:
        return enroll(self.directory, name, **options)

    def add(self, who: str, name: str, *args: object, **options: Any) -> Newcomer:
        host = self.enroll(name, **options)
        self.ok(who, "add-host", name, *host.compared, "--out", self.bundle(name), *args)
        return host

    def bundle(self, name: str) -> Path:
        return self.directory / f"{name}.join"

    def hosts(self, who: str) -> dict[str, Any]:
        return {host["name"]: host for host in self.json(who, "list")["hosts"]}

    def members(self, who: str) -> set[str]:
        return {name for name, host in self.hosts(who).items() if host["state"] in ("member", "waiting")}

    def codes(self, who: str) -> set[str]:
        return {condition["code"] for condition in self.json(who, "list")["conditions"]}
