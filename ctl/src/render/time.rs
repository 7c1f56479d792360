//! Times as people read them.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Milliseconds of the largest units that ages are told in.
const SECOND_MS: u64 = 1_000;
const MINUTE_MS: u64 = 60 * SECOND_MS;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const DAY_MS: u64 = 24 * HOUR_MS;

fn timestamp(time_ms: u64) -> Timestamp {
    i64::try_from(time_ms)
        .ok()
        .and_then(|ms| Timestamp::from_millisecond(ms).ok())
        .unwrap_or(Timestamp::UNIX_EPOCH)
}

/// A time that means the same everywhere: `2026-11-24T19:30:05.120Z`.
pub fn stamp(time_ms: u64) -> String {
    format!("{:.3}", timestamp(time_ms))
}

/// A time in this machine's zone: the time of day alone if that is of today, with the date otherwise.
pub fn moment(time_ms: u64, now_ms: u64) -> String {
    moment_in(time_ms, now_ms, &TimeZone::system())
}

fn moment_in(time_ms: u64, now_ms: u64, zone: &TimeZone) -> String {
    let time = zone.to_datetime(timestamp(time_ms));
    let today = zone.to_datetime(timestamp(now_ms)).date();
    let form = if time.date() == today { "%H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" };
    time.strftime(form).to_string()
}

/// How long ago: `8s`, `3m`, `5h`, `9d`.
pub fn age(time_ms: u64, now_ms: u64) -> String {
    let passed = now_ms.saturating_sub(time_ms);
    let (length, unit) = match passed {
        0..MINUTE_MS => (SECOND_MS, "s"),
        MINUTE_MS..HOUR_MS => (MINUTE_MS, "m"),
        HOUR_MS..DAY_MS => (HOUR_MS, "h"),
        _ => (DAY_MS, "d"),
    };
    format!("{}{unit}", passed / length)
}

/// How long something took: `0.3s`, `42s`, `2m05s`.
pub fn elapsed(duration: std::time::Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..10 => format!("{:.1}s", duration.as_secs_f64()),
        10..60 => format!("{seconds}s"),
        _ => format!("{}m{:02}s", seconds / 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: u64 = 1_795_548_605_120;

    #[test]
    fn times_are_read_at_a_glance() {
        assert_eq!(stamp(NOW), "2026-11-24T19:30:05.120Z");
        assert_eq!(stamp(u64::MAX), "1970-01-01T00:00:00.000Z");
        assert_eq!(moment_in(NOW - 5_120, NOW, &TimeZone::UTC), "19:30:00");
        assert_eq!(moment_in(NOW - DAY_MS, NOW, &TimeZone::UTC), "2026-11-23 19:30:05");
    }

    #[test]
    fn ages_and_spans_have_one_unit_or_two() {
        for (passed, expected) in
            [(0, "0s"), (59_999, "59s"), (MINUTE_MS, "1m"), (HOUR_MS + 1, "1h"), (9 * DAY_MS, "9d")]
        {
            assert_eq!(age(NOW - passed, NOW), expected);
        }
        assert_eq!(age(NOW + 5, NOW), "0s", "clocks of two machines differ");
        for (ms, expected) in [(300, "0.3s"), (42_900, "42s"), (125_000, "2m05s")] {
            assert_eq!(elapsed(Duration::from_millis(ms)), expected);
        }
    }
}
