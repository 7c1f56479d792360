//! Quantities as people write them: `128Mi`, `800ms`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A size in bytes, written with a binary unit: `64Ki`, `128Mi`, `2Gi`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ByteSize(pub u64);

/// Why a text is not a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a size: write a whole number and a unit, `64Ki`, `128Mi` or `2Gi`")]
pub struct ByteSizeError {
    text: String,
}

impl ByteSize {
    /// A size of `count` MiB.
    pub const fn mebibytes(count: u64) -> Self {
        Self(count << 20)
    }
}

impl FromStr for ByteSize {
    type Err = ByteSizeError;

    fn from_str(text: &str) -> Result<Self, ByteSizeError> {
        let wrong = || ByteSizeError { text: echo(text) };
        let (count, unit) = split(text).ok_or_else(wrong)?;
        let shift = match unit {
            "Ki" => 10,
            "Mi" => 20,
            "Gi" => 30,
            _ => return Err(wrong()),
        };
        count.checked_mul(1 << shift).map(Self).ok_or_else(wrong)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, unit) in [(30, "Gi"), (20, "Mi"), (10, "Ki")] {
            if self.0 > 0 && self.0.is_multiple_of(1 << shift) {
                return write!(out, "{}{unit}", self.0 >> shift);
            }
        }
        write!(out, "{}B", self.0)
    }
}

/// Why a text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a duration: write a whole number and a unit, `800ms`, `5s`, `10m` or `2h`")]
pub struct DurationError {
    text: String,
}

/// Reads `800ms`, `5s`, `10m`, `2h`.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let wrong = || DurationError { text: echo(text) };
    let (count, unit) = split(text).ok_or_else(wrong)?;
    let milliseconds_per_unit = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wrong()),
    };
    count.checked_mul(milliseconds_per_unit).map(Duration::from_millis).ok_or_else(wrong)
}

/// A whole number and what stands behind it.
fn split(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    // `parse` alone would take a sign.
    Some((digits.parse().ok()?, unit))
}

/// The beginning of what was written.
fn echo(text: &str) -> String {
    const ECHO_MAX_CHARS: usize = 32;
    text.chars().take(ECHO_MAX_CHARS).flat_map(char::escape_debug).collect()
}

/// Writes what [`parse_duration`] reads, in the largest unit that is exact.
pub fn format_duration(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    for (length, unit) in [(3_600_000, "h"), (60_000, "m"), (1_000, "s")] {
        if milliseconds > 0 && milliseconds.is_multiple_of(length) {
            return format!("{}{unit}", milliseconds / length);
        }
    }
    format!("{milliseconds}ms")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_read_what_they_write() {
        for text in ["64Ki", "128Mi", "2Gi"] {
            assert_eq!(text.parse::<ByteSize>().unwrap().to_string(), text);
        }
        for text in
            ["128Mb", "1.5Gi", "", "Mi", "-1Mi", "128", "99999999999999Gi", "é", "+1Mi", "1MiMi", "1 Mi"]
        {
            assert!(text.parse::<ByteSize>().is_err(), "{text:?}");
        }
        for text in ["800ms", "5s", "10m", "2h"] {
            assert_eq!(format_duration(parse_duration(text).unwrap()), text);
        }
        for text in ["5", "s", "1.5s", "5 s", "-5s", "99999999999999999h", "5é", "+5s", "5s5s"] {
            assert!(parse_duration(text).is_err(), "{text:?}");
        }
    }
}
