"""The module ``nextcloud`` with the real PHP: what would break every page, or believe anybody, is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from real_service import need, open_folder
from service_rig import NOW
from six_hosts import six_hosts

from meshd.errors import ConfigError
from meshd.services.config import read_modules
from meshd.services.journal import Journal
from meshd.services.modules.nextcloud import Nextcloud, NextcloudConfig
from meshd.services.schedule import Outcome
from meshd.services.transaction import Report, Transaction

FILE = "/var/www/nextcloud/config/mesh.config.php"


@pytest.fixture
def folder() -> Iterator[Path]:
    need("php")
    with open_folder() as made:
        yield made


def apply(folder: Path, edit: tuple[str, str] = ("", ""), **table: Any) -> Report:
    """``edit``: what is put in place of what in the rendered text."""
    own = {"file": f"{folder}/mesh.config.php", "proxies": ["app"], **table}
    config = read_modules({"nextcloud": own}, "test")["nextcloud"]
    plan = Nextcloud().render(six_hosts(), msgspec.convert(dict(config.own), NextcloudConfig))
    [file] = plan.files
    text = file.text.replace(*edit) if edit[0] else file.text
    plan = msgspec.structs.replace(plan, files=(msgspec.structs.replace(file, text=text),))
    transaction = Transaction(config=config, journal=Journal(folder / "state"))
    return transaction.apply(plan, six_hosts(), "input", now=NOW)


@pytest.mark.real
@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (("<?php", "# meshd: a comment\n<?php"), "it prints before any page"),
        (("<?php", "\ufeff<?php"), "it prints before any page"),
        (("];", "]"), "Parse error"),
        (("10.17.4.5", "10.17.0.0/16"), "expected in its output"),
        (("'trusted_proxies' => [", "'trusted_proxies' => ['0.0.0.0/0', "), "expected in its output"),
    ],
)
def test_what_would_break_every_page_or_believe_everybody_is_never_in_place(
    folder: Path, edit: tuple[str, str], said: str
) -> None:
    report = apply(folder, edit)
    assert report.outcome is Outcome.REFUSED and said in report.reason, report
    assert not (folder / "mesh.config.php").exists()


@pytest.mark.real
def test_a_file_that_php_takes_is_in_place_and_only_its_group_reads_it(folder: Path) -> None:
    assert apply(folder, database="127.0.0.1:5432").outcome is Outcome.APPLIED
    file = folder / "mesh.config.php"
    assert file.read_text().startswith("<?php\n") and file.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"file": "/srv/config/mesh.php"}, "ending in .config.php"),
        ({"cache": "cache"}, "3 places, one expected"),
        ({"cache": "app"}, "redis expected"),
        ({"database": "pg.example.org"}, "nextcloud.database"),
    ],
)
def test_settings_that_nextcloud_could_not_mean_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Nextcloud().render(six_hosts(), NextcloudConfig(**{"file": FILE, **settings}))


def test_a_service_that_is_not_declared_is_believed_nothing() -> None:
    plan = Nextcloud().render(six_hosts(), NextcloudConfig(file=FILE, proxies=("nothing",)))
    assert "'trusted_proxies' => []" in plan.files[0].text and "nothing" in plan.notes[0]
