//! Zones on the map, and on which side of one a device is.
//!
//! [`Zones`] are polygons of GeoJSON (RFC 7946), whose positions are longitude first. Edges are straight lines between longitudes and
//! latitudes, as the standard says, not the shortest ways on the globe. Positions are kept in steps of a billionth of a degree, a tenth of a
//! millimetre: whatever is decided about them is exact integer arithmetic, so that an edge or a vertex is never missed by a rounding error.
//!
//! Deliberately absent: zones across the antimeridian (±180 degrees), which the standard has cut in two, and an index of zones: a rule
//! names the zone that it asks for.

mod geojson;
mod side;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use geojson::{Place, ZoneFault, ZonesError};
pub use side::{Crossing, Side};

/// Zones of a file at most.
pub const ZONES_MAX: usize = 1_000;
/// Positions of all zones of a file at most: 1.6 MB.
pub const POINTS_MAX: usize = 100_000;
/// Longest file, in bytes.
pub const ZONES_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Steps of a degree.
const STEPS_A_DEGREE: f64 = 1e9;

/// A position in steps of a degree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Point {
    longitude: i64,
    latitude: i64,
}

impl Point {
    /// `None` if there is no such place.
    fn new(longitude: f64, latitude: f64) -> Option<Point> {
        let is_place = (-180.0..=180.0).contains(&longitude) && (-90.0..=90.0).contains(&latitude);
        let steps = |degrees: f64| (degrees * STEPS_A_DEGREE).round() as i64;
        is_place.then(|| Point { longitude: steps(longitude), latitude: steps(latitude) })
    }
}

/// The smallest rectangle around a polygon.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    min: Point,
    max: Point,
}

impl Bounds {
    fn of(points: &[Point]) -> Bounds {
        let none = Bounds {
            min: Point { longitude: i64::MAX, latitude: i64::MAX },
            max: Point { longitude: i64::MIN, latitude: i64::MIN },
        };
        points.iter().fold(none, |bounds, point| Bounds {
            min: Point {
                longitude: bounds.min.longitude.min(point.longitude),
                latitude: bounds.min.latitude.min(point.latitude),
            },
            max: Point {
                longitude: bounds.max.longitude.max(point.longitude),
                latitude: bounds.max.latitude.max(point.latitude),
            },
        })
    }

    fn contains(self, point: Point) -> bool {
        (self.min.longitude..=self.max.longitude).contains(&point.longitude)
            && (self.min.latitude..=self.max.latitude).contains(&point.latitude)
    }
}

/// Where a position is, seen from a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Location {
    Inside,
    Boundary,
    Outside,
}

/// A closed line: the last position is the first again.
type Ring = Box<[Point]>;

/// A ring, less its holes.
#[derive(Clone, Debug)]
struct Polygon {
    bounds: Bounds,
    exterior: Ring,
    holes: Box<[Ring]>,
}

impl Polygon {
    fn new(exterior: Ring, holes: Box<[Ring]>) -> Polygon {
        Polygon { bounds: Bounds::of(&exterior), exterior, holes }
    }

    fn contains(&self, point: Point) -> bool {
        self.bounds.contains(point)
            && locate(&self.exterior, point) == Location::Inside
            && self.holes.iter().all(|hole| locate(hole, point) == Location::Outside)
    }
}

/// Counts the edges that a line from the position towards the east crosses. Of the two ends of an edge the lower one belongs to it, so that
/// a vertex counts for exactly one of two edges that go on in the same direction, and for both or none where they turn back.
fn locate(ring: &[Point], point: Point) -> Location {
    let mut is_inside = false;
    for edge in ring.windows(2) {
        let [from, to] = edge else { continue };
        let latitudes = from.latitude.min(to.latitude)..=from.latitude.max(to.latitude);
        if !latitudes.contains(&point.latitude) {
            continue;
        }
        let turn = turn(*from, *to, point);
        let longitudes = from.longitude.min(to.longitude)..=from.longitude.max(to.longitude);
        if turn == 0 && longitudes.contains(&point.longitude) {
            return Location::Boundary;
        }
        let is_crossed = (from.latitude > point.latitude) != (to.latitude > point.latitude);
        let is_northward = to.latitude > from.latitude;
        is_inside ^= is_crossed && (turn > 0) == is_northward;
    }
    if is_inside { Location::Inside } else { Location::Outside }
}

/// Above 0 if the position is to the left of the edge, below 0 if to its right, 0 if it is on the line through it. A degree has 1e9 steps,
/// so a product is below 1e24.
fn turn(from: Point, to: Point, point: Point) -> i128 {
    let apart = |a: i64, b: i64| i128::from(a) - i128::from(b);
    apart(to.longitude, from.longitude) * apart(point.latitude, from.latitude)
        - apart(to.latitude, from.latitude) * apart(point.longitude, from.longitude)
}

/// Zones by their names.
#[derive(Clone, Debug, Default)]
pub struct Zones {
    by_name: BTreeMap<Box<str>, Box<[Polygon]>>,
}

impl Zones {
    /// Reads GeoJSON: a Feature, a FeatureCollection of them, or a bare Polygon or MultiPolygon. A zone is called as `properties.name`
    /// says, else as `id` says.
    ///
    /// # Errors
    ///
    /// If it is anything else, a zone has no name or one that another has, or a polygon is none. The first problem is reported.
    pub fn parse(text: &str) -> Result<Zones, ZonesError> {
        geojson::read(text)
    }

    /// Whether the position, in degrees, is inside the zone; `None` if there is no such zone. On the boundary, also on that of a hole, is
    /// outside, and so is what is no position. It takes as long as the zone has edges near its latitude.
    pub fn contains(&self, name: &str, longitude: f64, latitude: f64) -> Option<bool> {
        let polygons = self.by_name.get(name)?;
        let point = Point::new(longitude, latitude);
        Some(point.is_some_and(|point| polygons.iter().any(|polygon| polygon.contains(point))))
    }

    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(|name| &**name)
    }

    /// How many zones there are.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.by_name.len()
    }
}
