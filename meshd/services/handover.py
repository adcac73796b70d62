"""A service is told of its new files, and asked whether it took them.

The reload's own word is not believed: NSD says "ok" to a zone that it then answers with SERVFAIL, and
PostgreSQL's pg_reload_conf() is true for a pg_hba.conf that is not used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

import msgspec

from meshd.errors import BackendError
from meshd.services.actions import bring_live, hear_nobody, run
from meshd.services.compose import hide_secrets
from meshd.services.config import ModuleConfig, jail_prefix, service_command
from meshd.services.isolation import run_isolated
from meshd.services.journal import Accepted
from meshd.services.plan import Probe, ReloadKind

RELOAD_SECONDS: Final = 60.0
PAUSE_SECONDS: Final = 0.25


class HandOver(msgspec.Struct, frozen=True, kw_only=True):
    """``clock`` and ``pause``: seconds that pass. ``step`` is told what was done."""

    config: ModuleConfig
    secrets: Mapping[str, str]
    step: Callable[[str], None]
    clock: Callable[[], float]
    pause: Callable[[float], None]

    def run(self, accepted: Accepted, *, reload: bool, seconds: float, alive: bool = False) -> str | None:
        """Calls, reload, the service's answer, waited for ``seconds``; -> what is wrong.

        ``alive``: the running service may be changed instead; when it does not show that, it is reloaded.
        """
        prefix, fill = tuple(jail_prefix(self.config)), str(accepted.generation)
        for call in accepted.calls:
            if problem := run(call, self.secrets, prefix=prefix, fill=fill):
                return problem
        self.step("called")
        if reload and alive and accepted.live is not None:
            problem = bring_live(accepted.live)
            self.step(f"not changed alive: {problem}" if problem else "changed alive")
            if problem is None and self._verify(accepted, seconds) is None:
                return None
        if reload and (problem := self.tell(accepted.reload, accepted.reload_argv)):
            return problem
        self.step("reloaded")
        return self._verify(accepted, seconds)

    def _verify(self, accepted: Accepted, seconds: float) -> str | None:
        prefix, fill = tuple(jail_prefix(self.config)), str(accepted.generation)
        deadline = self.clock() + seconds
        for probe in accepted.verify:
            while problem := run(probe, self.secrets, prefix=prefix, fill=fill):
                if self.clock() >= deadline:
                    return problem
                self.pause(PAUSE_SECONDS)
        self.step("verified")
        return None

    def silence(self, probes: Iterable[Probe], *, seconds: float) -> str | None:
        """That nobody answers one of these, waited for so long; None: somebody does, whatever it says."""
        prefix = tuple(jail_prefix(self.config))
        deadline = self.clock() + seconds
        for probe in probes:
            while problem := hear_nobody(probe, self.secrets, prefix=prefix):
                if self.clock() >= deadline:
                    return hide_secrets(problem, self.secrets)
                self.pause(PAUSE_SECONDS)
        return None

    def tell(self, kind: ReloadKind, better: tuple[str, ...] = ()) -> str | None:
        """Let the service manager reload or restart it; -> what it says against that."""
        if kind == "none":
            return None
        command = service_command(self.config, kind, better)
        try:
            done = run_isolated(command, b"", seconds=RELOAD_SECONDS, stays=True)
        except BackendError as error:
            return str(error)
        if done.status == 0:
            return None
        said = hide_secrets(done.errors or done.output.decode("utf-8", "replace"), self.secrets)
        return f"{' '.join(command)}: exit status {done.status}: {said.strip()[-300:] or 'no word'}"
