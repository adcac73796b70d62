"""ZFS replication by syncoid: a cron file, and whose SSH key may come from which mesh address.

syncoid pushes over SSH. Both ends' keys stand in the signed placements, so that nobody is asked whether an
unknown host key is right, and a stolen client key is of no use from elsewhere.
"""

from __future__ import annotations

import re
from typing import ClassVar, Final

import msgspec

from meshd.errors import ConfigError
from meshd.services.module import MODULE_API
from meshd.services.plan import Command, File, ServicePlan
from meshd.services.replication import (
    Topology,
    addresses_of,
    check_dataset,
    near_copies,
    own_placement,
    sources_of,
    targets_of,
)
from meshd.services.view import PlacementView, ServiceView

KIND: Final = "syncoid"
HOST_KEY_TAG: Final = "ssh_host_key"
CLIENT_KEY_TAG: Final = "ssh_key"
ROOT_TAG: Final = "root_fs"
_KEY: Final = re.compile(
    r"(ssh-ed25519|ecdsa-sha2-nistp(256|384|521)|sk-ssh-ed25519@openssh\.com) [A-Za-z0-9+/]{40,}={0,2}"
)
_WORD: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.,:=@/+-]*")
_OPTION: Final = re.compile(r"--[a-z][a-z-]*(=[A-Za-z0-9_.,:=@/+-]+)?")
_SCHEDULE: Final = re.compile(r"[0-9*/,-]+( [0-9*/,-]+){4}")


class SyncoidConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``replicate``: the service, of kind syncoid; its port is SSH's. ``file``: for cron(8), with a user's
    name. ``directory``: of known_hosts and authorized_keys. ``datasets``: what is sent. ``key``: path of this
    host's private key. ``user``: as whom it comes in at the other host.
    """

    file: str
    directory: str
    replicate: str = "syncoid"
    topology: Topology = "ring"
    datasets: tuple[str, ...] = ()
    key: str = "/root/.ssh/id_ed25519"
    user: str = "backup"
    schedule: str = "15 * * * *"
    program: str = "/usr/local/bin/syncoid"
    options: tuple[str, ...] = ("--recursive", "--no-sync-snap")


class Syncoid:
    name: ClassVar[str] = "syncoid"
    api: ClassVar[int] = MODULE_API
    config_model: ClassVar[type[msgspec.Struct]] = SyncoidConfig

    def render(self, view: ServiceView, config: SyncoidConfig) -> ServicePlan:
        _check_config(config)
        service, own = own_placement(view, config.replicate, KIND, "syncoid")
        targets = targets_of(service, own, config.topology)
        sources = sources_of(service, own, config.topology)
        known = [each for each in targets if _key(each, HOST_KEY_TAG) and each.tags.get(ROOT_TAG)]
        allowed = [each for each in sources if _key(each, CLIENT_KEY_TAG)]
        files = (
            File(path=config.file, text=_cron(config, own, known)),
            File(path=f"{config.directory}/known_hosts", text=_known_hosts(known)),
            File(path=f"{config.directory}/authorized_keys", text=_authorized_keys(view, allowed)),
        )
        return ServicePlan(
            files=files,
            checks=tuple(
                Command(argv=("ssh-keygen", "-l", "-f", f"{{staged:{file.path}}}"))
                for file in files[1:]
                if file.text
            ),
            endpoints=tuple(each.id for each in (own, *targets, *sources)),
            services=(service.name,),
            notes=(*near_copies(view, own, targets), *_unready(targets, known, sources, allowed)),
        )


def _cron(config: SyncoidConfig, own: PlacementView, targets: list[PlacementView]) -> str:
    """A line for each dataset and target. Two runs into one dataset would get in each other's way."""
    lines = ["PATH=/sbin:/bin:/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin\n"]
    for target in targets:
        if ":" in target.address:
            raise ConfigError(f"{target.id}: syncoid takes no IPv6 address for a host; an IPv4 one expected")
        root = target.tags[ROOT_TAG]
        check_dataset(root, f"{target.id}: tag {ROOT_TAG}")
        for dataset in config.datasets:
            words = [config.schedule, "root", config.program, *config.options, *_ssh(config, target)]
            if config.user != "root":
                words.append("--no-privilege-elevation")
            words += [f"--identifier={own.host}", dataset]
            words.append(f"{config.user}@{target.address}:{root}/{own.host}/{_leaf(dataset)}")
            lines.append(" ".join(words) + "\n")
    return "".join(lines)


def _ssh(config: SyncoidConfig, target: PlacementView) -> list[str]:
    options = (
        f"UserKnownHostsFile={config.directory}/known_hosts",
        "GlobalKnownHostsFile=/dev/null",
        "StrictHostKeyChecking=yes",
        "IdentitiesOnly=yes",
        "BatchMode=yes",
        "ConnectTimeout=20",
        "ServerAliveInterval=30",
    )
    return [
        f"--sshkey={config.key}",
        f"--sshport={target.port}",
        *(f"--sshoption={option}" for option in options),
    ]


def _known_hosts(targets: list[PlacementView]) -> str:
    """sshd(8), SSH_KNOWN_HOSTS FILE FORMAT."""
    return "".join(
        f"{each.address if each.port == 22 else f'[{each.address}]:{each.port}'} {_key(each, HOST_KEY_TAG)}\n"
        for each in targets
    )


def _authorized_keys(view: ServiceView, sources: list[PlacementView]) -> str:
    """sshd(8), AUTHORIZED_KEYS FILE FORMAT: ``from`` takes addresses, ``restrict`` all but a command."""
    return "".join(
        f'from="{",".join(addresses_of(view, each))}",restrict {_key(each, CLIENT_KEY_TAG)} {each.host}\n'
        for each in sources
    )


def _key(place: PlacementView, tag: str) -> str:
    """As signed, without a comment; empty: nobody has said it yet."""
    found = " ".join(place.tags.get(tag, "").split()[:2])
    if found and _KEY.fullmatch(found) is None:
        raise ConfigError(
            f"{place.id}: tag {tag}={found[:30]!r} seen, a public key expected, as ssh-ed25519 AAAA..."
        )
    return found


def _leaf(dataset: str) -> str:
    """The dataset as one name below this host's own: two pools may have the same one."""
    return dataset.replace("/", "-")


def _unready(
    targets: tuple[PlacementView, ...],
    known: list[PlacementView],
    sources: tuple[PlacementView, ...],
    allowed: list[PlacementView],
) -> list[str]:
    found = [
        f"{each.host} gets no copy yet: tags {HOST_KEY_TAG} and {ROOT_TAG} of its placement are needed: "
        f"wgctl service place {each.host}/{each.service} --tag {ROOT_TAG}=POOL/NAME --tag {HOST_KEY_TAG}=..."
        for each in targets
        if each not in known
    ]
    found += [
        f"{each.host} may not come in yet: tag {CLIENT_KEY_TAG} of its placement is needed"
        for each in sources
        if each not in allowed
    ]
    return found


def _check_config(config: SyncoidConfig) -> None:
    """What stands in a cron line is read by a shell, so only plain words go there."""
    if _SCHEDULE.fullmatch(config.schedule) is None:
        raise ConfigError(
            f"syncoid.schedule: {config.schedule[:40]!r} seen, five fields of crontab(5) expected"
        )
    for dataset in config.datasets:
        check_dataset(dataset, "syncoid.datasets")
    for key, text in (("user", config.user), ("key", config.key[1:]), ("program", config.program[1:])):
        if _WORD.fullmatch(text) is None:
            raise ConfigError(f"syncoid.{key}: {text[:40]!r} seen, a plain word expected")
    if _WORD.fullmatch(config.directory[1:]) is None:
        raise ConfigError(f"syncoid.directory: {config.directory[:60]!r} seen, a plain path expected")
    for option in config.options:
        if _OPTION.fullmatch(option) is None:
            raise ConfigError(
                f"syncoid.options: {option[:40]!r} seen, as --recursive or --compress=lz4 expected"
            )
