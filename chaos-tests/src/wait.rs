//! Waiting for a condition, never for a time.

use std::fmt::Debug;
use std::time::{Duration, Instant};

/// How often a condition is looked at: often enough to add nothing to a test's time.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// What everything that should happen soon may take on a machine that is busy with other tests.
pub const SOON: Duration = Duration::from_secs(30);
/// What the compilation of a whole interpreter may take there: some 12 s of two cores that do nothing else.
pub const COMPILED: Duration = Duration::from_secs(180);

/// Looks until the condition holds and returns what it holds with; panics with what was last seen after `within`.
pub async fn until<T, E: Debug>(
    what: &str,
    within: Duration,
    mut look: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    let deadline = Instant::now() + within;
    loop {
        match look().await {
            Ok(found) => return found,
            Err(seen) => {
                assert!(Instant::now() < deadline, "not within {within:?}: {what}; last seen: {seen:?}");
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// `Ok` if it holds, else what was seen.
pub fn holds<T>(holds: bool, seen: T) -> Result<(), T> {
    if holds { Ok(()) } else { Err(seen) }
}
