"""The panels of the dashboard as the queries that OpenSearch Dashboards makes of them."""

import json
from pathlib import Path
from typing import Any

from programs import ROOT

SAVED = ROOT / "cloud/spark/dashboard.ndjson"
SPLITS = ("segment", "group", "bucket")


def saved_objects(path: Path = SAVED) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def state(visualization: dict[str, Any]) -> dict[str, Any]:
    return json.loads(visualization["attributes"]["visState"])


def query(visualization: dict[str, Any]) -> dict[str, Any]:
    """The request for all of the time."""
    aggregations = state(visualization)["aggs"]
    metrics = {each["id"]: _metric(each) for each in aggregations if each["schema"] == "metric"}
    inner: dict[str, Any] = {name: body for name, body in metrics.items() if body}
    for each in reversed([each for each in aggregations if each["schema"] in SPLITS]):
        # A split that is ordered by a metric has that metric beside what is below it.
        order = {name: body for name, body in metrics.items() if body and name == each["params"].get("orderBy")}
        inner = {each["id"]: _split(each, metrics) | {"aggs": inner | order}}
    return {"size": 0, "query": _filter(visualization), "aggs": inner}


def _metric(aggregation: dict[str, Any]) -> dict[str, Any]:
    """Empty for the number of documents, which each bucket has."""
    kind, params = aggregation["type"], aggregation["params"]
    if kind == "count":
        return {}
    if kind == "top_hits":
        sort = [{params["sortField"]: {"order": params["sortOrder"]}}]
        return {kind: {"size": params["size"], "docvalue_fields": [params["field"]], "sort": sort, "_source": False}}
    return {kind: {"field": params["field"]}}


def _split(aggregation: dict[str, Any], metrics: dict[str, Any]) -> dict[str, Any]:
    kind, params = aggregation["type"], aggregation["params"]
    if kind == "date_histogram":
        return {kind: {"field": params["field"], "fixed_interval": "1m", "min_doc_count": params["min_doc_count"]}}
    order = params["orderBy"] if metrics[params["orderBy"]] else "_count"
    return {kind: {"field": params["field"], "size": params["size"], "order": {order: params["order"]}}}


def _filter(visualization: dict[str, Any]) -> dict[str, Any]:
    """The language of filters, as far as the dashboard uses it: nothing, or `field : value`."""
    search = json.loads(visualization["attributes"]["kibanaSavedObjectMeta"]["searchSourceJSON"])["query"]
    assert search["language"] == "kuery"
    if not search["query"]:
        return {"match_all": {}}
    field, value = search["query"].split(" : ")
    return {"term": {field: value}}


def fields(visualization: dict[str, Any]) -> set[str]:
    found = {each["params"][name] for each in state(visualization)["aggs"] for name in ("field", "sortField") if name in each["params"]}
    condition = _filter(visualization).get("term", {})
    return found | condition.keys()


def leaves(aggregations: dict[str, Any]) -> list[dict[str, Any]]:
    """The innermost buckets of an answer, or the answer itself where there are none."""
    found = []
    for each in aggregations.values():
        for bucket in each.get("buckets", []) if isinstance(each, dict) else []:
            found += leaves(bucket) or [bucket]
    return found
