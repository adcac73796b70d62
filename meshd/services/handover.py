"""A service is told of its new files, and asked whether it took them.

The reload's own word is not believed: NSD says "ok" to a zone that it then answers with SERVFAIL, and
PostgreSQL's pg_reload_conf() is true for a pg_hba.conf that is not used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from meshd.errors import BackendError
from meshd.services.actions import run
from meshd.services.config import ModuleConfig, jail_prefix, service_command
from meshd.services.isolation import run_isolated
from meshd.services.journal import Accepted
from meshd.services.plan import ReloadKind

RELOAD_SECONDS: Final = 60.0
PAUSE_SECONDS: Final = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class HandOver:
    """``clock`` and ``pause``: seconds that pass. ``step`` is told what was done."""

    config: ModuleConfig
    secrets: Mapping[str, str]
    step: Callable[[str], None]
    clock: Callable[[], float]
    pause: Callable[[float], None]

    def run(self, accepted: Accepted, *, reload: bool, seconds: float) -> str | None:
        """Calls, reload, and the service's answer, waited for ``seconds``; -> what is wrong."""
        prefix, fill = tuple(jail_prefix(self.config)), str(accepted.generation)
        for call in accepted.calls:
            if problem := run(call, self.secrets, prefix=prefix, fill=fill):
                return problem
        self.step("called")
        if reload and (problem := self.tell(accepted.reload, accepted.reload_argv)):
            return problem
        self.step("reloaded")
        deadline = self.clock() + seconds
        for probe in accepted.verify:
            while problem := run(probe, self.secrets, prefix=prefix, fill=fill):
                if self.clock() >= deadline:
                    return problem
                self.pause(PAUSE_SECONDS)
        self.step("verified")
        return None

    def tell(self, kind: ReloadKind, better: tuple[str, ...] = ()) -> str | None:
        """Let the service manager reload or restart it; -> what it says against that."""
        if kind == "none":
            return None
        command = service_command(self.config, kind, better)
        try:
            done = run_isolated(command, b"", seconds=RELOAD_SECONDS)
        except BackendError as error:
            return str(error)
        if done.status == 0:
            return None
        said = (done.errors or done.output.decode("utf-8", "replace")).strip()[-300:]
        return f"{' '.join(command)}: exit status {done.status}: {said or 'no word'}"
