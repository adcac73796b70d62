"""Labels of a Gitea Actions runner from its host's place in the mesh; its instance by mesh name.

A workflow then says ``runs-on: region-eu-west`` or ``runs-on: role-builder``. The runner is registered once,
by hand, with a token that meshd never sees.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar, Final

import msgspec

from meshd.errors import ConfigError
from meshd.services.module import MODULE_API
from meshd.services.placed import declared_service
from meshd.services.plan import Command, File, ServicePlan
from meshd.services.view import ServiceEntry, ServiceView

KIND: Final = "gitea"
_LABEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*(:[A-Za-z0-9:/_.@-]+)?")


class GiteaRunnerConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``file``: the runner's config.yaml, whole. ``instance``: the service, of kind gitea. ``registration``:
    the runner's own file, to see that it is registered there. ``executor``: what follows a label, ``host``
    or ``docker://IMAGE``. ``labels``: more of them. ``settings``: all else of config.yaml.
    """

    file: str
    system: str
    architecture: str
    instance: str = "gitea"
    scheme: str = "http"
    registration: str = ""
    program: str = "act_runner"
    executor: str = "host"
    labels: tuple[str, ...] = ()
    settings: dict[str, Any] = {}


class GiteaRunner:
    name: ClassVar[str] = "gitea-runner"
    api: ClassVar[int] = MODULE_API
    config_model: ClassVar[type[msgspec.Struct]] = GiteaRunnerConfig

    def render(self, view: ServiceView, config: GiteaRunnerConfig) -> ServicePlan:
        service = declared_service(view, config.instance, KIND, "gitea-runner.instance")
        url, labels = instance_url(view, config, service), runner_labels(view, config)
        document = _document(config, labels)
        text = msgspec.json.format(msgspec.json.encode(document)).decode() + "\n"
        return ServicePlan(
            files=(File(path=config.file, text=text),),
            reload="restart",
            restart_why="the runner tells Gitea its labels at its start alone; a job under way ends",
            verify=_registered(config, url),
            verify_seconds=0.0,
            endpoints=tuple(each.id for each in service.placements),
            services=(service.name,),
            notes=(_how_to_register(view, config, url),),
        )


def _how_to_register(view: ServiceView, config: GiteaRunnerConfig, url: str) -> str:
    return (
        f"registered once, with Gitea's token: {config.program} --config {config.file} register "
        f"--no-interactive --instance {url} --name {view.self_name} --token ..."
    )


def instance_url(view: ServiceView, config: GiteaRunnerConfig, service: ServiceEntry) -> str:
    """By the service's name: the runner keeps it in its registration, and an address may move."""
    if config.scheme not in ("http", "https"):
        raise ConfigError(f"gitea-runner.scheme: {config.scheme!r} seen, http or https expected")
    return f"{config.scheme}://{service.name}.svc.{view.domain}:{service.port}"


def runner_labels(view: ServiceView, config: GiteaRunnerConfig) -> list[str]:
    """What a workflow can ask for. A label's own ``:`` would begin its executor, so a role's is ``-``."""
    me = view.me
    names = [config.system, config.architecture, f"{config.system}-{config.architecture}", f"host-{me.name}"]
    names += [f"region-{me.region}"] if me.region else []
    names += [f"role-{role}" for role in me.roles]
    found = [f"{re.sub(r'[^A-Za-z0-9_.-]', '-', name)}:{config.executor}" for name in names]
    found += list(config.labels)
    for label in found:
        if _LABEL.fullmatch(label) is None:
            raise ConfigError(
                f"gitea-runner.labels: {label[:60]!r} seen, NAME:host or NAME:docker://IMAGE expected"
            )
    return list(dict.fromkeys(found))


def _document(config: GiteaRunnerConfig, labels: list[str]) -> dict[str, Any]:
    """JSON is YAML. The operator's settings as they are, and our labels."""
    runner = config.settings.get("runner", {})
    if not isinstance(runner, dict) or "labels" in runner:
        raise ConfigError("gitea-runner.settings.runner: a table without labels expected; those are meshd's")
    own = {"file": config.registration} if config.registration and "file" not in runner else {}
    return {**config.settings, "runner": {**runner, **own, "labels": labels}}


def _registered(config: GiteaRunnerConfig, url: str) -> tuple[Command, ...]:
    """The file holds the runner's secret, so it is looked into by a program that prints nothing of it."""
    if not config.registration:
        return ()
    pattern = rf'"address": *"{re.escape(url)}/?"'
    why = f"not registered at {url}; wgctl service advise gitea-runner says how"
    return (Command(argv=("grep", "-q", "-E", pattern, config.registration), why=why),)
