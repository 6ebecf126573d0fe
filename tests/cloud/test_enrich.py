"""What is offered at a place: by the function in the cloud and by the same rule at the edge, of the same messages."""

import base64
import json
import random
import tempfile
import unittest
from pathlib import Path
from typing import Any

from emulated import Emulator
from enrich.handler import load, process
from programs import REGION, start_gateway, wait_for
from publishing import publish

# A square with a hole, a triangle over its corner, and a zone of two parts without an offer.
ZONES = {
    "type": "FeatureCollection",
    "features": [
        {
            "type": "Feature",
            "properties": {"name": "harbour"},
            "geometry": {
                "type": "Polygon",
                "coordinates": [
                    [[8.0, 53.0], [8.4, 53.0], [8.4, 53.4], [8.0, 53.4], [8.0, 53.0]],
                    [[8.1, 53.1], [8.2, 53.1], [8.2, 53.2], [8.1, 53.2], [8.1, 53.1]],
                ],
            },
        },
        {"type": "Feature", "properties": {"name": "city"}, "geometry": {"type": "Polygon", "coordinates": [[[8.3, 53.3], [8.6, 53.3], [8.3, 53.6], [8.3, 53.3]]]}},
        {
            "type": "Feature",
            "properties": {"name": "islands"},
            "geometry": {
                "type": "MultiPolygon",
                "coordinates": [
                    [[[7.0, 53.7], [7.1, 53.7], [7.1, 53.8], [7.0, 53.8], [7.0, 53.7]]],
                    [[[7.3, 53.7], [7.4, 53.7], [7.4, 53.8], [7.3, 53.8], [7.3, 53.7]]],
                ],
            },
        },
    ],
}
OFFERS = "zone,text,mbit\nharbour,Fibre at the quay,1000\ncity,Cable,250\n"
RULES = """
[rules]
zones = "zones.geojson"
[[table]]
name = "offers"
file = "offers.csv"
key = "zone"
[[stream]]
name = "positions"
[[stream]]
name = "offered"
[[rule]]
name = "positions"
sql = "SELECT * FROM 'vehicles/+/position'"
stream = "positions"
[[rule]]
name = "offered"
sql = "SELECT *, zone(latitude, longitude) AS zone, lookup(offers, zone(latitude, longitude)) AS offer FROM 'vehicles/+/position'"
stream = "offered"
"""
COUNT = 400


def positions() -> list[dict[str, Any]]:
    """Anywhere, and on corners, edges and their continuations, where rounding would tell two ways of computing apart."""
    draw = random.Random(7)
    on = [8.0, 8.1, 8.2, 8.3, 8.4, 8.6, 7.0, 7.05, 7.1, 7.35], [53.0, 53.1, 53.15, 53.2, 53.3, 53.4, 53.45, 53.6, 53.72, 53.75]
    anywhere = [{"latitude": draw.uniform(52.9, 53.9), "longitude": draw.uniform(6.9, 8.7)} for _ in range(COUNT // 2)]
    chosen = [{"latitude": draw.choice(on[1]), "longitude": draw.choice(on[0])} for _ in range(COUNT // 2 - 4)]
    odd = [{"latitude": 91, "longitude": 8.05}, {"latitude": "53.05", "longitude": 8.05}, {"latitude": 53.45000000049, "longitude": 8.45}, {"latitude": 53.05, "longitude": 8}]
    return [each | {"number": number} for number, each in enumerate(anywhere + chosen + odd)]


class Sent:
    def __init__(self) -> None:
        self.records: list[tuple[str, bytes]] = []

    def send(self, records: list[tuple[str, bytes]]) -> None:
        self.records += records


class Enriching(unittest.TestCase):
    def test_cloud_and_edge_say_the_same_of_the_same_messages(self) -> None:
        folder = Path(self.enterContext(tempfile.TemporaryDirectory(prefix="outrider-enrich-")))
        (folder / "zones.geojson").write_text(json.dumps(ZONES))
        (folder / "offers.csv").write_text(OFFERS)
        emulator = Emulator(folder)
        self.addCleanup(emulator.end)
        kinesis = emulator.client("kinesis")
        for stream in ("positions", "offered"):
            kinesis.create_stream(StreamName=stream, ShardCount=1)
        targets = 'streams = { positions = "positions", offered = "offered" }'
        sink = f'[[sink]]\nname = "cloud"\ntype = "kinesis"\nregion = "{REGION}"\nendpoint = "{emulator.url}"\n{targets}\n'
        gateway, address = start_gateway(folder, sink + RULES)
        self.addCleanup(gateway.end)
        sent = positions()
        publish(address, ((f"vehicles/van-{each['number'] % 3}/position", json.dumps(each).encode()) for each in sent))

        def lines(stream: str) -> list[bytes]:
            iterator = kinesis.get_shard_iterator(StreamName=stream, ShardId="shardId-000000000000", ShardIteratorType="TRIM_HORIZON")["ShardIterator"]
            records = kinesis.get_records(ShardIterator=iterator, Limit=10_000)["Records"]
            return [line for record in records for line in record["Data"].splitlines(keepends=True)]

        wait_for("both streams", lambda: all(len(lines(stream)) >= COUNT for stream in ("positions", "offered")))
        by_cloud = Sent()
        process([{"kinesis": {"data": base64.b64encode(line).decode()}} for line in lines("positions")], load(folder / "zones.geojson", folder / "offers.csv"), by_cloud)
        cloud = {record["payload"]["number"]: (key, record["payload"]) for key, record in ((key, json.loads(data)) for key, data in by_cloud.records)}
        edge = {record["payload"]["number"]: (f"{record['gateway']}/{record['device']}", record["payload"]) for record in map(json.loads, lines("offered"))}
        self.assertEqual(cloud.keys(), edge.keys())
        for number, told in edge.items():
            self.assertEqual(cloud[number], told, sent[number])
        zones = [payload.get("zone") for _, payload in edge.values()]
        self.assertTrue(all(zones.count(zone) > 2 for zone in ("harbour", "city", "islands", None)), zones)


if __name__ == "__main__":
    unittest.main()
