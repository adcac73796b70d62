"""A registry that somebody carried here: verified again, and added to what this home knows."""

from __future__ import annotations

from meshd.errors import ConfigError, RegistryError
from meshd.registry.admission import Admission
from meshd.registry.export import open_export
from wgctl.admin.session import AdminSession


def take_in(session: AdminSession, text: str, what: str) -> list[Admission]:
    """Make an export part of the session's registry and keep it; nothing known is taken away by it.

    ``what`` names it in errors: ConfigError for another mesh, RegistryError for one that does not
    verify. Nothing has changed then.
    """
    theirs, export = open_export(text)
    ours = session.ledger
    if theirs.mesh_id != ours.mesh_id:
        raise ConfigError(
            f"{what}: mesh {theirs.mesh_id} seen, {ours.mesh_id} expected: this home is in "
            f"{session.home.mesh.mesh_name}"
        )
    # Host records last, as the statements before them are what verifies them.
    objects = sorted(theirs.objects(), key=lambda item: item[0].startswith("host/"))
    admissions = [ours.offer(key, body) for key, body in objects]
    admissions += [ours.offer(key, body.encode()) for key, body in export.proposed]
    refused = [each for each in admissions if each.outcome == "refused" and each.key.startswith("root/")]
    if refused:
        raise RegistryError(f"{what}: {refused[0].key}: {refused[0].reason}")
    # Kept before any store is asked: a proposed root lives nowhere else until it is published.
    session.keep_proposals()
    session.cache.save(ours)
    return admissions
