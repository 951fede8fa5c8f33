//! From logits to the next token.
//!
//! Steps, in this order: penalties, bias, then either the highest logit (temperature 0; the lowest
//! id among equals) or temperature, top-k, top-p and a draw from a generator of this request's own.
//! The same seed and prompt give the same tokens on the same build, whatever else is decoded.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// How the next token is chosen; the fields mean what they mean in the `OpenAI` API.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// 0 chooses the most likely token; otherwise logits are divided by it. At most 2 is usual.
    pub temperature: f32,
    /// Only the most likely tokens that together reach this probability are drawn from; 1 is all.
    pub top_p: f32,
    /// Only this many of the most likely tokens are drawn from.
    pub top_k: Option<u32>,
    /// Starts the generator; `None` takes a seed from the operating system.
    pub seed: Option<u64>,
    /// Subtracted once from the logit of every token generated before.
    pub presence_penalty: f32,
    /// Subtracted from the logit of a token for every time it was generated before.
    pub frequency_penalty: f32,
    /// Added to the logit of a token.
    pub logit_bias: BTreeMap<u32, f32>,
}

impl Default for Sampling {
    /// The API's defaults: temperature 1, everything else off.
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_p: 1.0,
            top_k: None,
            seed: None,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: BTreeMap::new(),
        }
    }
}

impl Sampling {
    /// Always the most likely token.
    #[must_use]
    pub fn greedy() -> Self {
        Self { temperature: 0.0, ..Self::default() }
    }

    /// Says which field is out of range.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        let in_range = |value: f32, low: f32, high: f32| (low..=high).contains(&value);
        if !in_range(self.temperature, 0.0, 100.0) {
            return Some("temperature is not in 0..=100");
        }
        if !in_range(self.top_p, 0.0, 1.0) {
            return Some("top_p is not in 0..=1");
        }
        if self.top_k == Some(0) {
            return Some("top_k is 0");
        }
        if !in_range(self.presence_penalty, -2.0, 2.0) {
            return Some("presence_penalty is not in -2..=2");
        }
        if !in_range(self.frequency_penalty, -2.0, 2.0) {
            return Some("frequency_penalty is not in -2..=2");
        }
        if !self.logit_bias.values().all(|bias| in_range(*bias, -100.0, 100.0)) {
            return Some("a logit_bias is not in -100..=100");
        }
        None
    }
}

/// How likely the model found a token and its alternatives.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenLogprobs {
    /// Natural logarithm of the token's probability, before temperature and penalties.
    pub logprob: f32,
    /// The most likely tokens with theirs, most likely first.
    pub top: Vec<(u32, f32)>,
}

/// The sampling state of one sequence.
pub(crate) struct Sampler {
    sampling: Sampling,
    random: StdRng,
    generated: BTreeMap<u32, u32>,
}

impl Sampler {
    pub(crate) fn new(sampling: Sampling) -> Self {
        let random = sampling.seed.map_or_else(StdRng::from_os_rng, StdRng::seed_from_u64);
        Self { sampling, random, generated: BTreeMap::new() }
    }

    /// Chooses a token; `logits` is used up.
    pub(crate) fn sample(&mut self, logits: &mut [f32]) -> u32 {
        self.adjust(logits);
        let token = match self.sampling.temperature > 0.0 {
            true => self.draw(logits),
            false => most_likely(logits),
        };
        if self.sampling.presence_penalty != 0.0 || self.sampling.frequency_penalty != 0.0 {
            *self.generated.entry(token).or_insert(0) += 1;
        }
        token
    }

    fn adjust(&self, logits: &mut [f32]) {
        for (token, count) in &self.generated {
            if let Some(logit) = logits.get_mut(*token as usize) {
                let repeated = self.sampling.frequency_penalty * *count as f32;
                *logit -= self.sampling.presence_penalty + repeated;
            }
        }
        for (token, bias) in &self.sampling.logit_bias {
            if let Some(logit) = logits.get_mut(*token as usize) {
                *logit += bias;
            }
        }
    }

    fn draw(&mut self, logits: &[f32]) -> u32 {
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let weight = |logit: f32| f64::from((logit - max) / self.sampling.temperature).exp();
        if self.sampling.top_p >= 1.0 && self.sampling.top_k.is_none() {
            let weights = (0u32..).zip(logits.iter().map(|logit| weight(*logit)));
            return pick(&mut self.random, &weights.collect::<Vec<_>>());
        }
        let total: f64 = match self.sampling.top_k {
            None => logits.iter().map(|logit| weight(*logit)).sum(),
            // After top-k, top-p counts the probability among the k.
            Some(k) => best(logits, k as usize).iter().map(|(_, logit)| weight(*logit)).sum(),
        };
        let nucleus = self.nucleus(logits, total * f64::from(self.sampling.top_p), weight);
        pick(&mut self.random, &nucleus)
    }

    /// The most likely tokens whose weights reach `enough`, at least one, at most top-k.
    fn nucleus(&self, logits: &[f32], enough: f64, weight: impl Fn(f32) -> f64) -> Vec<(u32, f64)> {
        let most = self.sampling.top_k.map_or(logits.len(), |k| k as usize).min(logits.len());
        let mut n = most.min(64);
        loop {
            let mut sum = 0.0;
            let mut nucleus = Vec::new();
            for (token, logit) in best(logits, n) {
                sum += weight(logit);
                nucleus.push((token, weight(logit)));
                if sum >= enough {
                    return nucleus;
                }
            }
            if n >= most {
                return nucleus;
            }
            n = n.saturating_mul(8).min(most);
        }
    }
}

/// Logprobs of `token` and of the `top` most likely ones.
pub(crate) fn logprobs(logits: &[f32], token: u32, top: u8) -> TokenLogprobs {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|logit| f64::from(logit - max).exp()).sum();
    let log_sum = narrow(sum.ln()) + max;
    TokenLogprobs {
        logprob: logits.get(token as usize).map_or(f32::NEG_INFINITY, |logit| logit - log_sum),
        top: best(logits, top.into()).into_iter().map(|(id, logit)| (id, logit - log_sum)).collect(),
    }
}

/// The token with the highest logit; the lowest id among equals.
fn most_likely(logits: &[f32]) -> u32 {
    let mut best = (0, f32::NEG_INFINITY);
    for (token, logit) in (0u32..).zip(logits) {
        if *logit > best.1 {
            best = (token, *logit);
        }
    }
    best.0
}

/// The `n` highest logits in falling order, equal ones by id.
fn best(logits: &[f32], n: usize) -> Vec<(u32, f32)> {
    let n = n.min(logits.len());
    if n == 0 {
        return Vec::new();
    }
    let order = |a: &(u32, f32), b: &(u32, f32)| -> Ordering { b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)) };
    let mut entries: Vec<(u32, f32)> = (0u32..).zip(logits.iter().copied()).collect();
    if n < entries.len() {
        entries.select_nth_unstable_by(n - 1, order);
        entries.truncate(n);
    }
    entries.sort_unstable_by(order);
    entries
}

/// Draws an entry with a probability proportional to its weight.
fn pick(random: &mut StdRng, weights: &[(u32, f64)]) -> u32 {
    let total: f64 = weights.iter().map(|(_, weight)| weight).sum();
    let mut left = random.random::<f64>() * total;
    for (token, weight) in weights {
        left -= weight;
        if left < 0.0 {
            return *token;
        }
    }
    // Rounding: the last one that is possible at all.
    weights.iter().rev().find(|(_, weight)| *weight > 0.0).map_or(0, |(token, _)| *token)
}

#[expect(clippy::cast_possible_truncation, reason = "nearest f32 is what is wanted")]
fn narrow(value: f64) -> f32 {
    value as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(sampling: Sampling, logits: &[f32], n: usize) -> Vec<u32> {
        let mut sampler = Sampler::new(sampling);
        (0..n).map(|_| sampler.sample(&mut logits.to_vec())).collect()
    }

    #[test]
    fn greedy_takes_the_lowest_id_among_equals() {
        assert_eq!(draws(Sampling::greedy(), &[1.0, 3.0, 3.0, -1.0], 1), [1]);
    }

    #[test]
    fn same_seed_same_draws() {
        let sampling = Sampling { seed: Some(7), top_p: 0.95, ..Sampling::default() };
        let logits: Vec<f32> = (0..500).map(|i| (i as f32).sin()).collect();
        let first = draws(sampling.clone(), &logits, 50);
        assert_eq!(first, draws(sampling.clone(), &logits, 50));
        assert_ne!(first, draws(Sampling { seed: Some(8), ..sampling }, &logits, 50));
    }

    #[test]
    fn top_p_and_top_k_cut_the_tail() {
        let logits = [5.0, 4.9, 0.0, 0.0, 0.0];
        for sampling in
            [Sampling { top_p: 0.9, ..Sampling::default() }, Sampling { top_k: Some(2), ..Sampling::default() }]
        {
            let seen = draws(Sampling { seed: Some(1), ..sampling }, &logits, 200);
            assert!(seen.contains(&0) && seen.contains(&1) && seen.iter().all(|t| *t < 2));
        }
        let tiny = Sampling { top_p: 0.0, seed: Some(1), ..Sampling::default() };
        assert!(draws(tiny, &logits, 50).iter().all(|token| *token == 0));
    }

    #[test]
    fn draws_follow_the_distribution() {
        let sampling = Sampling { seed: Some(3), ..Sampling::default() };
        let seen = draws(sampling, &[0.0, (3.0f32).ln()], 4000);
        let ones = seen.iter().filter(|token| **token == 1).count();
        assert!((2850..3150).contains(&ones), "{ones}");
    }

    #[test]
    fn a_flat_distribution_reaches_beyond_the_first_candidates() {
        let sampling = Sampling { seed: Some(3), top_p: 0.99, ..Sampling::default() };
        let seen = draws(sampling, &[0.0; 1000], 200);
        assert!(seen.iter().any(|token| *token > 600));
    }

    #[test]
    fn penalties_and_bias_apply() {
        let penalised = Sampling { presence_penalty: 1.0, ..Sampling::greedy() };
        assert_eq!(draws(penalised, &[1.0, 0.5, -9.0], 3), [0, 1, 0]);
        let frequent = Sampling { frequency_penalty: 0.3, ..Sampling::greedy() };
        assert_eq!(draws(frequent, &[1.0, 0.5, -9.0], 4), [0, 0, 1, 0]);
        let biased = Sampling { logit_bias: [(2, 50.0)].into(), ..Sampling::greedy() };
        assert_eq!(draws(biased, &[1.0, 0.5, -9.0], 1), [2]);
    }

    #[test]
    fn logprobs_are_normalised() {
        let result = logprobs(&[0.0, 0.0, -1e9], 1, 2);
        assert!((result.logprob - 0.5f32.ln()).abs() < 1e-6);
        assert_eq!(result.top.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [0, 1]);
    }

    #[test]
    fn values_out_of_range_are_named() {
        for (sampling, name) in [
            (Sampling { temperature: f32::NAN, ..Sampling::default() }, "temperature"),
            (Sampling { temperature: -1.0, ..Sampling::default() }, "temperature"),
            (Sampling { top_p: 1.5, ..Sampling::default() }, "top_p"),
            (Sampling { top_k: Some(0), ..Sampling::default() }, "top_k"),
            (Sampling { logit_bias: [(1, f32::INFINITY)].into(), ..Sampling::default() }, "logit_bias"),
        ] {
            assert!(sampling.fault().is_some_and(|fault| fault.contains(name)), "{name}");
        }
        assert_eq!(Sampling::default().fault(), None);
    }
}
