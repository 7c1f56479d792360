//! Random choices that can be made again.

use std::time::Duration;

use crate::say;

/// Runs a test again with the choices it made.
const VARIABLE: &str = "CHAOS_SEED";

/// Random choices from one seed (SplitMix64).
#[derive(Debug)]
pub struct Choices(u64);

impl Choices {
    /// From the seed in the environment, or a new one; printed either way.
    pub fn new() -> Self {
        let seed = match std::env::var(VARIABLE) {
            Ok(text) => text.parse().expect("a seed is a whole number"),
            Err(_) => uuid::Uuid::new_v4().as_u64_pair().0,
        };
        say(&format!("seed: {VARIABLE}={seed}"));
        Self(seed)
    }

    /// From a number that other choices gave.
    pub const fn of(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.number() % bound
    }

    /// A time below `bound`.
    pub fn moment(&mut self, bound: Duration) -> Duration {
        Duration::from_micros(self.below(u64::try_from(bound.as_micros()).unwrap()))
    }

    /// One of these.
    pub fn one_of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[usize::try_from(self.below(all.len() as u64)).unwrap()]
    }
}

impl Default for Choices {
    fn default() -> Self {
        Self::new()
    }
}
