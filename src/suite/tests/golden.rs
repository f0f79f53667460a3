//! Compares results and examples with those of lm-evaluation-harness 0.4.13, which `golden.py` has written to
//! `tests/fixtures/suite/golden`.

use super::hash_model::HashModel;
use crate::{
    error::Result,
    evaluate::{Options, PreparedSuite},
    suite::Suite,
    value::{Map, Value},
};
use std::path::Path;

/// Whether values are equal, numbers up to the order of a sum, and whether there is no other key.
fn equal(a: &Value, b: &Value) -> bool {
    let number = |value: &Value| match value {
        Value::Int(number) => Some(*number as f64),
        Value::Float(number) => Some(*number),
        _ => None,
    };
    match (a, b) {
        (Value::List(a), Value::List(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Value::Map(a), Value::Map(b)) => {
            a.len() == b.len() && a.iter().all(|(key, value)| b.get(key).is_some_and(|own| equal(value, own)))
        }
        (a, b) => match (number(a), number(b)) {
            (Some(a), Some(b)) => (a - b).abs() <= 1e-12 * a.abs(),
            _ => a == b,
        },
    }
}

#[test]
fn results_are_those_of_the_harness() -> Result<()> {
    for name in ["mc_list", "mc_template", "lambada", "gsm", "wiki"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/suite/golden");
        let suite = Suite::load(&[folder.join(format!("{name}.yaml"))])?;
        let options = Options { limit: Some(6.0), bootstrap_iterations: 1000, ..Options::default() };
        let evaluation = PreparedSuite::new(suite, &|_| Ok(None), options)?.run(&mut HashModel::default())?;
        let text = std::fs::read_to_string(folder.join(format!("{name}.json"))).unwrap();
        let Value::Map(expected) = serde_json::from_str(&text).unwrap() else { panic!("not a map") };
        let samples: Map = evaluation.samples.into_iter().collect();
        assert!(equal(expected.get("samples").unwrap(), &samples.into()), "examples of {name}");
        for key in ["results", "n-samples", "higher_is_better"] {
            let (expected, own) = (expected.get(key).unwrap(), evaluation.results.get(key).unwrap());
            assert!(equal(expected, own), "{name} {key}: {} but {}", expected.to_repr(), own.to_repr());
        }
    }
    Ok(())
}
