//! A receipt to begin with: for tests, benchmarks and fuzzers of whoever handles receipts. Feature `example`.

use cocoon_units::{AdjustedUsage, Coefficient, Multipliers, Usage};

use crate::receipt::{Hash, How, ModelHashes, Outcome, Receipt};

impl Receipt {
    /// An honest receipt of a worker that knows all its files, behind a proxy with a contract. Whoever needs another one
    /// names what differs: `Receipt { id, ..Receipt::example() }`.
    #[must_use]
    pub fn example() -> Self {
        let hash = |byte, how| Some(Hash { sha256: [byte; 32], how });
        let receipt = Self {
            id: [1; 32],
            proxy: format!("0:{}", "1f".repeat(32)),
            model: "Qwen/Qwen3-0.6B@c1899de:9a".to_owned(),
            hashes: ModelHashes {
                weights: hash(4, How::Measured),
                engine: hash(5, How::Declared),
                tokenizer: hash(6, How::Measured),
                chat_template: hash(7, How::Declared),
            },
            status: 200,
            outcome: Outcome::Complete,
            usage: Usage::default(),
            adjusted: AdjustedUsage::default(),
            coefficient: Coefficient::ONE,
            multipliers: Multipliers::default(),
            started_unix_ms: 1_763_900_000_000,
            ended_unix_ms: 1_763_900_001_250,
            request_hmac: [8; 32],
            answer_hmac: [9; 32],
        };
        receipt.with_usage(Usage { prompt: 34, cached: 10, completion: 5, reasoning: 0 })
    }

    /// The same with these counts, priced as it says. Counts that cannot be priced are priced at nothing.
    #[must_use]
    pub fn with_usage(self, usage: Usage) -> Self {
        let adjusted = usage.adjust(self.coefficient, &self.multipliers).unwrap_or_default();
        Self { usage, adjusted, ..self }
    }
}
