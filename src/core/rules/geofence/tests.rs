use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn zone(coordinates: &Value) -> Value {
    json!({ "type": "Feature", "properties": { "name": "depot" },
        "geometry": { "type": "Polygon", "coordinates": coordinates } })
}

fn zones(document: &Value) -> Zones {
    Zones::parse(&document.to_string()).expect("zones")
}

fn refusal(document: &Value) -> String {
    Zones::parse(&document.to_string()).map(|zones| zones.len()).expect_err("refused").to_string()
}

fn are_inside(zones: &Zones, positions: &[(f64, f64)]) -> Vec<bool> {
    positions.iter().filter_map(|(longitude, latitude)| zones.contains("depot", *longitude, *latitude)).collect()
}

#[test]
fn inside_is_without_the_boundary_and_the_holes() {
    let square = json!([
        [[10, 50], [10.4, 50], [10.4, 50.4], [10, 50.4], [10, 50]],
        [[10.1, 50.1], [10.1, 50.3], [10.3, 50.3], [10.3, 50.1], [10.1, 50.1]],
    ]);
    let zones = zones(&zone(&square));
    assert_eq!(are_inside(&zones, &[(10.05, 50.2), (10.35, 50.05), (10.2, 50.399_999_999)]), [true; 3]);
    let boundary = [(10.0, 50.0), (10.4, 50.2), (10.2, 50.4), (10.1, 50.1), (10.1, 50.2), (10.3, 50.15)];
    assert_eq!(are_inside(&zones, &boundary), [false; 6]);
    let outside = [(10.2, 50.2), (9.9, 50.0), (10.5, 50.2), (10.2, 50.5), (-10.2, 50.05), (f64::NAN, 50.05)];
    assert_eq!(are_inside(&zones, &outside), [false; 6]);
    assert_eq!(are_inside(&zones, &[(1e300, 1e300), (10.05, f64::INFINITY)]), [false; 2]);
    assert_eq!(zones.contains("Depot", 10.05, 50.2), None);
}

#[test]
fn edges_that_are_exact_as_decimals_are_exact() {
    let triangle = zones(&zone(&json!([[[0.1, 0.1], [0.7, 0.7], [0.7, 0.1], [0.1, 0.1]]])));
    for tenths in 1..=7 {
        let at = f64::from(tenths) / 10.0;
        assert_eq!(triangle.contains("depot", at, at), Some(false), "{at} is on the edge");
    }
    assert_eq!(are_inside(&triangle, &[(0.3, 0.299_999_999), (0.3, 0.300_000_001)]), [true, false]);
    // A line to the east through vertices: two that go on, and two that turn back.
    let star = [[0, 0], [4, 0], [4, 2], [3, 4], [2, 2], [1, 4], [0, 2], [0, 0]];
    let star = zones(&zone(&json!([star])));
    assert_eq!(are_inside(&star, &[(-1.0, 2.0), (1.0, 2.0), (3.0, 2.0), (5.0, 2.0)]), [false, true, true, false]);
    assert_eq!(are_inside(&star, &[(2.0, 2.0), (2.0, 1.999), (2.0, 2.001), (0.5, 4.0)]), [false, true, false, false]);
}

#[test]
fn zones_come_in_all_forms() {
    let ring = json!([[[0, 0], [1, 0], [1, 1], [0, 0]]]);
    let bare = json!({ "type": "Polygon", "id": 7, "coordinates": ring });
    assert_eq!(zones(&bare).names().collect::<Vec<_>>(), ["7"]);
    let collection = json!({ "type": "FeatureCollection", "crs": null, "bbox": [0, 0, 9, 9], "features": [
        { "type": "Feature", "id": "yard", "properties": { "name": "" },
          "geometry": { "type": "MultiPolygon", "coordinates": [ring, [[[5, 5, 120.5], [6, 5], [6, 6], [5, 5]]]] } },
        { "type": "Feature", "id": "b", "properties": { "name": " north " },
          "geometry": { "type": "Polygon", "coordinates": ring } },
    ]});
    let read = Zones::parse(&format!("\u{feff}{collection}")).expect("zones");
    assert_eq!(read.names().collect::<Vec<_>>(), ["north", "yard"]);
    assert_eq!(read.len(), 2);
    assert_eq!(read.contains("yard", 5.9, 5.1), Some(true));
    assert_eq!(read.contains("yard", 3.0, 3.0), Some(false));
    assert_eq!(read.contains("north", 0.9, 0.1), Some(true));
    let none = zones(&json!({ "type": "FeatureCollection", "features": [] }));
    assert_eq!(none.len(), 0);
}

#[test]
fn refusals_name_the_feature_and_the_place() {
    let good = [[0, 0], [1, 0], [1, 1], [0, 0]];
    let with = |coordinates: Value| refusal(&zone(&coordinates));
    assert_eq!(
        with(json!([good, [[0, 0], [1, 0], [1, 1]]])),
        "feature 1 (depot) has 3 points in ring 2 of polygon 1: a ring has at least 4, of which the last is the first again"
    );
    assert!(with(json!([[[0, 0], [1, 0], [1, 1], [0, 1]]])).contains("open line in ring 1 of polygon 1"));
    assert_eq!(
        with(json!([[[52.5, 113.4], [52.6, 113.4], [52.6, 113.5], [52.5, 113.4]]])),
        "feature 1 (depot) has the position 52.5, 113.4 in ring 1 of polygon 1, point 1: longitude is -180 to 180, latitude \
         -90 to 90; longitude comes first, here they look swapped"
    );
    let far = with(json!([[[0, 0], [181, 0], [1, 91], [0, 0]]]));
    assert!(far.contains("181, 0 in ring 1 of polygon 1, point 2") && !far.contains("swapped"), "{far}");
    assert!(with(json!([[[0, 0], [181, 95], [1, 1], [0, 0]]])).ends_with("latitude -90 to 90"));
    let pacific = with(json!([[[179, 0], [-179, 0], [-179, 1], [179, 0]]]));
    assert!(pacific.contains("antimeridian in ring 1 of polygon 1, behind point 1: cut it at 180"), "{pacific}");
    assert!(with(json!([])).contains("has no area"));
    assert!(with(json!([[0, 0], [1, 1]])).contains("a position of two or three numbers is expected in ring 1"));
    assert!(with(json!({ "x": 1 })).contains("a list of rings is expected"));
    assert!(with(json!([[["0", "0"], [1, 0], [1, 1], [0, 0]]])).contains("two or three numbers"));
    let with =
        |feature: Value| refusal(&json!({ "type": "FeatureCollection", "features": [zone(&json!([good])), feature] }));
    assert_eq!(
        with(json!({ "type": "Feature", "properties": { "name": null }, "geometry": null })),
        "feature 2 has no name: properties.name or id is expected"
    );
    assert_eq!(with(zone(&json!([good]))), "feature 2 (depot) has the name of feature 1: names are unique");
    let point = json!({ "type": "Point", "coordinates": [0, 0] });
    assert_eq!(
        with(json!({ "type": "Feature", "id": "x", "geometry": point })),
        "feature 2 (x) has the geometry Point: only Polygon and MultiPolygon are zones"
    );
    assert!(with(json!({ "type": "Feature", "id": "x", "geometry": null })).contains("the geometry null"));
    assert_eq!(with(json!(7)), "feature 2 is no Feature");
    assert!(with(json!({ "type": "Feature", "id": "n".repeat(300) })).contains("more than 256 bytes"));
    let empty = json!({ "type": "Feature", "id": "x", "geometry": { "type": "MultiPolygon", "coordinates": [] } });
    assert!(with(empty).contains("has no area: MultiPolygon is empty"));
}

#[test]
fn files_that_are_something_else_are_refused() {
    assert!(Zones::parse("{").expect_err("cut off").to_string().starts_with("no JSON: EOF"));
    assert!(refusal(&json!([1])).starts_with("a list has no zones"));
    assert!(refusal(&json!({ "type": "Topology" })).starts_with("Topology has no zones"));
    assert!(refusal(&json!({ "type": "FeatureCollection" })).contains("no list of features"));
    assert!(Zones::parse(&"[".repeat(100_000)).is_err(), "nested too deeply");
    let reference = |name: &str| {
        let mut zone = zone(&json!([[[0, 0], [1, 0], [1, 1], [0, 0]]]));
        zone["crs"] = json!({ "type": "name", "properties": { "name": name } });
        zone
    };
    assert!(refusal(&reference("urn:ogc:def:crs:EPSG::3857")).contains("crs urn:ogc:def:crs:EPSG::3857"));
    assert_eq!(zones(&reference("urn:ogc:def:crs:OGC:1.3:CRS84")).len(), 1);
}

#[test]
fn zones_and_positions_are_bounded() {
    let ring: Vec<_> = (0..POINTS_MAX - 1).map(|at| [(at % 100) as f64 / 100.0, 0.5]).chain([[0.0, 0.5]]).collect();
    assert_eq!(zones(&zone(&json!([ring]))).len(), 1);
    let more = refusal(&zone(&json!([ring, [[0, 0], [1, 0], [1, 1], [0, 0]]])));
    assert_eq!(more, "more than 100000 positions in all zones");
    let feature = |id: usize| json!({ "type": "Polygon", "id": id, "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]] });
    let collection =
        |count: usize| json!({ "type": "FeatureCollection", "features": (0..count).map(feature).collect::<Vec<_>>() });
    assert_eq!(zones(&collection(ZONES_MAX)).len(), ZONES_MAX);
    assert_eq!(refusal(&collection(ZONES_MAX + 1)), "more than 1000 zones");
    assert_eq!(Zones::parse(&" ".repeat(ZONES_BYTES_MAX + 1)).err(), Some(ZonesError::TooLong));
}

/// Which side of the line through `a` and `b` the position is on, in small integers.
fn side_of(a: (i64, i64), b: (i64, i64), p: (i64, i64)) -> i64 {
    ((b.0 - a.0) * (p.1 - a.1) - (b.1 - a.1) * (p.0 - a.0)).signum()
}

/// Inside by the even-odd rule, on a line that is so slanted that it meets no vertex.
fn is_inside_by_oracle(ring: &[(i64, i64)], p: (i64, i64)) -> bool {
    let far = (p.0 + 1_000_003, p.1 + 1);
    let mut crossings = 0;
    for edge in ring.windows(2) {
        let (a, b) = (edge[0], edge[1]);
        let is_between = (p.0 - a.0) * (p.0 - b.0) + (p.1 - a.1) * (p.1 - b.1) <= 0;
        if side_of(a, b, p) == 0 && is_between {
            return false;
        }
        let is_crossed = side_of(a, b, p) * side_of(a, b, far) < 0 && side_of(p, far, a) * side_of(p, far, b) < 0;
        crossings += usize::from(is_crossed);
    }
    crossings % 2 == 1
}

proptest! {
    #[test]
    fn positions_are_found_as_by_an_oracle(
        corners in prop::collection::vec((0_i64..8, 0_i64..8), 3..9),
        hole in prop::collection::vec((0_i64..8, 0_i64..8), 3..6),
        origin in (-170_i64..160, -80_i64..70),
    ) {
        // Steps of a twentieth of a degree: doubles do not hold them, decimals do.
        let degrees = |(x, y): (i64, i64)| {
            (origin.0 as f64 + x as f64 / 20.0, origin.1 as f64 + y as f64 / 20.0)
        };
        let closed = |corners: &[(i64, i64)]| -> Vec<(i64, i64)> {
            // Even steps, so that positions also lie between them.
            let even = corners.iter().map(|(x, y)| (x * 2, y * 2));
            even.clone().chain(even.take(1)).collect()
        };
        let (ring, hole) = (closed(&corners), closed(&hole));
        let coordinates = |ring: &[(i64, i64)]| ring.iter().map(|corner| degrees(*corner)).collect::<Vec<_>>();
        let filled = zones(&zone(&json!([coordinates(&ring)])));
        let holed = zones(&zone(&json!([coordinates(&ring), coordinates(&hole)])));
        for x in -1..16 {
            for y in -1..16 {
                let (longitude, latitude) = degrees((x, y));
                let is_inside = is_inside_by_oracle(&ring, (x, y));
                prop_assert_eq!(filled.contains("depot", longitude, latitude), Some(is_inside), "{:?}", (x, y));
                let is_in_hole = is_inside_by_oracle(&hole, (x, y)) || hole.windows(2).any(|edge| {
                    let ((ax, ay), (bx, by)) = (edge[0], edge[1]);
                    side_of(edge[0], edge[1], (x, y)) == 0 && (x - ax) * (x - bx) + (y - ay) * (y - by) <= 0
                });
                let expected = Some(is_inside && !is_in_hole);
                prop_assert_eq!(holed.contains("depot", longitude, latitude), expected, "{:?} with a hole", (x, y));
            }
        }
    }

    #[test]
    fn no_text_is_too_odd(text in r#"[\[\]{}:,"a0-9.e\- ]{0,40}"#) {
        let _ = Zones::parse(&text);
        let _ = Zones::parse(&format!(r#"{{"type":"Polygon","id":1,"coordinates":{text}}}"#));
    }
}
