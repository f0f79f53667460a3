//! `kiln scale`: a law is found again from runs that follow it, and what cannot be fitted is told.

use crate::support::{fails, file, folder, kiln, ok, words};
use serde_json::Value;

/// Runs of Chinchilla's law, with up to 0.5 % of noise.
fn runs() -> String {
    let mut state = 7u64;
    let mut noise = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        1.0 + 0.005 * ((state >> 33) as f64 / (1u64 << 30) as f64 - 1.0)
    };
    let mut text = "parameters,tokens,loss\n".to_owned();
    for n in 0..7 {
        for d in 0..9 {
            let (n, d) = (1e7 * 10f64.powf(f64::from(n) / 2.0), 1e8 * 10f64.powf(f64::from(d) / 2.0));
            let loss = 1.69 + 406.4 / n.powf(0.34) + 410.7 / d.powf(0.28);
            text += &format!("{n:e},{d:e},{}\n", loss * noise());
        }
    }
    text
}

#[test]
fn a_law_is_found_again_and_predicts() {
    let folder = folder();
    let runs = file(&folder, "runs.csv", runs());
    let mut fit = kiln(words("scale fit --budget 1e21 --predict 7e10,1.4e12 --resamples 50 --json"));
    let found: Value = serde_json::from_str(&ok(fit.arg(&runs))).unwrap();
    let law = &found["fit"]["law"];
    for (name, expected) in [("alpha", 0.34), ("beta", 0.28)] {
        let exponent = law[name].as_f64().unwrap();
        assert!((exponent - expected).abs() < 0.02, "{name} {exponent}");
    }
    let loss = found["predictions"][0]["loss"]["value"].as_f64().unwrap();
    let expected = 1.69 + 406.4 / 7e10f64.powf(0.34) + 410.7 / 1.4e12f64.powf(0.28);
    assert!((loss / expected - 1.0).abs() < 0.02, "{loss} instead of {expected}");
    assert!(found["optima"][0]["tokens_per_parameter"]["interval"]["low"].is_number(), "{found}");
    let printed = ok(kiln(words("scale fit --budget 1e21")).arg(&runs));
    assert!(printed.contains("alpha") && printed.contains("tokens per parameter"), "{printed}");
    ok(kiln(words("scale kaplan")).arg(&runs));
    let plan = ok(&mut kiln(words("scale plan --flops 1e17")));
    assert!(plan.lines().count() > 12, "{plan}");
}

#[test]
fn what_cannot_be_fitted_is_told() {
    let folder = folder();
    let bad = |text: &str| file(&folder, "bad.csv", text);
    let few = "n,d,loss\n1e6,1e8,3\n1e7,1e9,2.5\n";
    for (text, part) in
        [(few, "runs"), ("n,d,loss\n1e6,x,3\n", "bad.csv"), ("n,loss\n1e6,3\n", "bad.csv"), ("", "bad.csv")]
    {
        fails(kiln(words("scale fit")).arg(bad(text)), 2, &[part]);
    }
    fails(kiln(words("scale fit --predict 7")).arg(bad(few)), 2, &["--predict"]);
}
