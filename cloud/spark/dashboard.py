#!/usr/bin/env python3
"""The dashboard, as saved objects of OpenSearch Dashboards: prints dashboard.ndjson, which is what people import."""

import json
from typing import Any

# A dashboard has 48 columns.
COLUMNS = 48
ROW_HEIGHT = 14
# What newer versions migrate objects from.
VISUALIZATION_VERSION = {"visualization": "7.10.0"}
DASHBOARD_VERSION = {"dashboard": "7.9.3"}
INDEX_REFERENCE = "kibanaSavedObjectMeta.searchSourceJSON.index"

# By name: the field by which its time is told.
PATTERNS = {
    "readings": "measured_at_ms",
    "anomalies": "measured_at_ms",
    "alerts": "updated_at_ms",
    "gateways": "at_ms",
    "failed": "kafka_at_ms",
    "status": "at_ms",
}

Aggregation = dict[str, Any]


def metric(kind: str, label: str, **params: Any) -> Aggregation:
    return {"enabled": True, "type": kind, "schema": "metric", "params": params | {"customLabel": label}}


def over_time(pattern: str) -> Aggregation:
    params = {"field": PATTERNS[pattern], "useNormalizedOpenSearchInterval": True, "interval": "auto", "drop_partials": False, "min_doc_count": 1}
    return {"enabled": True, "type": "date_histogram", "schema": "segment", "params": params | {"extended_bounds": {}}}


def by(field: str, label: str, schema: str, size: int, order_by: str = "1") -> Aggregation:
    params = {"field": field, "orderBy": order_by, "order": "desc", "size": size, "otherBucket": False, "missingBucket": False, "customLabel": label}
    return {"enabled": True, "type": "terms", "schema": schema, "params": params}


def chart(kind: str, stacked: bool) -> dict[str, Any]:
    """What Dashboards needs to draw a line or a histogram, beside the aggregations."""
    axis = {"id": "ValueAxis-1", "name": "LeftAxis-1", "type": "value", "position": "left", "show": True, "style": {}}
    return {
        "type": kind,
        "grid": {"categoryLines": False},
        "categoryAxes": [
            {
                **{"id": "CategoryAxis-1", "type": "category", "position": "bottom", "show": True, "style": {}, "scale": {"type": "linear"}},
                **{"labels": {"show": True, "filter": True, "truncate": 100}, "title": {}},
            }
        ],
        "valueAxes": [
            {
                **axis,
                "scale": {"type": "linear", "mode": "normal"},
                "labels": {"show": True, "rotate": 0, "filter": False, "truncate": 100},
                "title": {},
            }
        ],
        "seriesParams": [
            {
                **{"show": True, "type": kind, "mode": "stacked" if stacked else "normal", "valueAxis": "ValueAxis-1"},
                **{"data": {"label": "", "id": "1"}, "drawLinesBetweenPoints": True, "showCircles": True, "interpolate": "linear", "lineWidth": 2},
            }
        ],
        **{"addTooltip": True, "addLegend": True, "legendPosition": "right", "times": [], "addTimeMarker": False, "labels": {}},
    }


TABLE = {"perPage": 10, "showPartialRows": False, "showMetricsAtAllLevels": False, "showTotal": False, "totalFunc": "sum", "percentageCol": ""}


def visualization(
    name: str, title: str, pattern: str, kind: str, params: dict[str, Any], aggregations: list[Aggregation], query: str = ""
) -> dict[str, Any]:
    state = {"title": title, "type": kind, "params": params, "aggs": [{"id": str(number), **each} for number, each in enumerate(aggregations, 1)]}
    search = {"query": {"query": query, "language": "kuery"}, "filter": [], "indexRefName": INDEX_REFERENCE}
    return {
        "id": f"outrider-{name}",
        "type": "visualization",
        "attributes": {
            "title": f"Outrider: {title}",
            "description": "",
            "visState": json.dumps(state),
            "uiStateJSON": "{}",
            "version": 1,
            "kibanaSavedObjectMeta": {"searchSourceJSON": json.dumps(search)},
        },
        "references": [{"name": INDEX_REFERENCE, "type": "index-pattern", "id": f"outrider-{pattern}"}],
        "migrationVersion": VISUALIZATION_VERSION,
    }


def line(name: str, title: str, pattern: str, *aggregations: Aggregation) -> dict[str, Any]:
    return visualization(name, title, pattern, "line", chart("line", False), [*aggregations, over_time(pattern)])


def bars(name: str, title: str, pattern: str, field: str, label: str, query: str = "") -> dict[str, Any]:
    aggregations = [metric("count", title), over_time(pattern), by(field, label, "group", 10)]
    return visualization(name, title, pattern, "histogram", chart("histogram", True), aggregations, query)


def table(name: str, title: str, pattern: str, *aggregations: Aggregation) -> dict[str, Any]:
    return visualization(name, title, pattern, "table", TABLE, list(aggregations))


def visualizations() -> list[dict[str, Any]]:
    newest = {"aggregate": "concat", "size": 1, "sortField": "measured_at_ms", "sortOrder": "desc"}
    return [
        bars("readings-stored", "readings by gateway", "readings", "gateway", "gateway"),
        line("values", "means by metric", "readings", metric("avg", "mean", field="value"), by("metric", "metric", "group", 10)),
        table(
            *("gateways", "gateways, and when they were last heard", "readings"),
            metric("max", "last reading", field="received_at_ms"),
            metric("cardinality", "devices", field="device"),
            by("gateway", "gateway", "bucket", 1_000),
        ),
        table(
            *("latest", "latest values", "readings"),
            metric("top_hits", "value", field="value", **newest),
            metric("max", "measured", field="measured_at_ms"),
            by("device", "device", "bucket", 50, order_by="2"),
            by("metric", "metric", "bucket", 50, order_by="2"),
        ),
        bars("anomalies", "anomalies by detector", "anomalies", "detector", "detector", query="type : anomaly"),
        table(
            *("troubled", "devices with the most anomalies", "anomalies"),
            metric("count", "anomalies"),
            metric("max", "highest score", field="score"),
            by("device", "device", "bucket", 20),
            by("metric", "metric", "bucket", 5),
        ),
        bars("alerts-raised", "changes of raised alerts by severity", "alerts", "severity", "severity", query="state : raised"),
        line(
            *("buffered", "age of the oldest record that gateways hold, in seconds", "gateways"),
            metric("max", "seconds", field="store_oldest_age_s"),
            by("gateway", "gateway", "group", 10),
        ),
        line(
            *("lag", "the job: records waiting, and for how many seconds", "status"),
            metric("max", "records waiting", field="lag_records"),
            metric("max", "seconds", field="oldest_unprocessed_seconds"),
        ),
        table(
            *("failed", "failed documents", "failed"),
            metric("count", "lines"),
            by("refused_by", "refused by", "bucket", 2),
            by("reason", "reason", "bucket", 50),
        ),
    ]


def latest_alerts() -> dict[str, Any]:
    search = {"query": {"query": "", "language": "kuery"}, "filter": [], "indexRefName": INDEX_REFERENCE}
    return {
        "id": "outrider-latest-alerts",
        "type": "search",
        "attributes": {
            "title": "Outrider: alerts",
            "description": "",
            "columns": ["gateway", "device", "metric", "state", "severity", "message"],
            "sort": [["updated_at_ms", "desc"]],
            "version": 1,
            "kibanaSavedObjectMeta": {"searchSourceJSON": json.dumps(search)},
        },
        "references": [{"name": INDEX_REFERENCE, "type": "index-pattern", "id": "outrider-alerts"}],
        "migrationVersion": {"search": "7.9.3"},
    }


def patterns() -> list[dict[str, Any]]:
    return [
        {"id": f"outrider-{name}", "type": "index-pattern", "attributes": {"title": f"outrider-{name}-*", "timeFieldName": time}, "references": []}
        for name, time in PATTERNS.items()
    ]


def dashboard(shown: list[dict[str, Any]]) -> dict[str, Any]:
    """Two beside each other, in their order."""
    panels, references = [], []
    for number, each in enumerate(shown):
        row, right = divmod(number, 2)
        place = {"x": right * COLUMNS // 2, "y": row * ROW_HEIGHT, "w": COLUMNS // 2, "h": ROW_HEIGHT, "i": str(number)}
        reference = f"panel_{number}"
        panels.append({"version": "2.19.0", "gridData": place, "panelIndex": str(number), "embeddableConfig": {}, "panelRefName": reference})
        references.append({"name": reference, "type": each["type"], "id": each["id"]})
    return {
        "id": "outrider",
        "type": "dashboard",
        "attributes": {
            "title": "Outrider",
            "description": "The fleet's readings, anomalies and alerts, and the job that brings them here",
            "hits": 0,
            "panelsJSON": json.dumps(panels),
            "optionsJSON": json.dumps({"hidePanelTitles": False, "useMargins": True}),
            "version": 1,
            "timeRestore": True,
            "timeFrom": "now-1h",
            "timeTo": "now",
            "refreshInterval": {"pause": False, "value": 10_000},
            "kibanaSavedObjectMeta": {"searchSourceJSON": json.dumps({"query": {"query": "", "language": "kuery"}, "filter": []})},
        },
        "references": references,
        "migrationVersion": DASHBOARD_VERSION,
    }


def saved_objects() -> str:
    shown = [*visualizations(), latest_alerts()]
    return "".join(json.dumps(each) + "\n" for each in [*patterns(), *shown, dashboard(shown)])


if __name__ == "__main__":
    print(saved_objects(), end="")
