"""An emulator of AWS."""

import socket
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import boto3
from programs import ENVIRONMENT, REGION, Program, wait_for


class Emulator(Program):
    """ministack on a free port, with its files in a folder of the test."""

    def __init__(self, folder: Path, program: str = "-m ministack", **more: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        own = {
            "GATEWAY_PORT": str(port),
            "BIND_HOST": "127.0.0.1",
            "TMPDIR": str(folder),
            "S3_DATA_DIR": str(folder / "s3"),
            "MINISTACK_REGION": REGION,
            # Its broker listens on a port of its own, on all addresses.
            "IOT_MTLS_ENABLED": "0",
        }
        self.url = f"http://127.0.0.1:{port}"
        self.log = folder / "emulator.log"
        super().__init__(["/bin/sh", "-c", f'exec "{sys.executable}" {program} >&2'], self.log, ENVIRONMENT | own | more)
        wait_for("the emulator", self._answers)

    def _answers(self) -> bool:
        assert self.process.poll() is None, f"the emulator ended; see {self.log.read_text()[-2000:]}"
        try:
            with urllib.request.urlopen(f"{self.url}/_ministack/health", timeout=2):
                return True
        except (urllib.error.URLError, OSError):
            return False

    def client(self, service: str) -> Any:
        session = boto3.session.Session(ENVIRONMENT["AWS_ACCESS_KEY_ID"], ENVIRONMENT["AWS_SECRET_ACCESS_KEY"], region_name=REGION)
        return session.client(service, endpoint_url=self.url)
