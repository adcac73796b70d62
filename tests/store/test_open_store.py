from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from meshd.errors import ConfigError
from meshd.store.credentials import S3Credentials, read_credentials
from meshd.store.select import open_store

SECRET = "5ec4e7" * 10
CREDENTIALS = S3Credentials(access_key="GK0123", secret_key=SECRET)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "scheme ''"),
        ("/var/db/registry", "scheme ''"),
        ("ftp://host/path", "scheme 'ftp'"),
        ("https://host/bucket", "scheme 'https'"),
        ("file://registry", "absolute path"),
        ("file:registry", "absolute path"),
        ("file://host/registry", "absolute path"),
        ("file:///", "directory of its own"),
        ("file:///var/../etc", "directory of its own"),
        ("file:///var?x=1", "absolute path"),
        ("s3+https://host:3900", "bucket ''"),
        ("s3+https://host:3900/", "bucket ''"),
        ("s3+https://host:3900/a/b", "bucket 'a'"),
        ("s3+https://host/bucket//b", "prefix '/b'"),
        ("s3+https://host/bucket/a//b", "prefix 'a//b'"),
        ("s3+https://host/bucket/../b", r"prefix '\.\./b'"),
        ("s3+https://host/bucket/a%2fb", "prefix 'a%2fb'"),
        ("s3+https://host/bucket/" + "p/" * 129, "at most 256 characters"),
        ("s3+https://host/bucket?style=host", "style=host seen, path or virtual expected"),
        ("s3+https://192.0.2.1/bucket?style=virtual", "a name expected"),
        ("s3+https://[2001:db8::1]/bucket?style=virtual", "a name expected"),
        ("s3+https://host/my.bucket?style=virtual", "no certificate fits"),
        ("s3+https://host/bucket?style=virtual&logs=my.logs", "no certificate fits"),
        ("s3+https://host:3900/Bucket", "bucket 'Bucket'"),
        ("s3+https:///bucket", "no host"),
        ("s3+https://\0/bucket", "host"),
        ("s3+https://a b/bucket", "host"),
        ("s3+https://h\u00f6st/bucket", "host"),
        ("s3+https://host:99999/bucket", "[Pp]ort"),
        ("s3+https://host:x/bucket", "[Pp]ort"),
        ("s3+https://[::1/bucket", "IPv6"),
        ("s3+https://host/bucket?regoin=x", "regoin"),
        ("s3+https://host/bucket?region=", "region ''"),
        ("s3+https://host/bucket#x", "#"),
    ],
)
def test_a_bad_url_is_refused_by_name(url: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        open_store(url, CREDENTIALS)


def test_good_urls_open_without_a_request() -> None:
    assert open_store("file:///var/db/registry").url == "file:///var/db/registry"
    s3 = open_store("s3+https://[2001:db8::1]:3900/mesh-registry?region=eu", CREDENTIALS)
    assert s3.url == "s3+https://[2001:db8::1]:3900/mesh-registry"
    assert open_store("s3+http://host/mesh", CREDENTIALS).url == "s3+http://host:80/mesh"


def test_credentials_in_a_url_are_refused_and_not_repeated() -> None:
    for url in (f"s3+https://GK:{SECRET}@host/bucket", f"s3+https://GK:x/{SECRET}@host:y/bucket"):
        with pytest.raises(ConfigError) as caught:
            open_store(url, CREDENTIALS)
        assert SECRET not in str(caught.value)


def test_s3_without_credentials_says_so() -> None:
    with pytest.raises(ConfigError, match="no S3 credentials"):
        open_store("s3+https://host/bucket")


def test_a_directory_store_loads_no_s3_library() -> None:
    program = (
        "import sys; from meshd.store.select import open_store; open_store('file:///tmp/x');"
        "print(sorted({'botocore', 'urllib3'} & set(sys.modules)))"
    )
    printed = subprocess.check_output([sys.executable, "-c", program], text=True, timeout=60)
    assert printed.strip() == "[]"


def test_the_secret_key_is_in_no_repr() -> None:
    assert SECRET not in f"{CREDENTIALS} {CREDENTIALS!r}"
    assert CREDENTIALS.secret_key == SECRET


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_credentials_file_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "s3.json"
    path.write_text(f'{{"access_key": "GK1", "secret_key": "{SECRET}"}}')
    path.chmod(mode)
    with pytest.raises(ConfigError, match="0600 expected"):
        read_credentials(path)
    path.chmod(0o600)
    assert read_credentials(path) == S3Credentials(access_key="GK1", secret_key=SECRET)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        SECRET,
        f'{{"secret_key": "{SECRET}"}}',
        f'{{"access_key": 1, "secret_key": "{SECRET}"}}',
        f'{{"access_key": "a", "secret_key": "{SECRET}", "more": 1}}',
        '{"access_key": "", "secret_key": ""}',
        f'{{"access_key": "a", "secret_key": "{SECRET}',
    ],
)
def test_a_bad_credentials_file_is_named_and_not_quoted(tmp_path: Path, text: str) -> None:
    path = tmp_path / "s3.json"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(ConfigError, match=r"s3\.json") as caught:
        read_credentials(path)
    assert SECRET not in str(caught.value)


def test_a_missing_credentials_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"s3\.json: cannot be read: No such file"):
        read_credentials(tmp_path / "s3.json")
