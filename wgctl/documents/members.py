"""Documents about who is in the mesh: hosts, clients, and what was signed about them."""

from __future__ import annotations

import msgspec

from meshd.model.condition import Condition
from wgctl.documents.base import Document
from wgctl.views.explanation import Explanation
from wgctl.views.registry import HostRow, StatementRow


class HostList(Document, frozen=True, kw_only=True, tag="wgctl-list/1"):
    """``wgctl list``. ``current``: a store answered; False: as it was verified before."""

    mesh_id: str
    mesh_name: str
    generation: int
    root_version: int
    current: bool
    hosts: tuple[HostRow, ...]
    conditions: tuple[Condition, ...]


class StatementList(Document, frozen=True, kw_only=True, tag="wgctl-log/1"):
    """``wgctl log``: newest last."""

    mesh_id: str
    statements: tuple[StatementRow, ...]


class Explanations(Document, frozen=True, kw_only=True, tag="wgctl-explain/1"):
    """``wgctl explain`` of a host, a prefix or an address."""

    mesh_id: str
    explanations: tuple[Explanation, ...]


class ExplainedCondition(Document, frozen=True, kw_only=True, tag="wgctl-explain-condition/1"):
    """``wgctl explain`` of a condition: what docs/conditions.md has of it."""

    condition: str
    severity: str
    meaning: str
    remedy: str


class HostAdded(Document, frozen=True, kw_only=True, tag="wgctl-add-host/1"):
    """``wgctl add-host``. ``statement``: its number; null where it was granted before (``changed`` False).

    ``fingerprint``: of the host's identity. ``bundle``: the file written; null: none. ``running``: with
    --ssh, what the host's meshd says of itself.
    """

    name: str
    hid: str
    fingerprint: str
    addresses: tuple[str, ...]
    networks: tuple[str, ...]
    statement: int | None
    gen: int
    changed: bool
    bundle: str | None
    running: str | None
    root_fingerprint: str
    warnings: tuple[str, ...]


class ClientAdded(Document, frozen=True, kw_only=True, tag="wgctl-add-client/1"):
    """``wgctl add-client``. ``file``: with its settings. ``unreachable``: hosts without an endpoint."""

    name: str
    hid: str
    fingerprint: str
    addresses: tuple[str, ...]
    statement: int | None
    file: str
    hosts: tuple[str, ...]
    unreachable: tuple[str, ...]
    warnings: tuple[str, ...]


class ClientChecked(Document, frozen=True, kw_only=True, tag="wgctl-client-check/1"):
    """``wgctl client check``. ``wrong``: a line for each thing in the file that is out of date."""

    name: str
    is_right: bool
    wrong: tuple[str, ...]


class HostRemoved(Document, frozen=True, kw_only=True, tag="wgctl-remove-host/1"):
    """``wgctl remove-host``. ``statement``: null where it was revoked before. ``s3_key``: what became of
    its key for the store, for people."""

    name: str
    hid: str
    statement: int | None
    changed: bool
    s3_key: str


class Endorsed(Document, frozen=True, kw_only=True, tag="wgctl-endorse/1"):
    """``wgctl endorse``. ``endorsed``, ``waiting``: hashes; those that wait need more administrators."""

    endorsed: tuple[str, ...]
    statements: tuple[int, ...]
    waiting: tuple[str, ...]


class AskedHost(msgspec.Struct, frozen=True, kw_only=True):
    """``changed``: it had not been asked before."""

    name: str
    hid: str
    changed: bool


class RotationAsked(Document, frozen=True, kw_only=True, tag="wgctl-rotate-keys/1"):
    """``wgctl rotate-keys``. ``not_before``: unix seconds; keys that are older are replaced."""

    all: bool
    not_before: int
    statements: tuple[int, ...]
    changed: bool
    hosts: tuple[AskedHost, ...]


class Drafted(Document, frozen=True, kw_only=True, tag="wgctl-drafted/1"):
    """A verb that signs, with ``--draft``. ``digest``: to read to whoever signs it."""

    file: str
    operations: int
    digest: str
