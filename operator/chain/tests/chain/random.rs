//! Reproducible choices: SplitMix64, so that a seed alone replays a schedule.

#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// True this often out of a hundred.
    pub(crate) fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }
}

/// Runs `schedule` for every seed, for as many as `TRADEWIND_SEEDS` says instead, or for the one in `TRADEWIND_SEED`. A
/// failing seed is printed with the command that replays it.
pub(crate) fn for_seeds(test: &str, seeds: u64, schedule: impl Fn(u64)) {
    if let Ok(seed) = std::env::var("TRADEWIND_SEED") {
        return schedule(seed.parse().expect("TRADEWIND_SEED is a number"));
    }
    let asked =
        std::env::var("TRADEWIND_SEEDS").map(|seeds| seeds.parse().expect("TRADEWIND_SEEDS is a number"));
    for seed in 0..asked.unwrap_or(seeds) {
        let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| schedule(seed)));
        if let Err(failure) = run {
            eprintln!("replay: TRADEWIND_SEED={seed} cargo test -p tradewind-chain --test chain {test}");
            std::panic::resume_unwind(failure);
        }
    }
}
