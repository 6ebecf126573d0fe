//! GeoJSON into zones, or what is wrong with it and where.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{POINTS_MAX, Point, Polygon, Ring, ZONES_BYTES_MAX, ZONES_MAX, Zones};

/// Positions of a ring at least: a triangle, and its first one again.
const RING_POINTS_MIN: usize = 4;
/// Longest name of a zone, in bytes.
const NAME_BYTES_MAX: usize = 256;
/// An edge that is longer is meant to go the other way around the globe.
const EDGE_DEGREES_MAX: f64 = 180.0;

/// Why a file of zones is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ZonesError {
    /// It is too long.
    #[error("longer than {ZONES_BYTES_MAX} bytes")]
    TooLong,
    /// It is no JSON.
    #[error("no JSON: {0}")]
    NotJson(String),
    /// Not an object with a type of GeoJSON that has zones.
    #[error("{found} has no zones: a Feature, FeatureCollection, Polygon or MultiPolygon of GeoJSON is expected")]
    NotGeoJson {
        /// What it is.
        found: String,
    },
    /// A FeatureCollection without the list of its features.
    #[error("the FeatureCollection has no list of features")]
    NoFeatures,
    /// Its positions are not longitudes and latitudes.
    #[error("crs {name} is not understood: positions are longitude and latitude in degrees (WGS 84)")]
    OtherReference {
        /// The system of coordinates.
        name: String,
    },
    /// There are too many zones.
    #[error("more than {ZONES_MAX} zones")]
    TooManyZones,
    /// There are too many positions.
    #[error("more than {POINTS_MAX} positions in all zones")]
    TooManyPoints,
    /// Something is wrong with a zone.
    #[error("feature {number}{} {fault}", in_brackets(.name))]
    Feature {
        /// Counted from 1.
        number: usize,
        /// Its name, where that is known.
        name: Option<String>,
        /// What is wrong with it.
        fault: ZoneFault,
    },
}

fn in_brackets(name: &Option<String>) -> String {
    name.as_ref().map(|name| format!(" ({name})")).unwrap_or_default()
}

/// A place in the geometry of a feature; numbers are counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The polygon, of several.
    pub polygon: usize,
    /// The ring: the first is the outer one.
    pub ring: usize,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ring {} of polygon {}", self.ring, self.polygon)
    }
}

/// What may be wrong with a feature. Messages go on from "feature 3".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ZoneFault {
    /// A member of the collection is something else.
    #[error("is no Feature")]
    NotAFeature,
    /// It has no name, or an empty one.
    #[error("has no name: properties.name or id is expected")]
    NoName,
    /// Its name is too long.
    #[error("has a name of more than {NAME_BYTES_MAX} bytes")]
    LongName,
    /// Another has its name.
    #[error("has the name of feature {first}: names are unique")]
    SameName {
        /// The first of this name, counted from 1.
        first: usize,
    },
    /// It is a point, a line or nothing.
    #[error("has the geometry {found}: only Polygon and MultiPolygon are zones")]
    Geometry {
        /// What it is.
        found: String,
    },
    /// The coordinates are not nested as those of its geometry are.
    #[error("has coordinates that are not those of a {geometry}: {expected} is expected in {place}")]
    Coordinates {
        /// What it says it is.
        geometry: &'static str,
        /// What should stand there.
        expected: &'static str,
        /// Where.
        place: Place,
    },
    /// A polygon without any ring, or a MultiPolygon without any polygon.
    #[error("has no area: {geometry} is empty")]
    Empty {
        /// What it says it is.
        geometry: &'static str,
    },
    /// A position that is none.
    #[error("has the position {longitude}, {latitude} in {place}, point {point}: {}", out_of_range(*.is_swapped))]
    Range {
        /// As it is written.
        longitude: String,
        /// As it is written.
        latitude: String,
        /// Where.
        place: Place,
        /// Counted from 1.
        point: usize,
        /// Whether it would be a position the other way around.
        is_swapped: bool,
    },
    /// A ring that is no area.
    #[error(
        "has {count} points in {place}: a ring has at least {RING_POINTS_MIN}, of which the last is the first again"
    )]
    FewPoints {
        /// How many.
        count: usize,
        /// Where.
        place: Place,
    },
    /// A ring whose last position is not its first.
    #[error("has an open line in {place}: the last point must be the first again")]
    Open {
        /// Where.
        place: Place,
    },
    /// An edge goes around the back of the globe.
    #[error(
        "crosses the antimeridian in {place}, behind point {point}: cut it at 180 degrees into a MultiPolygon of two"
    )]
    Antimeridian {
        /// Where.
        place: Place,
        /// The beginning of the edge, counted from 1.
        point: usize,
    },
}

fn out_of_range(is_swapped: bool) -> &'static str {
    match is_swapped {
        true => "longitude is -180 to 180, latitude -90 to 90; longitude comes first, here they look swapped",
        false => "longitude is -180 to 180, latitude -90 to 90",
    }
}

/// Why reading a feature ended.
enum Failure {
    Fault(ZoneFault),
    TooManyPoints,
}

impl From<ZoneFault> for Failure {
    fn from(fault: ZoneFault) -> Failure {
        Failure::Fault(fault)
    }
}

pub(super) fn read(text: &str) -> Result<Zones, ZonesError> {
    if text.len() > ZONES_BYTES_MAX {
        return Err(ZonesError::TooLong);
    }
    let text = text.trim_start_matches('\u{feff}');
    let root: Value = serde_json::from_str(text).map_err(|error| ZonesError::NotJson(error.to_string()))?;
    let other = || ZonesError::NotGeoJson { found: type_of(&root) };
    let object = root.as_object().ok_or_else(other)?;
    check_reference(object)?;
    let features = match object.get("type").and_then(Value::as_str) {
        Some("FeatureCollection") => {
            object.get("features").and_then(Value::as_array).ok_or(ZonesError::NoFeatures)?.as_slice()
        }
        Some("Feature" | "Polygon" | "MultiPolygon") => std::slice::from_ref(&root),
        _ => return Err(other()),
    };
    if features.len() > ZONES_MAX {
        return Err(ZonesError::TooManyZones);
    }
    let mut reader = Reader::default();
    for (number, feature) in (1..).zip(features) {
        reader.feature(number, feature)?;
    }
    let by_name = reader.zones.into_iter().map(|(name, (_, polygons))| (name, polygons)).collect();
    Ok(Zones { by_name })
}

/// What a value says it is, for people.
fn type_of(value: &Value) -> String {
    match value {
        Value::Object(object) => match object.get("type") {
            Some(Value::String(name)) => name.chars().take(64).collect(),
            _ => "an object without a type".to_owned(),
        },
        Value::Array(_) => "a list".to_owned(),
        Value::Null => "null".to_owned(),
        _ => "a plain value".to_owned(),
    }
}

/// An older version of the standard could name a system of coordinates. In any but this one the zones would be elsewhere.
fn check_reference(object: &Map<String, Value>) -> Result<(), ZonesError> {
    let Some(reference) = object.get("crs").filter(|reference| !reference.is_null()) else { return Ok(()) };
    let name = reference.pointer("/properties/name").and_then(Value::as_str).unwrap_or("without a name");
    let is_ours = name.ends_with(":CRS84") || name == "EPSG:4326" || name.ends_with(":EPSG::4326");
    if is_ours { Ok(()) } else { Err(ZonesError::OtherReference { name: name.chars().take(64).collect() }) }
}

#[derive(Default)]
struct Reader {
    /// Zones with the numbers of their features.
    zones: BTreeMap<Box<str>, (usize, Box<[Polygon]>)>,
    points: usize,
}

impl Reader {
    fn feature(&mut self, number: usize, feature: &Value) -> Result<(), ZonesError> {
        let mut name = None;
        let polygons = self.named_polygons(feature, &mut name);
        match (polygons, name) {
            (Ok(polygons), Some(name)) => {
                self.zones.insert(name.into(), (number, polygons));
                Ok(())
            }
            (Ok(_), None) => Err(ZonesError::Feature { number, name: None, fault: ZoneFault::NoName }),
            (Err(Failure::Fault(fault)), name) => Err(ZonesError::Feature { number, name, fault }),
            (Err(Failure::TooManyPoints), _) => Err(ZonesError::TooManyPoints),
        }
    }

    /// The polygons of a feature; `name` is its name as soon as that is known.
    fn named_polygons(&mut self, feature: &Value, name: &mut Option<String>) -> Result<Box<[Polygon]>, Failure> {
        let object = feature.as_object().ok_or(ZoneFault::NotAFeature)?;
        let geometry = match object.get("type").and_then(Value::as_str) {
            Some("Feature") => object.get("geometry").unwrap_or(&Value::Null),
            Some("Polygon" | "MultiPolygon") => feature,
            _ => return Err(ZoneFault::NotAFeature.into()),
        };
        let own = name_of(object).ok_or(ZoneFault::NoName)?;
        if own.len() > NAME_BYTES_MAX {
            return Err(ZoneFault::LongName.into());
        }
        if let Some((first, _)) = self.zones.get(name.insert(own).as_str()) {
            return Err(ZoneFault::SameName { first: *first }.into());
        }
        self.geometry(geometry)
    }

    fn geometry(&mut self, geometry: &Value) -> Result<Box<[Polygon]>, Failure> {
        let coordinates = geometry.get("coordinates").unwrap_or(&Value::Null);
        let (kind, polygons) = match geometry.get("type").and_then(Value::as_str) {
            Some("Polygon") => ("Polygon", std::slice::from_ref(coordinates)),
            Some("MultiPolygon") => ("MultiPolygon", list(coordinates, "MultiPolygon", 1, 1, "a list of polygons")?),
            _ => return Err(ZoneFault::Geometry { found: type_of(geometry) }.into()),
        };
        if polygons.is_empty() {
            return Err(ZoneFault::Empty { geometry: kind }.into());
        }
        (1..).zip(polygons).map(|(polygon, rings)| self.polygon(kind, polygon, rings)).collect()
    }

    fn polygon(&mut self, kind: &'static str, polygon: usize, rings: &Value) -> Result<Polygon, Failure> {
        let rings = list(rings, kind, polygon, 1, "a list of rings")?;
        let mut read = Vec::with_capacity(rings.len());
        for (ring, points) in (1..).zip(rings) {
            let points = list(points, kind, polygon, ring, "a list of points")?;
            self.points = self.points.saturating_add(points.len());
            if self.points > POINTS_MAX {
                return Err(Failure::TooManyPoints);
            }
            read.push(self::ring(kind, Place { polygon, ring }, points)?);
        }
        let mut rings = read.into_iter();
        let exterior = rings.next().ok_or(ZoneFault::Empty { geometry: kind })?;
        Ok(Polygon::new(exterior, rings.collect()))
    }
}

/// `properties.name`, or else `id`: a text or a number.
fn name_of(object: &Map<String, Value>) -> Option<String> {
    let named = object.get("properties").and_then(|properties| properties.get("name"));
    [named, object.get("id")].into_iter().flatten().find_map(|name| match name {
        Value::String(text) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    })
}

fn list<'a>(
    value: &'a Value,
    geometry: &'static str,
    polygon: usize,
    ring: usize,
    expected: &'static str,
) -> Result<&'a [Value], ZoneFault> {
    let place = Place { polygon, ring };
    value.as_array().map(Vec::as_slice).ok_or(ZoneFault::Coordinates { geometry, expected, place })
}

fn ring(geometry: &'static str, place: Place, positions: &[Value]) -> Result<Ring, ZoneFault> {
    let expected = "a position of two or three numbers";
    let mut points: Vec<Point> = Vec::with_capacity(positions.len());
    let mut longitude_before = None;
    for (at, position) in (1..).zip(positions) {
        let numbers = position.as_array().map(Vec::as_slice).unwrap_or_default();
        // A third number is the altitude.
        let ([first, second] | [first, second, Value::Number(_)]) = numbers else {
            return Err(ZoneFault::Coordinates { geometry, expected, place });
        };
        let (Some(longitude), Some(latitude)) = (first.as_f64(), second.as_f64()) else {
            return Err(ZoneFault::Coordinates { geometry, expected, place });
        };
        let point = Point::new(longitude, latitude).ok_or_else(|| ZoneFault::Range {
            longitude: first.to_string(),
            latitude: second.to_string(),
            place,
            point: at,
            is_swapped: Point::new(latitude, longitude).is_some(),
        })?;
        if longitude_before.is_some_and(|before: f64| (longitude - before).abs() > EDGE_DEGREES_MAX) {
            return Err(ZoneFault::Antimeridian { place, point: at - 1 });
        }
        longitude_before = Some(longitude);
        points.push(point);
    }
    if points.len() < RING_POINTS_MIN {
        return Err(ZoneFault::FewPoints { count: points.len(), place });
    }
    if points.first() != points.last() {
        return Err(ZoneFault::Open { place });
    }
    Ok(points.into())
}
