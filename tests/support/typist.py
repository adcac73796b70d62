"""Whoever types a page of the documents as it stands, and says yes to what was compared."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from typed_machines import CHECKOUT, Block, Machine, Machines
from until import wait_until

MEETING_SECONDS = 240.0
PASSPHRASE = "correct horse battery staple"
FINGERPRINT = re.compile(r"\b(?:[0-9a-f]{4}-){5}[0-9a-f]{4}\b")
UNIT = CHECKOUT / "contrib" / "systemd" / "meshd.service"
Typist = Callable[[Machine, Block], None]
NOBODY: Mapping[str, Typist] = {}


class Person:
    """Types what the page says and answers: yes to fingerprints that another machine showed."""

    def __init__(self, opened: Machines, otherwise: Mapping[str, Typist] = NOBODY) -> None:
        """``otherwise``: what is done with a block that has this word, in place of typing it."""
        self._machines = opened
        self._otherwise = {"service": self._serve, **otherwise}
        self._known: dict[str, str] = {}
        self.shown: list[str] = []
        self.compared = 0

    def type(self, block: Block) -> None:
        for name in block.where:
            machine = self._machines[name]
            done = [self._otherwise[word] for word in block.words if word in self._otherwise]
            if done:
                done[0](machine, block)
                continue
            typed = machine.type(block.text, lambda screen, at=name: self._answer(screen, at))  # type: ignore[misc]
            assert typed.code == 0, f"line {block.line} on {name}: {typed.code}\n{typed.output}"
            self.shown.append(typed.output)
            for found in FINGERPRINT.findall(typed.output):
                self._known.setdefault(found, name)

    def _answer(self, screen: str, at: str) -> str | None:
        line = screen.rpartition("\n")[2]
        if re.search(r"(passphrase|Repeat for confirmation)[^\n]*: ?$", line, re.IGNORECASE):
            return PASSPHRASE
        if line.startswith("Revoke newton") and line.endswith("[y/N]: "):
            return "y"
        if line.endswith("[y/N]: "):
            found = [each for each in FINGERPRINT.findall(screen) if self._known.get(each, at) != at]
            assert found, f"{at}: asked about a fingerprint that no other machine showed: {screen}"
            self.compared += 1
            return "y"
        return None

    def _serve(self, machine: Machine, block: Block) -> None:
        """As systemd does with the unit of the first line; there is no systemd in a namespace."""
        install, start = block.text.splitlines()
        assert start == "systemctl enable --now meshd"
        machine.do(install)
        commands = dict(re.findall(r"^(ExecStartPre|ExecStart)=-?(.*)$", UNIT.read_text(), re.MULTILINE))
        machine.do(commands["ExecStartPre"])
        machine.spawn(commands["ExecStart"])
        wait_until("meshd runs", lambda: "control.sock" in machine.do("ls /run/meshd || :"), MEETING_SECONDS)
