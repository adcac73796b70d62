"""One real Garage on loopback, for tests: found by tools/garage.sh, started, ended by its pid."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import time
from pathlib import Path

import pytest
from ports import free_port

from meshd.store.credentials import S3Credentials
from meshd.store.s3 import S3Location, S3Store

GARAGE_SCRIPT = Path(__file__).resolve().parents[2] / "tools" / "garage.sh"
START_TIMEOUT_SECONDS = 30.0
S3_DOMAIN = "s3.test"
"""A bucket is also the host below this name, as ``style=virtual`` asks for it."""


def find_garage() -> tuple[Path | None, str]:
    done = subprocess.run([str(GARAGE_SCRIPT)], capture_output=True, text=True, timeout=30, check=False)
    return (Path(done.stdout.strip()), "") if done.returncode == 0 else (None, done.stderr.strip())


def require_garage() -> Path:
    """The binary; without one the test is left out, or fails where the real thing is required."""
    binary, reason = find_garage()
    if binary is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"the real Garage is required here: {reason}")
        pytest.skip(f"no garage binary: {reason}")
    return binary


class GarageNode:
    """One single-node Garage on loopback with one bucket; ended by its pid."""

    bucket = "mesh-registry"

    def __init__(self, binary: Path, directory: Path) -> None:
        self.binary = binary
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self.credentials = S3Credentials(
            access_key="GK" + secrets.token_hex(12), secret_key=secrets.token_hex(32)
        )
        self.admin_token = secrets.token_hex(16)
        rpc_port, self.port, admin_port = free_port(), free_port(), free_port()
        self.admin_url = f"http://127.0.0.1:{admin_port}"
        self._config = directory / "garage.toml"
        self._config.write_text(
            f'metadata_dir = "{directory}/meta"\n'
            f'data_dir = "{directory}/data"\n'
            'db_engine = "sqlite"\n'
            "replication_factor = 1\n"
            f'rpc_bind_addr = "127.0.0.1:{rpc_port}"\n'
            f'rpc_public_addr = "127.0.0.1:{rpc_port}"\n'
            f'rpc_secret = "{secrets.token_hex(32)}"\n'
            "[s3_api]\n"
            's3_region = "garage"\n'
            f'root_domain = ".{S3_DOMAIN}"\n'
            f'api_bind_addr = "127.0.0.1:{self.port}"\n'
            "[admin]\n"
            f'api_bind_addr = "127.0.0.1:{admin_port}"\n'
            f'admin_token = "{self.admin_token}"\n'
        )
        self._config.chmod(0o600)

    @property
    def url(self) -> str:
        return f"s3+http://127.0.0.1:{self.port}/{self.bucket}?region=garage"

    def location(self, *, bucket: str = "", region: str = "garage", prefix: str = "") -> S3Location:
        bucket = bucket or self.bucket
        return S3Location(
            secure=False, host="127.0.0.1", port=self.port, bucket=bucket, prefix=prefix, region=region
        )

    def open(self) -> S3Store:
        return S3Store(self.location(), self.credentials)

    def start(self) -> None:
        environment = {
            **os.environ,
            "GARAGE_DEFAULT_ACCESS_KEY": self.credentials.access_key,
            "GARAGE_DEFAULT_SECRET_KEY": self.credentials.secret_key,
            "GARAGE_DEFAULT_BUCKET": self.bucket,
            "RUST_LOG": "garage=warn",
        }
        with (self._directory / "garage.log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(self.binary), "-c", str(self._config), "server", "--single-node", "--default-bucket"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
            )
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                log_text = (self._directory / "garage.log").read_text(errors="replace")[-2000:]
                self.stop()
                raise RuntimeError(f"garage does not answer on port {self.port}:\n{log_text}")
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return True
        except OSError:
            return False

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(timeout=10)
            self._process = None
