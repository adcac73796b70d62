"""A daemon is loaded without TLS, and speaks it all the same with a store or a service that asks for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from scripted_s3 import ScriptedServer, answer
from tls_front import Authority, TlsFront, make_authority, serving

PROGRAM = """
import sys
from meshd.daemon.main import load_daemon
load_daemon()
assert "ssl" not in sys.modules

from meshd.errors import StoreError
from meshd.services.actions import run
from meshd.services.plan import HttpGet
from meshd.services.pushes import Request, send
from meshd.store.credentials import S3Credentials
from meshd.store.s3 import S3Location, S3Store

port = int(sys.argv[1])
url = f"https://127.0.0.1:{port}/"

def ask_service():
    try:
        return run(HttpGet(url=url, timeout_seconds=30), {}) or "good"
    except OSError as error:
        return error

def ask_store():
    location = S3Location(secure=True, host="127.0.0.1", port=port, bucket="mesh")
    store = S3Store(location, S3Credentials(access_key="a", secret_key="s"))
    try:
        return store.get("a").body.decode()
    except StoreError as error:
        return error

print(ask_service())
print(send(Request(url=url, shown="webhook"), 30).problem or "good")
print(ask_store())
"""


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return make_authority(tmp_path, "IP:127.0.0.1")


def say(port: int, **environment: str) -> list[str]:
    """In a process of its own: this one has TLS."""
    program = [sys.executable, "-c", PROGRAM, str(port)]
    given = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    done = subprocess.run(program, env={**given, **environment}, capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow
def test_it_is_spoken_with_whose_certificate_is_good_and_with_nobody_else(authority: Authority) -> None:
    server = ScriptedServer()
    server.script = lambda connection, head: connection.sendall(answer("200 OK", b"good", 'ETag: "e"'))
    front = TlsFront(authority, server.server_address[1])
    with serving(server), serving(front):
        assert say(front.port, SSL_CERT_FILE=str(authority.certificate)) == ["good"] * 3
        heard = len(server.requests)
        refused = say(front.port)
        assert len(refused) == 3 and all("certificate verify failed" in line for line in refused)
        assert len(server.requests) == heard == 3, "nothing is told to who is not known"
