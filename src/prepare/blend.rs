//! Number of passes over each source, from weights, temperature, epochs and a token budget.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// The `[blend]` table: the mixture of sources.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BlendConfig {
    /// Without weights, a source's share is its tokens to the power of 1 / `temperature` (XLM-R,
    /// arXiv:1911.02116): values above 1 favour small sources.
    pub temperature: f64,
    /// Training tokens of all sources together; 0 means those available times `epochs`.
    pub tokens: u64,
    pub epochs: f64,
    /// Maximum number of passes over a source; other sources supply the tokens that are missing then.
    pub max_epochs: f64,
}

impl Default for BlendConfig {
    fn default() -> Self {
        Self { temperature: 1.0, tokens: 0, epochs: 1.0, max_epochs: 4.0 }
    }
}

/// A source in the blend, planned and as it came out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct BlendedSource {
    pub name: String,
    /// Share of the tokens that was requested, before `max_epochs` applies.
    pub asked: f64,
    /// Share of the tokens that came out.
    pub reached: f64,
    /// Passes over its documents; a fraction is a last pass over a part of them.
    pub epochs: f64,
    pub available: u64,
    pub tokens: u64,
}

impl BlendConfig {
    pub(super) fn validate(&self) -> Result<()> {
        let values =
            [("temperature", self.temperature), ("epochs", self.epochs), ("max_epochs", self.max_epochs)];
        match values.into_iter().find(|(_, value)| !(value.is_finite() && *value > 0.0)) {
            Some((key, value)) => Err(Error::invalid_value(format!("blend.{key}"), value, "must be above 0")),
            None => Ok(()),
        }
    }

    /// Plans the passes over each of `sources`, given as name, weight and available tokens. If some have
    /// weights, those without count as 1.
    pub(super) fn plan(&self, sources: &[(String, Option<f64>, u64)]) -> Vec<BlendedSource> {
        let has_weights = sources.iter().any(|(_, weight, _)| weight.is_some());
        let share = |(_, weight, tokens): &(String, Option<f64>, u64)| match (has_weights, tokens) {
            (_, 0) => 0.0,
            (true, _) => weight.unwrap_or(1.0),
            (false, &tokens) => (tokens as f64).powf(1.0 / self.temperature),
        };
        let shares: Vec<f64> = sources.iter().map(share).collect();
        let all: f64 = shares.iter().sum();
        let available: u64 = sources.iter().map(|(_, _, tokens)| tokens).sum();
        let budget = if self.tokens > 0 { self.tokens as f64 } else { available as f64 * self.epochs };
        let mut epochs = vec![0f64; sources.len()];
        // Sources at their limit leave their rest to the others, until none passes it.
        let mut is_full = vec![false; sources.len()];
        loop {
            let taken: f64 =
                (0..sources.len()).filter(|&i| is_full[i]).map(|i| epochs[i] * sources[i].2 as f64).sum();
            let open: f64 = (0..sources.len()).filter(|&i| !is_full[i]).map(|i| shares[i]).sum();
            let mut has_changed = false;
            for index in 0..sources.len() {
                let tokens = sources[index].2 as f64;
                if is_full[index] || tokens == 0.0 || open == 0.0 {
                    continue;
                }
                epochs[index] = (budget - taken).max(0.0) * shares[index] / open / tokens;
                if epochs[index] > self.max_epochs {
                    epochs[index] = self.max_epochs;
                    is_full[index] = true;
                    has_changed = true;
                }
            }
            if !has_changed {
                break;
            }
        }
        let plan = sources.iter().zip(&shares).zip(epochs).map(|(((name, _, tokens), share), epochs)| {
            let asked = if all > 0.0 { share / all } else { 0.0 };
            BlendedSource {
                name: name.clone(),
                asked,
                epochs,
                available: *tokens,
                ..BlendedSource::default()
            }
        });
        plan.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs(config: &BlendConfig, sources: &[(Option<f64>, u64)]) -> Vec<f64> {
        let sources: Vec<_> =
            sources.iter().map(|&(weight, tokens)| (String::new(), weight, tokens)).collect();
        config.plan(&sources).iter().map(|source| source.epochs).collect()
    }

    #[test]
    fn all_is_read_once_unless_something_else_is_asked() {
        assert_eq!(epochs(&BlendConfig::default(), &[(None, 100), (None, 300), (None, 0)]), [1.0, 1.0, 0.0]);
        let twice = BlendConfig { epochs: 2.5, ..Default::default() };
        assert_eq!(epochs(&twice, &[(None, 100), (None, 300)]), [2.5, 2.5]);
    }

    #[test]
    fn weights_and_budgets_decide() {
        let config = BlendConfig { tokens: 200, ..Default::default() };
        assert_eq!(epochs(&config, &[(Some(3.0), 100), (Some(1.0), 400)]), [1.5, 0.125]);
    }

    #[test]
    fn temperature_favours_small_sources() {
        let config = BlendConfig { temperature: 2.0, ..Default::default() };
        let plan = config.plan(&[("a".into(), None, 100), ("b".into(), None, 900)]);
        assert_eq!((plan[0].asked, plan[1].asked), (0.25, 0.75));
    }

    #[test]
    fn sources_at_their_limit_leave_the_rest_to_others() {
        let config = BlendConfig { max_epochs: 2.0, ..Default::default() };
        assert_eq!(epochs(&config, &[(Some(1.0), 10), (Some(1.0), 190)]), [2.0, 180.0 / 190.0]);
        // Nobody can give more.
        assert_eq!(epochs(&BlendConfig { tokens: 1000, ..config }, &[(None, 10), (None, 20)]), [2.0, 2.0]);
    }
}
