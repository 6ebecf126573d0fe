#!/usr/bin/env python3
"""Prepares an OpenSearch for the job: templates of its indices, and how long readings are kept. May be run again at any time; what it changes holds for
indices that are made from then on, so for readings from the next day.
"""

import argparse
import json
import sys
from http.client import HTTPException
from pathlib import Path
from typing import Any

import options
from bulk import Client, Halt, Reply

HERE = Path(__file__).resolve().parent
READINGS = "outrider-readings"
POLICY = f"/_plugins/_ism/policies/{READINGS}"
# One instance needs no more; how many a fleet needs is in the README.
SHARDS_MAX = 1024


def templates() -> dict[str, dict[str, Any]]:
    return {path.stem: json.loads(path.read_text()) for path in sorted((HERE / "templates").glob("*.json"))}


def put_templates(client: Client, shards: int) -> None:
    for name, template in templates().items():
        if name == READINGS:
            template["template"]["settings"]["index"]["number_of_shards"] = shards
        _expect(client.request("PUT", f"/_index_template/{name}", json.dumps(template).encode()), f"does not take the template {name}")


def put_policy(client: Client, days: int) -> None:
    """Indices of readings are deleted at this age. An existing policy is replaced, which OpenSearch allows to who names the version that he saw."""
    found = client.request("GET", POLICY)
    version = ""
    if found.status == 200:
        known = json.loads(found.body)
        version = f"?if_seq_no={known['_seq_no']}&if_primary_term={known['_primary_term']}"
    policy = {
        "description": f"Readings are kept for {days} days",
        "default_state": "kept",
        "states": [
            {"name": "kept", "actions": [], "transitions": [{"state_name": "gone", "conditions": {"min_index_age": f"{days}d"}}]},
            {"name": "gone", "actions": [{"delete": {}}], "transitions": []},
        ],
        "ism_template": [{"index_patterns": [f"{READINGS}-*"], "priority": 500}],
    }
    reply = client.request("PUT", POLICY + version, json.dumps({"policy": policy}).encode())
    _expect(reply, "does not take the policy, so readings are kept until you delete them (has it the plugin for index state management?)")


def _expect(reply: Reply, trouble: str) -> None:
    if reply.status not in (200, 201):
        raise Halt(f"OpenSearch {trouble}: {reply.status} {reply.body[:300].decode(errors='replace')}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    options.add_target(parser)
    parser.add_argument("--shards", type=int, default=1, choices=range(1, SHARDS_MAX + 1), metavar="N", help="of a day of readings (1)")
    parser.add_argument("--keep-days", type=int, metavar="DAYS", help="delete readings after so many days; not given: as before")
    given = parser.parse_args()
    client = Client(options.target(given))
    try:
        put_templates(client, given.shards)
        if given.keep_days is not None:
            put_policy(client, given.keep_days)
    except (Halt, OSError, HTTPException) as error:
        sys.exit(f"prepare: {error}")
    print(f"templates: {', '.join(templates())}")


if __name__ == "__main__":
    main()
