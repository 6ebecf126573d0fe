use proptest::prelude::*;
use serde_json::{Value, json};

use super::golden::{GOLDEN, model};
use super::*;

fn tree() -> Value {
    json!({"input": [0, 1], "threshold": [1.0, -2.5], "left": [-1, -2], "right": [1, -3], "leaves": [10.0, 20.0, 30.0]})
}

fn document(estimator: Value) -> Value {
    json!({
        "format": "outrider-model", "version": 1,
        "inputs": [{"name": "t.mean", "metric": "t", "feature": "mean"}, {"name": "load"}],
        "estimator": estimator,
    })
}

fn forest() -> Value {
    document(json!({"type": "forest", "trees": [tree()]}))
}

/// A document with its members in the order in which files have them, which `serde_json` does not keep.
fn text(document: &Value) -> String {
    fn write(value: &Value, out: &mut String) {
        const FIRST: [&str; 6] = ["format", "version", "about", "inputs", "labels", "type"];
        match value {
            Value::Object(members) => {
                let mut names: Vec<&String> = members.keys().collect();
                names.sort_by_key(|name| FIRST.iter().position(|first| first == name).unwrap_or(FIRST.len()));
                out.push('{');
                for (place, name) in names.into_iter().enumerate() {
                    out.push_str(if place > 0 { "," } else { "" });
                    out.push_str(&Value::from(name.as_str()).to_string());
                    out.push(':');
                    write(&members[name], out);
                }
                out.push('}');
            }
            Value::Array(elements) => {
                out.push('[');
                for (place, element) in elements.iter().enumerate() {
                    out.push_str(if place > 0 { "," } else { "" });
                    write(element, out);
                }
                out.push(']');
            }
            other => out.push_str(&other.to_string()),
        }
    }
    let mut out = String::new();
    write(document, &mut out);
    out
}

fn parse(document: &Value) -> Result<Model, String> {
    Model::parse(text(document).as_bytes()).map_err(|error| error.to_string())
}

/// The document with one value replaced, by its path in JSON's own way of writing them.
fn with(mut document: Value, pointer: &str, value: Value) -> Value {
    let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
    let parent = document.pointer_mut(parent).expect("its parent");
    match parent {
        Value::Object(members) => _ = members.insert(name.to_owned(), value),
        Value::Array(elements) => elements[name.parse::<usize>().expect("a place")] = value,
        _ => unreachable!("a leaf has no members"),
    }
    document
}

#[test]
fn a_tree_is_walked_to_its_leaves() {
    let model = parse(&forest()).expect("a model");
    let value = |inputs: [f64; 2]| model.scores(&inputs).expect("a score").values().to_vec();
    assert_eq!(value([1.0, 9.0]), [10.0], "a value at the threshold goes to the left");
    assert_eq!(value([1.1, -2.5]), [20.0]);
    assert_eq!(value([1.1, -2.4]), [30.0]);
    assert_eq!((model.kind(), model.algorithm(), model.size(), model.steps()), (Kind::Regression, "forest", (1, 5), 3));
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    let trees = "/estimator/trees/0";
    for (pointer, value, expected) in [
        ("/format", json!("onnx"), "$.format: expected \"outrider-model\""),
        ("/version", json!(2), "$.version: expected version 1; this is 2, of a newer exporter"),
        ("/inputs", json!([]), "$.inputs: expected at least one input"),
        ("/inputs/1/name", json!("t.mean"), "$.inputs[1]: expected a name that no other input has"),
        (
            "/inputs/0/feature",
            json!("median"),
            "$.inputs[0].feature: expected one of mean, deviation, minimum, maximum, slope, last, count",
        ),
        (
            "/inputs/0",
            json!({"name": "a", "metric": "t"}),
            "$.inputs[0]: expected metric and feature, or none of the two",
        ),
        ("/labels", json!(["one"]), "$.labels: expected at least two labels"),
        (
            "/colour",
            json!(1),
            "$: expected no member \"colour\"; there may be format, version, about, inputs, labels, scaler, estimator, examples",
        ),
        ("/scaler", json!({"mean": [0, 0], "scale": [1]}), "$.scaler.scale: expected 2 numbers, one for each input"),
        (
            "/scaler",
            json!({"mean": [0, 0], "scale": [1, 0]}),
            "$.scaler.scale: expected numbers other than 0, which nothing can be divided by",
        ),
        (
            "/estimator/type",
            json!("svm"),
            "$.estimator.type: expected one of dense, forest, boosting, isolation_forest",
        ),
        ("/estimator/rate", json!(1), "$.estimator.rate: expected no such member of forest, which has trees"),
        (
            &format!("{trees}/input"),
            json!([0, 2]),
            "$.estimator.trees[0].input: expected in element 1 the place of an input, from 0 to 1",
        ),
        (
            &format!("{trees}/input"),
            json!([0, 0.5]),
            "$.estimator.trees[0].input: expected in element 1 the place of an input, from 0 to 1",
        ),
        (&format!("{trees}/threshold/1"), json!("x"), "$.estimator.trees[0].threshold[1]: expected a number"),
        (
            &format!("{trees}/left"),
            json!([-1]),
            "$.estimator.trees[0]: expected input, threshold, left and right of one length",
        ),
        (
            &format!("{trees}/leaves"),
            json!([1, 2]),
            "$.estimator.trees[0]: expected 3 leaves (one more than nodes) of 1 values each",
        ),
        (
            &format!("{trees}/right"),
            json!([0, -3]),
            "$.estimator.trees[0]: expected in right[0] a later node, or -1 for the first leaf and so on, that no other branch leads to",
        ),
        (
            &format!("{trees}/right"),
            json!([1, -2]),
            "$.estimator.trees[0]: expected in right[1] a later node, or -1 for the first leaf and so on, that no other branch leads to",
        ),
        (
            &format!("{trees}/right"),
            json!([1, -4]),
            "$.estimator.trees[0]: expected in right[1] a later node, or -1 for the first leaf and so on, that no other branch leads to",
        ),
        (
            &format!("{trees}/right"),
            json!([-3, -3]),
            "$.estimator.trees[0]: expected node 1 as the branch of a node before it",
        ),
        ("/estimator/trees", json!([]), "$.estimator.trees: expected at least one tree"),
        ("/examples", json!([{"inputs": [1], "outputs": [1]}]), "$.examples[0]: expected 2 inputs"),
        (
            "/examples",
            json!([{"inputs": [1, 0], "outputs": [11]}]),
            "$.examples[0]: the model makes [10.0] of this, and should make [11.0]: the file was changed, or is of another program's version",
        ),
    ] {
        assert_eq!(parse(&with(forest(), pointer, value)).expect_err(pointer), expected, "{pointer}");
    }
}

#[test]
fn what_is_no_json_is_refused() {
    let whole = text(&forest());
    for (broken, expected) in [
        (String::new(), "$: expected an object"),
        ("[1]".to_owned(), "$: expected an object"),
        (format!("{whole} 1"), "$: no JSON at byte"),
        (whole.replacen("1.0", "01", 1), "$.estimator.trees[0].threshold[0]: expected a number"),
        (
            whole.replacen("1.0", "1e999", 1),
            "$.estimator.trees[0].threshold[0]: expected a number that a double can hold",
        ),
        (whole.replacen("1.0", "NaN", 1), "$.estimator.trees[0].threshold[0]: expected a number"),
        (whole.replacen("1.0", "1.", 1), "$.estimator.trees[0].threshold[0]: expected a number"),
        (whole.replacen("\"version\":1", "\"version\":1,\"version\":1", 1), "$.version: expected this member once"),
        (whole.replacen("t.mean", "t\\qmean", 1), "$.inputs[0].name: no JSON at byte"),
    ] {
        let error = Model::parse(broken.as_bytes()).expect_err("no JSON").to_string();
        assert!(error.starts_with(expected), "{error} is not {expected}");
    }
    assert_eq!(Model::parse(b"\xff").expect_err("bytes").to_string(), "$: not UTF-8");
}

#[test]
fn layers_and_sums_have_as_many_outputs_as_there_are_labels() {
    let layer = |outputs: usize| json!({"weights": vec![[1.0, 0.0]; outputs], "bias": vec![0.0; outputs], "activation": "softmax"});
    let dense = |outputs: usize| document(json!({"type": "dense", "layers": [layer(outputs)]}));
    let labels = json!(["a", "b", "c"]);
    assert_eq!(parse(&dense(2)).expect_err("two"), "$.estimator: expected one output, since there are no labels");
    assert_eq!(
        parse(&with(dense(2), "/labels", labels.clone())).expect_err("two"),
        "$.estimator: expected one output for each of the 3 labels"
    );
    let three = parse(&with(dense(3), "/labels", labels)).expect("a model");
    assert_eq!(three.scores(&[5.0, 0.0]).expect("scores").values(), [1.0 / 3.0; 3]);
    let boosting = |initial: Value| {
        document(json!({"type": "boosting", "rate": 1, "link": "identity", "trees": [tree()], "initial": initial}))
    };
    assert_eq!(
        parse(&boosting(json!([0.0, 0.0]))).expect_err("two"),
        "$.estimator: expected in initial one output, since there are no labels"
    );
    assert_eq!(parse(&boosting(json!([0.5]))).expect("a model").scores(&[0.0, 0.0]).expect("a score").values(), [10.5]);
}

#[test]
fn a_missing_input_gives_no_score() {
    for (name, ..) in GOLDEN {
        let model = model(name);
        assert!(model.scores(&[0.0; 5]).is_some(), "{name}");
        assert_eq!(model.scores(&[0.0; 4]), None, "{name}");
        for missing in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            for place in 0..5 {
                let mut inputs = [0.0; 5];
                inputs[place] = missing;
                assert_eq!(model.scores(&inputs), None, "{name}");
            }
        }
    }
    let forest = model("forest_regressor");
    assert_eq!(forest.scores(&[1e39, 0.0, 0.0, 0.0, 0.0]), None, "too large for single precision");
}

#[test]
fn the_score_of_a_threshold_is_that_of_what_is_looked_for() {
    let inputs = [120.0, 0.0, 9.0, 10.0, 0.0];
    let forest = model("forest");
    let scores = forest.scores(&inputs).expect("scores");
    let hot = forest.labels().iter().position(|label| **label == *"hot").expect("a label");
    assert_eq!(forest.score(&scores, Some("hot")), Some(scores.values()[hot]));
    assert_eq!(forest.score(&scores, Some("cold")), None);
    let isolation = model("isolation");
    let scores = isolation.scores(&inputs).expect("scores");
    assert_eq!(isolation.score(&scores, None), Some(-scores.values()[0]));
    assert_eq!(isolation.kind(), Kind::Outlier);
}

#[test]
fn the_name_of_an_input_says_which_feature_it_is() {
    assert_eq!(Input::named("engine.temp.mean").of, Some(("engine.temp".into(), Feature::Mean)));
    assert_eq!(Input::named("load").of, None);
    assert_eq!(Input::named("engine.temp").of, None);
    assert_eq!(Input::named(".mean").of, None);
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Model::parse(&bytes);
    }

    /// A good file of each kind, with a few bytes replaced: what is still a model gives finite scores or none.
    #[test]
    fn a_damaged_file_is_refused_or_a_model(
        which in 0..GOLDEN.len(),
        damages in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 1..4),
        inputs in prop::collection::vec(any::<f64>(), 5),
    ) {
        const BYTES: &[u8] = b"0123456789-+.eE,:[]{}\"\\ atn";
        let mut file = GOLDEN[which].1.to_vec();
        for (place, byte, is_removed) in damages {
            let place = place.index(file.len());
            match is_removed {
                true => _ = file.remove(place),
                false => file[place] = BYTES[usize::from(byte) % BYTES.len()],
            }
        }
        if let Ok(model) = Model::parse(&file)
            && let Some(scores) = model.scores(&inputs)
        {
            prop_assert!(scores.values().iter().all(|score| score.is_finite()));
        }
    }
}
