use super::*;
use crate::{
    fit::{FitConfig, fit},
    isoflop::isoflop,
    runs::Runs,
    synthetic::{CHINCHILLA, normal},
};

fn flops(flops: f64) -> PlanConfig {
    PlanConfig { flops: Some(flops), ..Default::default() }
}

#[test]
fn cells_spend_the_budget_around_the_optimum() {
    for (total, vocabulary) in [(1e17, None), (1e20, Some(50_257)), (1e23, None), (3e18, Some(256))] {
        let config = PlanConfig { vocabulary, ..flops(total) };
        let found = plan(&config, None).unwrap();
        assert_eq!(found.cells.len(), 20);
        assert!((found.flops / total - 1.0).abs() < 1e-3, "{found:?}");
        for group in found.cells.chunks(5) {
            let best = (group[0].flops / 120.0).sqrt();
            assert!(group.windows(2).all(|pair| pair[0].parameters < pair[1].parameters), "{group:?}");
            assert!(group.iter().all(|cell| (cell.flops / group[0].flops - 1.0).abs() < 1e-3));
            assert!((group[0].parameters as f64) < best && best < group[4].parameters as f64);
        }
        for cell in &found.cells {
            assert!(cell.width.is_multiple_of(16) && cell.width.is_multiple_of(cell.heads), "{cell:?}");
            assert_eq!(cell.layers, ((cell.width as f64 / 64.0).round() as u64).max(1), "{cell:?}");
            let embedding = vocabulary.unwrap_or(0) * cell.width;
            assert_eq!(cell.parameters, 12 * cell.layers * cell.width * cell.width + embedding);
        }
    }
}

#[test]
fn heads_divide_the_width_into_about_64() {
    let heads: Vec<u64> = [32, 64, 96, 128, 272, 320, 768, 1024]
        .iter()
        .map(|&width| PlanConfig::default().shape(width).heads())
        .collect();
    assert_eq!(heads, [1, 1, 2, 2, 2, 5, 12, 16]);
}

#[test]
fn seconds_and_speed_are_a_budget() {
    let timed = PlanConfig { seconds: Some(36_000.0), flops_per_second: Some(1e13), ..Default::default() };
    let found = plan(&timed, None).unwrap();
    assert_eq!(found.cells.iter().map(|cell| cell.width).collect::<Vec<_>>(), {
        plan(&flops(3.6e17), None).unwrap().cells.iter().map(|cell| cell.width).collect::<Vec<_>>()
    });
    let seconds: f64 = found.cells.iter().filter_map(|cell| cell.seconds).sum();
    assert!((seconds / 36_000.0 - 1.0).abs() < 1e-3);
}

#[test]
fn planned_runs_determine_the_law() {
    let config = PlanConfig { sizes: 7, budgets: 6, ..flops(1e21) };
    let cells = plan(&config, Some(&CHINCHILLA)).unwrap().cells;
    let mut random = crate::random::Random::new(3);
    let runs = Runs::from_values(cells.iter().map(|cell| {
        let (n, d) = (cell.parameters as f64, cell.tokens as f64);
        (n, d, CHINCHILLA.loss(n, d) * (1e-4 * normal(&mut random)).exp())
    }));
    let runs = runs.unwrap();
    let found = fit(&runs, &FitConfig::default()).unwrap().law;
    assert!((found.alpha - 0.34).abs() < 0.02 && (found.beta - 0.28).abs() < 0.02, "{found:?}");
    let groups = isoflop(&runs, &Default::default()).unwrap();
    assert_eq!((groups.minima.len(), groups.refused.len()), (6, 0));
    assert!((groups.parameters.exponent - CHINCHILLA.parameters_exponent()).abs() < 0.02, "{groups:?}");
}

#[test]
fn impossible_plans_are_refused() {
    let message = |config: PlanConfig| plan(&config, None).unwrap_err().to_string();
    assert!(message(PlanConfig::default()).contains("give `flops`"));
    assert!(message(PlanConfig { seconds: Some(1.0), ..flops(1e18) }).contains("not both"));
    assert!(message(flops(f64::NAN)).contains("above 0"));
    assert!(message(flops(1e10)).contains("too small"));
    assert!(message(flops(1e60)).contains("more parameters"));
    assert!(message(PlanConfig { sizes: 2, ..flops(1e18) }).contains("at least 3"));
    assert!(message(PlanConfig { budgets: 1, ..flops(1e18) }).contains("at least 2"));
    assert!(message(PlanConfig { sizes: 3, budgets: 3, ..flops(1e18) }).contains("makes 9 runs, not 12"));
    assert!(message(PlanConfig { size_ratio: 1.0, ..flops(1e18) }).contains("`size_ratio`"));
    assert!(message(PlanConfig { budget_ratio: f64::NAN, ..flops(1e18) }).contains("`budget_ratio`"));
    assert!(message(PlanConfig { vocabulary: Some(0), ..flops(1e18) }).contains("`vocabulary`"));
    assert!(
        message(PlanConfig { flops_per_second: Some(0.0), ..flops(1e18) }).contains("`flops_per_second`")
    );
    assert!(serde_json::from_str::<PlanConfig>("{\"size\": 3}").is_err());
}

#[test]
fn a_single_run_has_the_nearest_shape() {
    let cell = single(&PlanConfig::default(), 1e8, 1e18).unwrap();
    assert!(
        (cell.parameters as f64 / 1e8).ln().abs() < 0.2 && (cell.flops / 1e18 - 1.0).abs() < 1e-6,
        "{cell:?}"
    );
    assert_eq!(single(&PlanConfig::default(), 1.0, 1e18).unwrap().width, 32);
    assert!(single(&PlanConfig::default(), 1e8, 1.0).is_err());
    assert!(single(&PlanConfig::default(), f64::NAN, 1e18).is_err());
}

#[test]
fn layers_may_be_fixed() {
    let config = PlanConfig { layers: Some(2), ..flops(1e14) };
    let found = plan(&config, None).unwrap();
    assert!(
        found.cells.iter().all(|cell| cell.layers == 2 && cell.parameters == 24 * cell.width * cell.width)
    );
    assert!(plan(&PlanConfig { layers: Some(0), ..flops(1e14) }, None).is_err());
}
