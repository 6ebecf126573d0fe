//! What scikit-learn makes of many rows, written by `cloud/models/golden.py`: held to 1e-9.

use serde::Deserialize;

use super::{Kind, Model};

/// Of the size of what is expected, or of 1 if that is smaller.
const TOLERANCE: f64 = 1e-9;

#[derive(Deserialize)]
struct Cases {
    inputs: Vec<Vec<f64>>,
    outputs: Vec<Vec<f64>>,
}

macro_rules! golden {
    ($($name:literal),+ $(,)?) => {
        /// Each with its model and its cases.
        pub(super) const GOLDEN: &[(&str, &[u8], &str)] = &[
            $(($name, include_bytes!(concat!("golden/", $name, ".json")), include_str!(concat!("golden/", $name, ".cases.json")))),+
        ];
    };
}

golden!(
    "linear",
    "ridge",
    "logistic",
    "logistic_of_three",
    "network_relu",
    "network_tanh",
    "network_logistic",
    "network_identity",
    "tree",
    "tree_regressor",
    "leaf",
    "forest",
    "forest_regressor",
    "boosting",
    "boosting_of_three",
    "boosting_exponential",
    "boosting_from_zero",
    "boosting_regressor",
    "boosting_huber",
    "isolation",
    "isolation_of_some_columns",
);

/// The model of this name.
pub(super) fn model(name: &str) -> Model {
    let (_, file, _) = GOLDEN.iter().find(|(known, ..)| *known == name).expect("a golden model");
    Model::parse(file).expect("a model")
}

#[test]
fn every_kind_of_model_says_what_scikit_learn_says() {
    for (name, file, cases) in GOLDEN {
        let model = Model::parse(file).unwrap_or_else(|error| panic!("{name}: {error}"));
        let cases: Cases = serde_json::from_str(cases).expect("cases");
        assert!(cases.inputs.len() >= 40 && cases.inputs.len() == cases.outputs.len(), "{name}");
        for (row, (inputs, expected)) in cases.inputs.iter().zip(&cases.outputs).enumerate() {
            let scores = model.scores(inputs).unwrap_or_else(|| panic!("{name}: no scores of row {row}"));
            assert_eq!(scores.values().len(), expected.len(), "{name}");
            for (found, expected) in scores.values().iter().zip(expected) {
                let apart = (found - expected).abs();
                assert!(apart <= TOLERANCE * expected.abs().max(1.0), "{name}, row {row}: {found}, not {expected}");
            }
            if model.kind() == Kind::Classification {
                let greatest = expected.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                assert!(expected[scores.greatest()] >= greatest - TOLERANCE, "{name}, row {row}");
            }
        }
    }
}

/// The control: scikit-learn compares in single precision, and rows are there that notice whether it is done.
#[test]
fn the_rows_notice_a_comparison_in_double_precision() {
    let noticed = GOLDEN.iter().filter(|(_, file, cases)| {
        let document: serde_json::Value = serde_json::from_slice(file).expect("JSON");
        let cases: Cases = serde_json::from_str(cases).expect("cases");
        let trees = document["estimator"]["trees"].as_array().cloned().unwrap_or_default();
        let has_scaler = document.get("scaler").is_some();
        cases.inputs.iter().any(|inputs| {
            trees.iter().any(|tree| {
                let numbers = |name: &str| -> Vec<f64> {
                    tree[name].as_array().into_iter().flatten().filter_map(serde_json::Value::as_f64).collect()
                };
                let thresholds = numbers("threshold");
                !has_scaler
                    && numbers("input").iter().zip(&thresholds).any(|(input, threshold)| {
                        let value = inputs[*input as usize];
                        (value <= *threshold) != (f64::from(value as f32) <= *threshold)
                    })
            })
        })
    });
    assert!(noticed.count() >= 4);
}
