//! Any bytes as the file of a model: refused with a place, or a model whose scores are finite or missing, whatever it is given.
#![no_main]

use libfuzzer_sys::fuzz_target;
use outrider::core::models::{INPUTS_MAX, Model};

const ROWS: [[f64; 4]; 4] =
    [[0.0; 4], [1.0, -2.5, 1e30, 7.0], [1e300, -1e300, 1e-300, 3.0], [f64::NAN, f64::INFINITY, 0.0, 1.0]];

fuzz_target!(|file: &[u8]| {
    let model = match Model::parse(file) {
        Ok(model) => model,
        Err(error) => return assert!(error.path.starts_with('$')),
    };
    for row in ROWS {
        let mut inputs = [0.0; INPUTS_MAX];
        for (place, value) in inputs.iter_mut().zip(row.iter().cycle()) {
            *place = *value;
        }
        if let Some(scores) = model.scores(&inputs[..model.inputs().len()]) {
            assert!(scores.values().iter().all(|score| score.is_finite()));
            assert!(scores.greatest() < scores.values().len());
        }
    }
});
