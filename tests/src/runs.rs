//! How long tests by chance run: briefly, and always alike, unless the environment asks for more.

use std::env;

/// How many times as much as usual: `ICEGATE_FUZZ_FACTOR`, 1 unless said.
pub fn factor() -> usize {
    env::var("ICEGATE_FUZZ_FACTOR").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// The usual number times [`factor`].
pub fn count(usual: usize) -> usize {
    usual.saturating_mul(factor())
}

/// The first seed: `ICEGATE_FUZZ_SEED`, 0 unless said. A failure names the seed it happened at.
pub fn first_seed() -> u64 {
    env::var("ICEGATE_FUZZ_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Whether bolero chooses the inputs, instead of seeds: `ICEGATE_FUZZ_BOLERO` is set.
pub fn by_bolero() -> bool {
    env::var_os("ICEGATE_FUZZ_BOLERO").is_some()
}
