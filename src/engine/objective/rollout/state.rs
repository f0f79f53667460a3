//! A rollout as tensors of a checkpoint, so that a run goes on in the middle of its steps.

use super::{Answer, FIGURES, Rollout, Shape};
use crate::model::parameters::{HostTensor, NamedData};

/// Names of the lists of a rollout, in the order of [`lists`].
const LISTS: [&str; 6] = [
    "rollout.old_log_probabilities",
    "rollout.reference_log_probabilities",
    "rollout.advantages",
    "rollout.values",
    "rollout.returns",
    "rollout.value_mask",
];
const COUNTERS: &str = "rollout.counters";
const ANSWERS: &str = "rollout.answers";
const TOKENS: &str = "rollout.tokens";
const FIGURE: &str = "figure.";

/// Number that a whole number is divided by, since an f32 holds whole numbers up to 2²⁴.
const HALF: u64 = 1 << 24;

impl Rollout {
    /// Converts the rollout to tensors.
    pub fn to_tensors(&self) -> NamedData {
        let mut data = NamedData::new();
        let Shape { width, time, has_prefixes, shares_prompts } = self.shape;
        let flags = u64::from(has_prefixes) + 2 * u64::from(shares_prompts);
        let counters = [self.number, self.first_step, width as u64, time as u64, flags];
        data.insert(COUNTERS.into(), whole_numbers(&counters));
        let sizes = |answer: &Answer| {
            [answer.prompt.len() as u64, answer.tokens.len() as u64, u64::from(answer.is_left_out)]
        };
        data.insert(ANSWERS.into(), whole_numbers(&self.answers.iter().flat_map(sizes).collect::<Vec<_>>()));
        let tokens = self.answers.iter().flat_map(|answer| answer.prompt.iter().chain(&answer.tokens));
        data.insert(TOKENS.into(), whole_numbers(&tokens.map(|&token| u64::from(token)).collect::<Vec<_>>()));
        let lists = [
            &self.old_log_probabilities,
            &self.reference_log_probabilities,
            &self.advantages,
            &self.values,
            &self.returns,
            &self.value_mask,
        ];
        for (name, list) in LISTS.iter().zip(lists) {
            data.insert((*name).into(), HostTensor::new([list.len()], list.clone()));
        }
        for (name, values) in &self.figures {
            data.insert(format!("{FIGURE}{name}"), HostTensor::new([values.len()], values.clone()));
        }
        data
    }

    /// Takes a rollout out of the tensors of a checkpoint; `None` if it has none.
    ///
    /// # Errors
    /// A message about the tensor that is missing or has another length than the others.
    pub fn from_tensors(data: &mut NamedData) -> Result<Option<Self>, String> {
        let Some(counters) = data.remove(COUNTERS) else { return Ok(None) };
        let mut take = |name: &str| data.remove(name).ok_or_else(|| format!("tensor `{name}` is missing"));
        let (sizes, tokens) = (to_whole_numbers(&take(ANSWERS)?), to_whole_numbers(&take(TOKENS)?));
        let &[number, first_step, width, time, flags] = &to_whole_numbers(&counters)[..] else {
            return Err(format!("`{COUNTERS}` has {} values", counters.values.len()));
        };
        let broken = |name: &str| format!("tensor `{name}` has another length than the rollout");
        let shape = Shape {
            width: width as usize,
            time: time as usize,
            has_prefixes: flags & 1 > 0,
            shares_prompts: flags & 2 > 0,
        };
        let mut rest = tokens.as_slice();
        let mut answers = Vec::new();
        for sizes in sizes.chunks(3) {
            let &[prompt, answer, is_left_out] = sizes else { return Err(broken(ANSWERS)) };
            let (prompt, after) = rest.split_at_checked(prompt as usize).ok_or_else(|| broken(TOKENS))?;
            let (answer, after) = after.split_at_checked(answer as usize).ok_or_else(|| broken(TOKENS))?;
            rest = after;
            let tokens = |tokens: &[u64]| tokens.iter().map(|&token| token as u32).collect();
            answers.push(Answer {
                prompt: tokens(prompt),
                tokens: tokens(answer),
                is_left_out: is_left_out > 0,
            });
        }
        let fits = |answer: &Answer| {
            answer.tokens.len() <= shape.width && answer.prompt.len() + answer.tokens.len() <= shape.time
        };
        if !rest.is_empty() || !answers.iter().all(fits) {
            return Err(broken(TOKENS));
        }
        let mut list = |name: &str| {
            let values = take(name)?.values;
            let is_right = values.is_empty() || values.len() == answers.len() * shape.width;
            if is_right { Ok(values) } else { Err(broken(name)) }
        };
        let [old, reference, advantages, values, returns, value_mask] = LISTS.map(&mut list);
        let (old_log_probabilities, reference_log_probabilities) = (old?, reference?);
        let (advantages, values, returns, value_mask) = (advantages?, values?, returns?, value_mask?);
        let figures = FIGURES
            .into_iter()
            .filter_map(|name| Some((name, data.remove(&format!("{FIGURE}{name}"))?.values)));
        let figures = figures.collect();
        Ok(Some(Self {
            number,
            first_step,
            shape,
            old_log_probabilities,
            reference_log_probabilities,
            advantages,
            values,
            returns,
            value_mask,
            figures,
            answers,
        }))
    }
}

/// Stores whole numbers below 2⁴⁸, each as two values.
pub fn whole_numbers(numbers: &[u64]) -> HostTensor {
    let halves = |&number: &u64| [(number / HALF) as f32, (number % HALF) as f32];
    HostTensor::new([numbers.len(), 2], numbers.iter().flat_map(halves).collect::<Vec<_>>())
}

/// Reads what [`whole_numbers`] stored.
pub fn to_whole_numbers(tensor: &HostTensor) -> Vec<u64> {
    tensor.values.chunks_exact(2).map(|halves| halves[0] as u64 * HALF + halves[1] as u64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rollout() -> Rollout {
        let answer = |prompt: &[u32], tokens: &[u32], is_left_out| Answer {
            prompt: prompt.to_vec(),
            tokens: tokens.to_vec(),
            is_left_out,
        };
        let answers = vec![answer(&[1, 2], &[3], false), answer(&[(1 << 24) - 1], &[5, 6], true)];
        Rollout {
            number: 3,
            first_step: (1 << 30) + 1,
            shape: Shape::of(&answers, 64, true),
            old_log_probabilities: vec![-0.1, 0.0, -1e-30, -7.25],
            advantages: vec![f32::MIN_POSITIVE, 0.0, 1.0 / 3.0, -2.0],
            figures: [("reward", vec![0.1]), ("reward/exact", vec![0.1, f32::NAN])].into(),
            answers,
            ..Rollout::default()
        }
    }

    #[test]
    fn a_rollout_comes_back_to_the_bit() {
        let rollout = rollout();
        let mut data = rollout.to_tensors();
        let read = Rollout::from_tensors(&mut data).unwrap().unwrap();
        assert!(data.is_empty(), "{:?}", data.keys());
        assert_eq!(format!("{read:?}"), format!("{rollout:?}"));
        assert_eq!(Rollout::from_tensors(&mut NamedData::new()).unwrap(), None);
    }

    #[test]
    fn broken_tensors_are_named() {
        let refused = |name: &str, change: fn(&mut Vec<f32>)| {
            let mut data = rollout().to_tensors();
            change(&mut data.get_mut(name).unwrap().values);
            Rollout::from_tensors(&mut data).unwrap_err()
        };
        assert!(refused(TOKENS, |values| values.truncate(2)).contains(TOKENS));
        assert!(refused(TOKENS, |values| values.extend([0.0; 2])).contains(TOKENS));
        assert!(refused(LISTS[0], |values| values.truncate(1)).contains(LISTS[0]));
        assert!(refused(COUNTERS, Vec::clear).contains(COUNTERS));
    }
}
