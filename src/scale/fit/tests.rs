use super::*;
use crate::synthetic::{CHINCHILLA, grid, spread};

fn fitted(runs: &Runs) -> Law {
    fit(runs, &FitConfig::default()).unwrap().law
}

fn refused(values: impl IntoIterator<Item = (f64, f64, f64)>) -> Error {
    fit(&Runs::from_values(values).unwrap(), &FitConfig::default()).unwrap_err()
}

/// Losses of `law` for every pair of `sizes` and `tokens`.
fn exact(law: &Law, sizes: &[f64], tokens: &[f64]) -> Vec<(f64, f64, f64)> {
    sizes.iter().flat_map(|&n| tokens.iter().map(move |&d| (n, d, law.loss(n, d)))).collect()
}

#[test]
fn the_gradient_is_that_of_finite_differences() {
    let runs = grid(&CHINCHILLA, &spread(1e7, 1e10, 4), &spread(1e8, 1e12, 5), 0.005, 0);
    let points = Points::new(runs.as_slice().iter());
    // A large delta reaches the square part of the Huber loss, a small one the straight part.
    for (delta, start) in [(1.0, 17), (1e-3, 250), (0.1, 480)] {
        let at = points.starts()[start];
        let (_, gradient) = points.objective(&at, delta);
        for (index, slope) in gradient.iter().enumerate() {
            let moved = |by: f64| {
                let mut moved = at;
                moved[index] += by;
                points.objective(&moved, delta).0
            };
            let expected = (moved(1e-6) - moved(-1e-6)) / 2e-6;
            assert!(
                (slope - expected).abs() < 1e-6 * expected.abs().max(1.0),
                "{delta} {index}: {slope} {expected}"
            );
        }
    }
}

#[test]
fn chinchilla_is_recovered_from_noisy_runs() {
    for (sizes, tokens) in [(5, 6), (7, 9)] {
        for seed in 0..20 {
            let runs = grid(&CHINCHILLA, &spread(1e7, 1e10, sizes), &spread(1e8, 1e12, tokens), 0.005, seed);
            let Law { e, alpha, beta, .. } = fitted(&runs);
            assert!((alpha - 0.34).abs() < 0.02 && (beta - 0.28).abs() < 0.02, "seed {seed}: {alpha} {beta}");
            assert!((e - 1.69).abs() < 0.06, "seed {seed}: {e}");
        }
    }
}

#[test]
fn other_laws_are_recovered_from_noisy_runs() {
    let epoch = Law { e: 1.8172, a: 477.8, b: 2143.0, alpha: 0.3473, beta: 0.3672 };
    let flat = Law { e: 1.0, a: 8.0, b: 12.0, alpha: 0.12, beta: 0.15 };
    let steep = Law { e: 2.5, a: 3000.0, b: 200.0, alpha: 0.5, beta: 0.25 };
    // The grid of `steep` begins at smaller models: from 1e7 parameters on, noise hides much of what N does, and
    // only 86 of 100 seeds are within the bound. With these grids, 100, 99 and 100 of 100 other seeds are.
    let (usual, small) = ((1e7, 1e10, 7, 1e8, 1e12, 9), (1e6, 1e9, 7, 1e8, 1e12, 9));
    for (law, (n_low, n_high, n_count, d_low, d_high, d_count)) in
        [(epoch, usual), (flat, usual), (steep, small)]
    {
        let (sizes, tokens) = (spread(n_low, n_high, n_count), spread(d_low, d_high, d_count));
        for seed in 0..20 {
            let found = fitted(&grid(&law, &sizes, &tokens, 0.005, seed));
            let errors = [found.alpha - law.alpha, found.beta - law.beta];
            assert!(errors.iter().all(|error| error.abs() < 0.02), "seed {seed}: {found:?}");
        }
    }
}

#[test]
fn exact_losses_give_the_exact_law() {
    // Tiny models on tiny data, and losses in other units.
    let tiny = Law { e: 0.3, a: 5.0, b: 40.0, alpha: 0.2, beta: 0.4 };
    let large = Law { e: 40.0, a: 9e4, b: 3e3, alpha: 0.41, beta: 0.2 };
    for (law, sizes, tokens) in
        [(tiny, [1e3, 1e4, 1e5], [1e4, 1e5, 1e6]), (large, [1e8, 1e10, 1e12], [1e9, 1e11, 1e13])]
    {
        let found = fitted(&Runs::from_values(exact(&law, &sizes, &tokens)).unwrap());
        let close = |found: f64, expected: f64| (found / expected - 1.0).abs() < 1e-4;
        assert!(
            close(found.e, law.e) && close(found.alpha, law.alpha) && close(found.beta, law.beta),
            "{found:?}"
        );
        assert!(close(found.a, law.a) && close(found.b, law.b), "{found:?}");
    }
}

/// ```python
/// N = np.repeat([1e7, 1e8, 1e9, 1e10], 4); D = np.tile([1e8, 3e9, 6e10, 1e12], 4)
/// L = np.array([5.71, 4.29, 3.77, 3.56, 4.81, 3.39, 2.85, 2.63, 4.44, 3.01, 2.43, 2.25, 4.19, 2.80, 2.28, 2.06])
/// x, y = np.log(N / 3e8), np.log(D / 1e10)
/// def f(p):
///     a, b, e, al, be = p
///     return scipy.special.huber(1e-3, logsumexp([a - al * x, b - be * y, e + 0 * x], axis=0) - np.log(L)).sum()
/// p = np.array([-.5, -.5, .5, .3, .3])
/// for _ in range(20):
///     p = minimize(f, p, method="Nelder-Mead", options=dict(xatol=1e-13, fatol=1e-16, maxiter=9999, maxfev=9999)).x
/// a, b, e, al, be = p
/// print(np.exp(e), np.exp(a + al * np.log(3e8)), np.exp(b + be * np.log(1e10)), al, be, f(p))
/// ```
///
/// With the 240 runs of arXiv:2404.10102 (data/svg_extracted_data.csv of epoch-research/analyzing-chinchilla,
/// without its 5 highest losses) this fit gives E 1.81722, A 477.83, B 2143.4, α 0.347311 and β 0.367172; its
/// notebook prints 1.81724, 477.84, 2143.9, 0.347313 and 0.367183.
#[test]
fn numbers_are_those_of_scipy() {
    let losses =
        [5.71, 4.29, 3.77, 3.56, 4.81, 3.39, 2.85, 2.63, 4.44, 3.01, 2.43, 2.25, 4.19, 2.80, 2.28, 2.06];
    let cells = [1e7, 1e8, 1e9, 1e10].into_iter().flat_map(|n| [1e8, 3e9, 6e10, 1e12].map(|d| (n, d)));
    let runs = Runs::from_values(cells.zip(losses).map(|((n, d), loss)| (n, d, loss))).unwrap();
    let found = fit(&runs, &FitConfig::default()).unwrap();
    const SCIPY: [f64; 6] = [
        1.7234073649610464,
        471.21694474335453,
        355.8369998348833,
        0.35141760865863664,
        0.2723603484740098,
        5.358159281140165e-05,
    ];
    let Law { e, a, b, alpha, beta } = found.law;
    for (found, expected) in [e, a, b, alpha, beta, found.objective].iter().zip(SCIPY) {
        assert!((found / expected - 1.0).abs() < 1e-5, "{found} {expected}");
    }
}

#[test]
fn outliers_hardly_move_the_law() {
    let mut values = exact(&CHINCHILLA, &spread(1e7, 1e10, 5), &spread(1e8, 1e12, 6));
    values[7].2 *= 1.3;
    values[20].2 *= 1.1;
    let found = fitted(&Runs::from_values(values).unwrap());
    assert!((found.alpha - 0.34).abs() < 1e-3 && (found.beta - 0.28).abs() < 1e-3, "{found:?}");
}

#[test]
fn runs_that_do_not_determine_the_law_are_refused() {
    let grid = |sizes: &[f64], tokens: &[f64]| exact(&CHINCHILLA, sizes, tokens);
    let message = |values| {
        let error = refused(values);
        (error.to_string(), error.hint().unwrap())
    };
    let (error, hint) = message(grid(&[1e7, 1e8, 1e9], &[1e9])[..].to_vec());
    assert_eq!(error, "all runs have the same tokens, so that the exponent `beta` cannot be known");
    assert_eq!(hint, "add runs with 2 or more other values of D, best spread over a factor of 10");
    let (error, hint) = message(grid(&[1e7, 1e8, 1e9], &[1e9, 1e10, 1e11])[..5].to_vec());
    assert_eq!(error, "the fit of L(N, D) needs at least 6 runs, but there are 5");
    assert_eq!(hint, "add 1 or more runs with other sizes and other numbers of tokens");
    let (error, _) = message(grid(&[1e7, 1e8], &[1e9, 1e10, 1e11]));
    assert_eq!(error, "the runs have 2 different values of N (parameters), but the exponent `alpha` needs 3");
    let fixed_ratio = spread(1e7, 1e10, 8).into_iter().map(|n| (n, 20.0 * n, CHINCHILLA.loss(n, 20.0 * n)));
    assert_eq!(
        refused(fixed_ratio).to_string(),
        "in all runs D is proportional to N^1.00, so that `alpha` and `beta` cannot be told apart"
    );
    let error =
        fit(&Runs::from_values(grid(&[1e7], &[1e9])).unwrap(), &FitConfig { delta: 0.0 }).unwrap_err();
    assert_eq!(error.to_string(), "invalid value `0` for `delta`: it must be a finite number above 0");
}

#[test]
fn losses_that_follow_no_law_are_refused() {
    let (sizes, tokens) = (spread(1e7, 1e10, 4), spread(1e8, 1e12, 5));
    let mut values = exact(&CHINCHILLA, &sizes, &tokens);
    values[19].2 = 0.8;
    assert!(matches!(refused(values), Error::BelowFloor { runs, .. } if runs[0].path == "run 20"));
    let rising = |n: f64, d: f64| 1.0 + 0.1 * n.powf(0.1) + 400.0 * d.powf(-0.3);
    let flat = |_: f64, d: f64| 1.7 + 400.0 * d.powf(-0.3);
    let constant = |_: f64, _: f64| 2.0;
    for loss in [&rising as &dyn Fn(f64, f64) -> f64, &flat, &constant] {
        let values = sizes.iter().flat_map(|&n| tokens.iter().map(move |&d| (n, d, loss(n, d))));
        let error = refused(values);
        let about_parameters = matches!(
            error,
            Error::NoDecrease { quantity: Quantity::Parameters, .. }
                | Error::NoEffect { quantity: Quantity::Parameters }
        );
        assert!(about_parameters, "{error:?}");
    }
}

#[test]
fn doubtful_fits_have_notes() {
    let no_floor = Law { e: 0.0, ..CHINCHILLA };
    let runs = Runs::from_values(exact(&no_floor, &spread(1e7, 1e10, 4), &spread(1e8, 1e12, 5))).unwrap();
    let notes = fit(&runs, &FitConfig::default()).unwrap().notes;
    assert!(notes.len() == 1 && notes[0].contains("is not determined"), "{notes:?}");
    let runs = Runs::from_values(exact(&CHINCHILLA, &spread(1e7, 3e7, 4), &spread(1e8, 1e12, 5))).unwrap();
    let notes = fit(&runs, &FitConfig::default()).unwrap().notes;
    assert_eq!(notes, ["the parameters differ by a factor of 3.0 only: add other N"]);
}

/// Numbers of any size, as a broken file may have them, give an error or a law, but no panic.
#[test]
fn wild_numbers_do_not_panic() {
    let mut random = crate::random::Random::new(5);
    for round in 0..60 {
        let mut wild =
            |most: usize| 10f64.powf((random.below(2 * most * 100) as f64 - (most * 100) as f64) / 100.0);
        let most = [2, 20, 140][round % 3];
        let runs =
            Runs::from_values((0..8).map(|_| (wild(most), wild(most), wild(most))).collect::<Vec<_>>());
        let Ok(runs) = runs else { continue };
        let _ = crate::isoflop::isoflop(&runs, &Default::default());
        for quantity in [Quantity::Parameters, Quantity::Tokens, Quantity::Compute] {
            let _ = crate::kaplan::power_law(&runs, quantity);
        }
        if let Ok(fit) = fit(&runs, &FitConfig::default()) {
            let bootstrap = crate::bootstrap::bootstrap(&runs, &fit, &Default::default()).ok();
            let _ = crate::advice::optimal(&fit, bootstrap.as_ref(), 1e20);
        }
    }
}
