"""From readings to a model's answer in the vehicle's item: what is decided, and all of it on an emulator of AWS."""

import json
import os
import random
import subprocess
import tempfile
import unittest
from decimal import Decimal
from pathlib import Path
from typing import Any

from answers.decisions import Question, answer, question
from answers.handler import Refused, is_final
from answers.handler import process as answer_all
from emulated import Emulator
from merging import merged, readings, update
from model import Model
from process import Target, store
from programs import ENVIRONMENT, REGION, ROOT, wait_for

KEEP_S = 7 * 86_400


def reading(device: str, metric: str, value: Any, at: int, **fields: Any) -> bytes:
    said = {"v": 1, "type": "reading", "gateway": "truck-0042", "run": "0" * 16, "position": 1, "device": device, "metric": metric, "value": value}
    return json.dumps(said | {"measured_at_ms": at} | fields).encode() + b"\n"


def change(number: int, source: str, at: int, kind: str = "MODIFY", **attributes: dict[str, Any]) -> dict[str, Any]:
    """As Lambda gets it from the table's stream."""
    image = {"source": {"S": source}, "measured_at_ms": {"N": str(at)}, "metric:engine_temperature": {"N": "95.5"}, "vehicle": {"M": {"engine_max": {"N": "90"}}}}
    return {"eventName": kind, "dynamodb": {"SequenceNumber": str(number)} | ({"NewImage": image | attributes} if kind != "REMOVE" else {})}


class Merging(unittest.TestCase):
    def test_only_readings_with_a_number_count(self) -> None:
        lines = [reading("t", "speed", 7, 1), b"no JSON\n", b"[1]\n", reading("t", "speed", None, 2), reading("t", "speed", True, 3), b'{"type":"alert"}\n']
        self.assertEqual([each["value"] for each in readings(b"".join(lines))], [7])
        self.assertEqual(list(readings(None)), [])

    def test_the_order_of_a_batch_and_repeats_make_no_difference(self) -> None:
        lines = [reading(f"t{at % 3}", f"m{at % 4}", at, at) for at in range(60)]
        expected = {state.source: (state.measured_at_ms, state.latest) for state in merged(lines)}
        for seed in range(20):
            shuffled = lines + lines[:20]
            random.Random(seed).shuffle(shuffled)
            self.assertEqual({state.source: (state.measured_at_ms, state.latest) for state in merged(shuffled)}, expected)

    def test_an_update_names_what_is_reserved_and_keeps_numbers(self) -> None:
        (state,) = merged([reading("t", "size", 0.1, 5), reading("t", "name of metric", -3, 4), reading("t", "huge", 1e300, 3)])
        made = update("states", state, {"model": "sprinter", "engine_max": 90, "leased": True, "since": None}, 1_000, 60)
        values, names = made["ExpressionAttributeValues"], made["ExpressionAttributeNames"]
        self.assertEqual({names[f"#m{at}"]: values[f":m{at}"] for at in range(3)}, {"metric:huge": {"N": "0"}, "metric:name of metric": {"N": "-3"}, "metric:size": {"N": "0.1"}})
        self.assertEqual((values[":expires"], values[":at"]), ({"N": "1060"}, {"N": "5"}))
        self.assertEqual(values[":vehicle"]["M"], {"model": {"S": "sprinter"}, "engine_max": {"N": "90"}, "leased": {"BOOL": True}, "since": {"NULL": True}})


class Memory:
    """Services of the function; asking fails as long as there are failures."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.asked: list[dict[str, Any]] = []
        self.kept: dict[str, dict[str, Any]] = {}

    def ask(self, body: str) -> bytes:
        self.asked += json.loads(body)["instances"]
        if self.failures:
            raise self.failures.pop(0)
        return b'{"predictions": [{"degrees": 5.5}]}'

    def keep(self, asked: Question, changes: dict[str, Any]) -> None:
        self.kept[asked.source] = changes


class Answering(unittest.TestCase):
    def test_the_latest_of_each_vehicle_is_asked_about_once(self) -> None:
        services = Memory()
        done = answer_all([change(1, "a", 1), change(2, "b", 1), change(3, "a", 2), change(4, "c", 9, kind="REMOVE")], services)
        self.assertEqual(done, {"batchItemFailures": []})
        self.assertEqual([(each["source"], each["measured_at_ms"]) for each in services.asked], [("a", 2), ("b", 1)])
        self.assertEqual(services.asked[0]["metrics"], {"engine_temperature": 95.5})
        self.assertEqual(services.kept["a"], {"predicted_for": 2, "prediction": {"degrees": Decimal("5.5")}})

    def test_an_answer_asks_nothing(self) -> None:
        services = Memory()
        answer_all([change(1, "a", 7, predicted_for={"N": "7"})], services)
        self.assertEqual(services.asked, [])
        self.assertIsNotNone(question(change(1, "a", 8, predicted_for={"N": "7"})), "it was heard since")

    def test_what_fails_comes_again_from_its_first_change_on(self) -> None:
        batch = [change(1, "a", 1), change(2, "b", 1), change(3, "c", 1), change(4, "b", 2)]
        services = Memory()
        services.failures = []
        calls = iter([None, OSError("the endpoint is busy")])

        def ask(body: str) -> bytes:
            failure = next(calls, None)
            if failure:
                raise failure
            return Memory.ask(services, body)

        services.ask = ask  # type: ignore[method-assign]
        with self.assertLogs(level="ERROR"):
            self.assertEqual(answer_all(batch, services), {"batchItemFailures": [{"itemIdentifier": "2"}]})
        self.assertEqual(set(services.kept), {"a"})
        self.assertEqual(answer_all(batch[1:], services), {"batchItemFailures": []})
        self.assertEqual({source: kept["predicted_for"] for source, kept in services.kept.items()}, {"a": 1, "b": 2, "c": 1})

    def test_what_the_model_refuses_is_written_down_and_holds_nobody_back(self) -> None:
        services = Memory(Refused("no such metric"))
        self.assertEqual(answer_all([change(1, "a", 1), change(2, "b", 1)], services), {"batchItemFailures": []})
        self.assertEqual((services.kept["a"]["prediction"], "degrees" in services.kept["b"]["prediction"]), ({"error": "no such metric"}, True))

    def test_only_what_the_model_itself_refuses_is_not_asked_again(self) -> None:
        for code, status, expected in [
            ("ModelError", 400, True),
            ("ModelError", 422, True),
            ("ModelError", 408, False),
            ("ModelError", 429, False),
            ("ModelError", 500, False),
            # The endpoint may be deployed yet.
            ("ValidationError", 400, False),
            ("ThrottlingException", 429, False),
        ]:
            told = {"Error": {"Code": code, "Message": ""}, "OriginalStatusCode": status}
            self.assertEqual(is_final(told), expected, (code, status))

    def test_an_answer_that_is_none_is_an_error(self) -> None:
        for body in (b"{}", b"[]", b'{"predictions": []}', b'{"predictions": [{"x": NaN}]}', b"busy"):
            with self.assertRaises(ValueError, msg=body):
                answer(body)


class Deployed(unittest.TestCase):
    """The stack on an emulator. What the job does with a part of a batch is done here; Glue itself is not there."""

    def test_each_vehicle_gets_the_models_answer_to_its_latest_state(self) -> None:
        folder = Path(self.enterContext(tempfile.TemporaryDirectory(prefix="outrider-predict-")))
        emulator, model = Emulator(folder), Model()
        self.addCleanup(emulator.end)
        self.addCleanup(model.end)
        vehicles = folder / "vehicles.json"
        known = {f"van-{number}": {"model": "sprinter", "engine_max": 80 + number} for number in range(5)}
        vehicles.write_text("".join(json.dumps({"device": device} | rest) + "\n" for device, rest in known.items()))
        where = ["--endpoint", emulator.url]
        options = ["--model", "engine", "--model-url", model.url, "--vehicles", str(vehicles)]
        self.assertIn("cloud/deploy comes first", cloud("predict/deploy", *where, *options).stderr)
        for command, more in (("deploy", []), ("predict/deploy", options)):
            deployed = cloud(command, *where, *more)
            self.assertEqual(deployed.returncode, 0, deployed.stderr)
        stack = emulator.client("cloudformation").describe_stacks(StackName="outrider-predict")["Stacks"][0]
        table = {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}["StatesTable"]
        dynamodb = emulator.client("dynamodb")

        # The model's container fails at first, and refuses one for good.
        model.failures = [500, 422]
        target = Target(table, REGION, emulator.url, KEEP_S)
        os.environ |= ENVIRONMENT
        for at in (1_000, 2_000):
            lines = [reading(device, "engine_temperature", 85.5 + at / 1_000, at) + reading(device, "speed", at, at) for device in known]
            self.assertEqual(store(lines, known, target), len(known))
        # An older batch is done again, and changes nothing.
        store([reading("van-0", "engine_temperature", 20, 1_500)], known, target)

        def answered() -> dict[str, Any] | None:
            items = dynamodb.scan(TableName=table)["Items"]
            done = {item["source"]["S"]: item for item in items if item.get("predicted_for") == item["measured_at_ms"]}
            return done if len(done) == len(known) else None

        items = wait_for("all answers", answered, 180) or {}
        told = {source: item["prediction"]["M"] for source, item in items.items()}
        refused = {source for source, prediction in told.items() if "error" in prediction}
        self.assertLessEqual(len(refused), 1)
        for number, device in enumerate(known):
            source = f"truck-0042/{device}"
            if source not in refused:
                self.assertEqual(float(told[source]["degrees"]["N"]), 87.5 - (80 + number), source)
            self.assertEqual(items[source]["metric:speed"], {"N": "2000"})
            self.assertEqual(items[source]["vehicle"]["M"]["engine_max"], {"N": str(80 + number)})
        self.assertTrue(all(asked["path"] == "/endpoints/engine/invocations" for asked in model.asked))
        self.assertEqual([asked["status"] for asked in model.asked[:2]], [500, 422])
        count = len(model.asked)
        self.assertLessEqual(count, 2 * len(known) + 2 * len(known), "answers ask questions")
        self.assertIn("the stack outrider-predict is removed", cloud("destroy", *where).stdout)


def cloud(command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([ROOT / "cloud" / command, *arguments], env=os.environ | ENVIRONMENT, capture_output=True, text=True, timeout=300)


if __name__ == "__main__":
    unittest.main()
