//! Divergences between the teacher's and the student's distribution of the next token (arXiv:2306.13649), over
//! the whole vocabulary or over the teacher's most likely tokens.

use crate::{config::TopK, device::short_name};
use burn::tensor::{Int, Tensor, TensorData, activation::log_softmax};

/// Prediction of a teacher for M tokens.
#[allow(clippy::large_enum_variant, reason = "one a chunk, and not kept")]
pub(super) enum Teacher {
    /// Logits of the whole vocabulary, `[M, V]`.
    All(Tensor<2>),
    Top(Top),
}

/// The most likely tokens of a teacher.
pub(super) struct Top {
    /// Tokens, `[M, K]`.
    pub tokens: Tensor<2, Int>,
    /// Their logits, `[M, K]`.
    pub logits: Tensor<2>,
    /// Logarithm of the sum of exponentials of all logits over the temperature, `[M, 1]`.
    pub log_sums: Tensor<2>,
}

impl Top {
    /// The `count` most likely tokens under logits of the whole vocabulary.
    pub fn of(logits: Tensor<2>, count: usize, temperature: f64) -> Self {
        let log_sums = log_sum(logits.clone().div_scalar(temperature));
        let (logits, tokens) = largest(logits, count);
        Self { tokens, logits, log_sums }
    }
}

/// The `count` largest values of each row in falling order, and their columns, `[M, V]` -> `[M, K]`. On the CPU Burn
/// sorts whole rows, so that they are selected in host memory there, for which nothing has to be waited.
fn largest(values: Tensor<2>, count: usize) -> (Tensor<2>, Tensor<2, Int>) {
    let ([rows, width], device) = (values.dims(), values.device());
    let data = (short_name(&device) == "cpu").then(|| values.clone().try_into_data().ok()).flatten();
    let Some(numbers) = data.as_ref().and_then(|data| data.as_slice::<f32>().ok()) else {
        return values.topk_with_indices(count, 1);
    };
    let count = count.min(width);
    let (mut found, mut columns) = (Vec::with_capacity(rows * count), Vec::with_capacity(rows * count));
    let mut order: Vec<i32> = Vec::with_capacity(width);
    for row in numbers.chunks(width.max(1)) {
        // Of equal values the first comes first.
        let falling = |a: &i32, b: &i32| row[*b as usize].total_cmp(&row[*a as usize]).then(a.cmp(b));
        order.clear();
        order.extend(0..width as i32);
        if count < width {
            order.select_nth_unstable_by(count, falling);
        }
        order[..count].sort_unstable_by(falling);
        found.extend(order[..count].iter().map(|&column| row[column as usize]));
        columns.extend_from_slice(&order[..count]);
    }
    let columns = Tensor::from_data(TensorData::new(columns, [rows, count]), &device);
    (Tensor::from_data(TensorData::new(found, [rows, count]), &device), columns)
}

/// Settings of a divergence.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Divergence {
    /// 0 for KL(teacher | student), 1 for KL(student | teacher), and between them the generalized
    /// Jensen–Shannon divergence.
    pub beta: f64,
    /// Divides the logits of both.
    pub temperature: f64,
    pub form: TopK,
}

impl Divergence {
    /// Divergence for each token, `[M, 1]`, from the student's logits, `[M, V]`.
    pub fn of(self, student: Tensor<2>, teacher: Teacher) -> Tensor<2> {
        let student = log_softmax(student.div_scalar(self.temperature), 1);
        let (student, teacher) = match teacher {
            Teacher::All(logits) => (student, log_softmax(logits.div_scalar(self.temperature), 1)),
            Teacher::Top(Top { tokens, logits, log_sums }) => {
                let student = student.gather(1, tokens); // [M, K]
                let logits = logits.div_scalar(self.temperature);
                match self.form {
                    TopK::Tail => (with_rest(student), with_rest(logits - log_sums)),
                    TopK::Renormalized => (student, log_softmax(logits, 1)),
                    TopK::Both => (log_softmax(student, 1), log_softmax(logits, 1)),
                }
            }
        };
        between(student, teacher, self.beta)
    }
}

/// Divergence of log-probabilities, `[M, K]` -> `[M, 1]`.
fn between(student: Tensor<2>, teacher: Tensor<2>, beta: f64) -> Tensor<2> {
    let kl = |p: Tensor<2>, q: Tensor<2>| (p.clone().exp() * (p - q)).sum_dim(1);
    if beta <= 0.0 {
        return kl(teacher, student);
    }
    if beta >= 1.0 {
        return kl(student, teacher);
    }
    // The logarithm of the mixture, beside the larger of the two so that no exponential vanishes with it.
    let larger = teacher.clone().max_pair(student.clone()).detach();
    let part = |log_p: &Tensor<2>, share: f64| (log_p.clone() - larger.clone()).exp().mul_scalar(share);
    let mixture = (part(&teacher, beta) + part(&student, 1.0 - beta)).log() + larger.clone();
    kl(teacher, mixture.clone()).mul_scalar(beta) + kl(student, mixture).mul_scalar(1.0 - beta)
}

/// Largest share of the probability that the known tokens may have, so that the rest has a logarithm.
const MOST_KNOWN: f64 = 1.0 - 1e-6;

/// Adds the logarithm of what is left of 1, `[M, K]` -> `[M, K + 1]`.
fn with_rest(log_p: Tensor<2>) -> Tensor<2> {
    let known = log_p.clone().exp().sum_dim(1).clamp_max(MOST_KNOWN);
    Tensor::cat(vec![log_p, known.neg().log1p()], 1)
}

/// Logarithm of the sum of exponentials, `[M, V]` -> `[M, 1]`.
pub(super) fn log_sum(values: Tensor<2>) -> Tensor<2> {
    let largest = values.clone().max_dim(1);
    (values - largest.clone()).exp().sum_dim(1).log() + largest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(divergence: Divergence, student: [f32; 4], teacher: Teacher) -> f32 {
        let device = crate::device::Choice::cpu().open().unwrap();
        divergence.of(Tensor::from_data([student], &device), teacher).into_scalar::<f32>()
    }

    #[test]
    fn equal_distributions_have_none_and_far_ones_stay_finite() {
        let device = crate::device::Choice::cpu().open().unwrap();
        let logits = [1.0, -2.0, 0.5, 3.0];
        let tensor = |logits: [f32; 4]| Tensor::<2>::from_data([logits], &device);
        for beta in [0.0, 0.3, 1.0] {
            for form in [TopK::Tail, TopK::Both] {
                let divergence = Divergence { beta, temperature: 1.5, form };
                let same = value(divergence, logits, Teacher::All(tensor(logits)));
                assert!(same.abs() < 1e-6, "{same}");
                let top = Top::of(tensor(logits), 2, 1.5);
                let same = value(divergence, logits, Teacher::Top(top));
                assert!(same.abs() < 1e-6, "{same}");
                let far =
                    value(divergence, [300.0, 0.0, 0.0, 0.0], Teacher::All(tensor([0.0, 300.0, 0.0, 0.0])));
                assert!(far.is_finite() && far > 0.5, "{far}");
            }
        }
    }

    #[test]
    fn the_largest_values_are_those_of_a_sort() {
        let device = crate::device::Choice::cpu().open().unwrap();
        let (rows, width) = (5, 101);
        // Multiples of a number without a common divisor: each value once in a row.
        let numbers = (0..rows * width).map(|at| (at * 37 % width) as f32 - (at / width) as f32 * 0.25);
        let data = TensorData::new(numbers.collect::<Vec<f32>>(), [rows, width]);
        let values = Tensor::<2>::from_data(data, &device);
        for count in [1, 7, 100, 101] {
            let (found, columns) = largest(values.clone(), count);
            let (sorted, order) = values.clone().topk_with_indices(count, 1);
            let floats = |tensor: Tensor<2>| tensor.into_data().try_into_vec_as::<f32>().unwrap();
            assert_eq!(floats(found), floats(sorted));
            assert_eq!(columns.dims(), [rows, count]);
            assert_eq!(floats(columns.float()), floats(order.float()));
        }
        let ties = Tensor::<2>::from_data([[1.0f32, 2.0, 2.0, f32::NEG_INFINITY, 2.0]], &device);
        let (_, columns) = largest(ties, 2);
        assert_eq!(columns.into_data().try_into_vec_as::<i32>().unwrap(), [1, 2]);
    }

    #[test]
    fn all_tokens_with_a_rest_are_the_whole_distribution() {
        let device = crate::device::Choice::cpu().open().unwrap();
        let (student, teacher) = ([0.3, 1.0, -1.0, 0.0], [2.0, 0.0, 1.0, -1.0]);
        let tensor = Tensor::<2>::from_data([teacher], &device);
        let divergence = Divergence { beta: 0.5, temperature: 2.0, form: TopK::Tail };
        let whole = value(divergence, student, Teacher::All(tensor.clone()));
        let top = value(divergence, student, Teacher::Top(Top::of(tensor, 3, 2.0)));
        // Of four tokens the rest is the fourth.
        assert!((whole - top).abs() < 1e-6, "{whole} {top}");
    }
}
