//! What becomes of frames in one direction between two hosts, as a test says it.

use std::time::Duration;

/// What becomes of frames in one direction. Each frame is judged by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conditions {
    /// Nothing arrives, nor does what is on its way.
    pub is_cut: bool,
    /// So many of a thousand do not arrive.
    pub lost_in_thousand: u64,
    /// How long each is on its way, give or take the jitter. Frames stay in their order.
    pub delay: Duration,
    /// How much longer or shorter at most.
    pub jitter: Duration,
    /// So many of a thousand are held back, and those behind them do not wait.
    pub held_back_in_thousand: u64,
    /// So many of a thousand arrive twice.
    pub doubled_in_thousand: u64,
    /// No more arrives than this.
    pub rate: Option<Rate>,
}

/// How much arrives. What is too much waits in a queue, and what does not fit there is dropped, as routers do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How much in a second.
    pub bytes_per_second: u64,
    /// How much waits.
    pub queue_bytes: u64,
}

impl Rate {
    /// 1 Mbit/s, with a queue of this size.
    pub const fn megabit(queue_bytes: u64) -> Self {
        Self { bytes_per_second: 125_000, queue_bytes }
    }
}

impl Conditions {
    /// Everything arrives at once.
    pub const GOOD: Self = Self {
        is_cut: false,
        lost_in_thousand: 0,
        delay: Duration::ZERO,
        jitter: Duration::ZERO,
        held_back_in_thousand: 0,
        doubled_in_thousand: 0,
        rate: None,
    };
    /// Nothing arrives.
    pub const CUT: Self = Self { is_cut: true, ..Self::GOOD };

    /// Everything arrives so much later.
    pub const fn late(delay: Duration) -> Self {
        Self { delay, ..Self::GOOD }
    }

    /// Everything of the kinds that a long road over busy routers does, with so many lost of a thousand.
    pub const fn rough(lost_in_thousand: u64) -> Self {
        Self {
            lost_in_thousand,
            delay: Duration::from_millis(50),
            jitter: Duration::from_millis(20),
            held_back_in_thousand: 20,
            doubled_in_thousand: 20,
            ..Self::GOOD
        }
    }
}
