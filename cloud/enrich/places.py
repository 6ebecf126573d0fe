"""Zones on the map, decided as the gateway's rules decide: exactly, in billionths of a degree, with the boundary outside. Pure."""

import math
from dataclasses import dataclass
from typing import Any

STEPS_A_DEGREE = 1e9

Point = tuple[int, int]


@dataclass(frozen=True)
class Polygon:
    """A ring, less its holes. Rings are closed: the last point is the first again."""

    exterior: list[Point]
    holes: list[list[Point]]


class Zones:
    """Polygons of GeoJSON, longitude first, by their names."""

    def __init__(self, geojson: dict[str, Any]) -> None:
        self._polygons: dict[str, list[Polygon]] = {}
        for feature in geojson["features"]:
            name = (feature.get("properties") or {}).get("name") or feature["id"]
            geometry = feature["geometry"]
            parts = [geometry["coordinates"]] if geometry["type"] == "Polygon" else geometry["coordinates"]
            rings = [[[_point(longitude, latitude) for longitude, latitude, *_ in ring] for ring in part] for part in parts]
            self._polygons.setdefault(name, []).extend(Polygon(exterior, holes) for exterior, *holes in rings)

    def at(self, latitude: float, longitude: float) -> str | None:
        """The name of the zone; of several, the first by name."""
        if not (-90 <= latitude <= 90 and -180 <= longitude <= 180):
            return None
        point = _point(longitude, latitude)
        return min((name for name, polygons in self._polygons.items() if any(_contains(polygon, point) for polygon in polygons)), default=None)


def _point(longitude: float, latitude: float) -> Point:
    return _steps(longitude), _steps(latitude)


def _steps(degrees: float) -> int:
    """To the nearest, and from the middle away from zero."""
    steps = abs(degrees) * STEPS_A_DEGREE
    whole = math.floor(steps)
    nearest = whole + (steps - whole >= 0.5)
    return nearest if degrees >= 0 else -nearest


def _contains(polygon: Polygon, point: Point) -> bool:
    return _is_inside(polygon.exterior, point) is True and all(_is_inside(hole, point) is False for hole in polygon.holes)


def _is_inside(ring: list[Point], point: Point) -> bool | None:
    """By the edges that a line to the east crosses; None on the boundary."""
    x, y = point
    inside = False
    for (from_x, from_y), (to_x, to_y) in zip(ring, ring[1:], strict=False):
        if not min(from_y, to_y) <= y <= max(from_y, to_y):
            continue
        side = (to_x - from_x) * (y - from_y) - (to_y - from_y) * (x - from_x)
        if side == 0 and min(from_x, to_x) <= x <= max(from_x, to_x):
            return None
        if (from_y > y) != (to_y > y) and (side > 0) == (to_y > from_y):
            inside = not inside
    return inside
