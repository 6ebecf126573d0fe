"""A real OpenSearch, which may be killed and started again."""

import json
import os
import shutil
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from programs import Program, free_ports, wait_for

SETTINGS = """
discovery.type: single-node
http.port: {port}
transport.port: 0
network.host: 127.0.0.1
# The machine's disk is none of this test's business.
cluster.routing.allocation.disk.threshold_enabled: false
"""


class OpenSearch:
    def __init__(self, folder: Path) -> None:
        self._log = folder / "opensearch.log"
        self._home = folder / "opensearch"
        shutil.copytree(os.environ["OPENSEARCH_INSTALLED"], self._home)
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        with (self._home / "config/opensearch.yml").open("a") as file:
            file.write(SETTINGS.format(port=port))
        self._user: list[str] = []
        if os.geteuid() == 0:
            # OpenSearch refuses to run as root.
            self._user = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
            for path in [folder, *self._home.rglob("*")]:
                path.chmod(0o755)
                if path != folder:
                    shutil.chown(path, "nobody", "nogroup")
            shutil.chown(self._home, "nobody", "nogroup")
        self.start()

    def start(self) -> None:
        home = os.environ.get("JAVA_HOME") or str(Path(shutil.which("java") or "").resolve().parents[1])
        environment = {"OPENSEARCH_JAVA_HOME": home, "OPENSEARCH_JAVA_OPTS": "-Xms512m -Xmx512m", "HOME": str(self._home)}
        program = ["/bin/sh", "-c", 'exec "$@" >&2', "sh", *self._user, "bash", str(self._home / "bin/opensearch")]
        self._program = Program(program, self._log, environment)
        wait_for("OpenSearch", self._answers, 180)

    def _answers(self) -> bool:
        assert self._program.process.poll() is None, f"OpenSearch ended: {self._log.read_text()[-3000:]}"
        try:
            return self.call("GET", "/_cluster/health?wait_for_status=green&timeout=1s")["status"] == "green"
        except (OSError, KeyError):
            return False

    @property
    def pid(self) -> int:
        return self._program.process.pid

    def kill(self) -> None:
        self._program.process.kill()
        self._program.end()

    def end(self) -> None:
        self._program.end()

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        try:
            with urlopen(Request(self.url + path, data, {"Content-Type": "application/json"}, method=method), timeout=60) as answer:
                return json.load(answer)
        except HTTPError as error:
            return json.load(error)

    def count(self, indices: str) -> int:
        self.call("POST", f"/{indices}/_refresh?allow_no_indices=true")
        return self.call("GET", f"/{indices}/_count")["count"]

    def documents(self, indices: str) -> list[dict[str, Any]]:
        """All of them, as OpenSearch has them, with their ids."""
        self.call("POST", f"/{indices}/_refresh")
        page = self.call("GET", f"/{indices}/_search?scroll=1m&size=5000")
        found = []
        while page["hits"]["hits"]:
            found += page["hits"]["hits"]
            page = self.call("POST", "/_search/scroll", {"scroll": "1m", "scroll_id": page["_scroll_id"]})
        return found
