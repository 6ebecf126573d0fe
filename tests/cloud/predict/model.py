"""A model behind an endpoint of SageMaker's runtime: it answers what a test can compute as well, and fails when it is told to."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


def predicted(asked: dict[str, Any]) -> float:
    """How many degrees the engine is above what its model of vehicle may have."""
    return asked["metrics"]["engine_temperature"] - asked["vehicle"].get("engine_max", 100)


class Model:
    def __init__(self) -> None:
        # Statuses that the next questions get, before any is answered.
        self.failures: list[int] = []
        self.asked: list[dict[str, Any]] = []
        model = self

        class Endpoint(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                (instance,) = json.loads(body)["instances"]
                status = model.failures.pop(0) if model.failures else 200
                model.asked.append({"path": self.path, "status": status} | instance)
                told = {"predictions": [{"degrees": predicted(instance)}]} if status == 200 else {"Message": "refused", "OriginalStatusCode": status}
                answer = json.dumps(told).encode()
                # What the model's own container says is told as an error of the service.
                self.send_response(200 if status == 200 else 424)
                if status != 200:
                    self.send_header("x-amzn-ErrorType", "ModelError")
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *arguments: Any) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def end(self) -> None:
        self._server.shutdown()
        self._server.server_close()
