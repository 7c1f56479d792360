//! Where work stands in its trace: the values of W3C Trace Context, which requests and links carry.

use std::fmt;
use std::num::{NonZeroU64, NonZeroU128};
use std::str::FromStr;
use std::sync::Arc;

/// The most bytes of a trace state: what others may rely on being passed on.
pub const TRACE_STATE_MAX_BYTES: usize = 512;
/// The most entries of a trace state, and the longest key and value of one, as W3C bounds them.
const ENTRIES_MAX: usize = 32;
const KEY_MAX_BYTES: usize = 256;
const VALUE_MAX_BYTES: usize = 256;
/// `00-`, 32 digits, `-`, 16 digits, `-`, 2 digits.
const HEADER_BYTES: usize = 55;

/// One span of one trace. Neither id is zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace.
    pub trace: NonZeroU128,
    /// The span that is the parent of what is done next.
    pub span: NonZeroU64,
    /// What is known of the trace.
    pub flags: TraceFlags,
}

/// What is known of a trace; bits without a meaning are never set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TraceFlags(u8);

/// A text or bytes are no place in a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a trace context as W3C defines it")]
pub struct InvalidTrace;

impl TraceFlags {
    const SAMPLED: u8 = 1;
    const RANDOM: u8 = 2;

    /// Those bits that have a meaning.
    pub const fn new(bits: u8) -> Self {
        Self(bits & (Self::SAMPLED | Self::RANDOM))
    }

    /// As they are sent.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Whether whoever decided wants the trace recorded.
    pub const fn is_sampled(self) -> bool {
        self.0 & Self::SAMPLED != 0
    }
}

impl TraceContext {
    /// The bytes of [`TraceContext::to_bytes`].
    pub const BYTES: usize = 25;

    /// As links carry it: 16 bytes of the trace, 8 of the span, 1 of the flags.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let ids = self.trace.get().to_be_bytes().into_iter().chain(self.span.get().to_be_bytes());
        for (byte, value) in bytes.iter_mut().zip(ids.chain([self.flags.bits()])) {
            *byte = value;
        }
        bytes
    }

    /// Reads what [`TraceContext::to_bytes`] wrote.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidTrace> {
        let (trace, rest) = bytes.split_first_chunk().ok_or(InvalidTrace)?;
        let (span, rest) = rest.split_first_chunk().ok_or(InvalidTrace)?;
        let [flags] = rest else { return Err(InvalidTrace) };
        Self::of(u128::from_be_bytes(*trace), u64::from_be_bytes(*span), *flags)
    }

    fn of(trace: u128, span: u64, flags: u8) -> Result<Self, InvalidTrace> {
        Ok(Self {
            trace: NonZeroU128::new(trace).ok_or(InvalidTrace)?,
            span: NonZeroU64::new(span).ok_or(InvalidTrace)?,
            flags: TraceFlags::new(flags),
        })
    }
}

/// A `traceparent`. One of a later version may be longer, and is read as far as version 0 goes.
impl FromStr for TraceContext {
    type Err = InvalidTrace;

    fn from_str(text: &str) -> Result<Self, InvalidTrace> {
        let (head, rest) = text.split_at_checked(HEADER_BYTES).ok_or(InvalidTrace)?;
        let mut parts = head.split('-');
        let mut digits = |count: usize| {
            let is_digit = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
            parts.next().filter(|part| part.len() == count && part.bytes().all(is_digit)).ok_or(InvalidTrace)
        };
        let (version, trace, span, flags) = (digits(2)?, digits(32)?, digits(16)?, digits(2)?);
        let is_whole = match version {
            "00" => rest.is_empty(),
            "ff" => false,
            _ => rest.is_empty() || rest.starts_with('-'),
        };
        if !is_whole {
            return Err(InvalidTrace);
        }
        Self::of(
            u128::from_str_radix(trace, 16).map_err(|_| InvalidTrace)?,
            u64::from_str_radix(span, 16).map_err(|_| InvalidTrace)?,
            u8::from_str_radix(flags, 16).map_err(|_| InvalidTrace)?,
        )
    }
}

/// As a `traceparent` of version 0.
impl fmt::Display for TraceContext {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, self.flags.bits())
    }
}

/// What other systems want to find again further on in a trace: passed on and never read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceState(Arc<str>);

impl TraceState {
    /// As `tracestate` has it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The values of all `tracestate` headers, joined with commas. One that is wrong or too long is nothing at all: a part
/// of it could mean something else.
impl FromStr for TraceState {
    type Err = InvalidTrace;

    fn from_str(text: &str) -> Result<Self, InvalidTrace> {
        let is_space = |letter| matches!(letter, ' ' | '\t');
        let entries =
            || text.split(',').map(|entry| entry.trim_matches(is_space)).filter(|entry| !entry.is_empty());
        let keys = || entries().map(|entry| entry.split_once('=').map_or(entry, |(key, _)| key));
        let is_twice = |(place, key)| keys().take(place).any(|earlier| earlier == key);
        let is_bounded = text.len() <= TRACE_STATE_MAX_BYTES && (1..=ENTRIES_MAX).contains(&entries().count());
        if !is_bounded || !entries().all(is_entry) || keys().enumerate().any(is_twice) {
            return Err(InvalidTrace);
        }
        Ok(Self(text.into()))
    }
}

fn is_entry(entry: &str) -> bool {
    let Some((key, value)) = entry.split_once('=') else { return false };
    let is_start = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_key = |byte: u8| is_start(byte) || matches!(byte, b'_' | b'-' | b'*' | b'/' | b'@');
    let is_value = |byte: u8| matches!(byte, b' '..=b'~') && !matches!(byte, b',' | b'=');
    key.bytes().next().is_some_and(is_start)
        && key.len() <= KEY_MAX_BYTES
        && key.bytes().all(is_key)
        && (1..=VALUE_MAX_BYTES).contains(&value.len())
        && value.bytes().all(is_value)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    fn read(text: &str) -> Option<TraceContext> {
        text.parse().ok()
    }

    #[test]
    fn what_is_valid_is_read_and_written_as_version_0() {
        for (flags, written, is_sampled) in [
            ("00", "00", false),
            ("01", "01", true),
            ("02", "02", false),
            ("03", "03", true),
            ("09", "01", true),
            ("ff", "03", true),
            ("fc", "00", false),
        ] {
            let context = read(&format!("00-{TRACE}-{SPAN}-{flags}")).unwrap();
            assert_eq!(context.to_string(), format!("00-{TRACE}-{SPAN}-{written}"));
            assert_eq!(context.flags.is_sampled(), is_sampled, "{flags}");
            assert_eq!(TraceContext::from_bytes(&context.to_bytes()), Ok(context));
        }
        // Later versions may have more at the end.
        for text in [
            format!("01-{TRACE}-{SPAN}-01"),
            format!("cc-{TRACE}-{SPAN}-01-what-comes-later"),
            format!("fe-{TRACE}-{SPAN}-01-"),
        ] {
            assert_eq!(read(&text).unwrap().to_string(), format!("00-{TRACE}-{SPAN}-01"), "{text}");
        }
    }

    #[test]
    fn what_is_invalid_is_not_read() {
        let upper = TRACE.to_uppercase();
        for text in [
            String::new(),
            "00".to_owned(),
            format!("00-{TRACE}-{SPAN}"),
            format!("00-{TRACE}-{SPAN}-"),
            format!("00-{TRACE}-{SPAN}-1"),
            format!("00-{TRACE}-{SPAN}-01-"),
            format!("00-{TRACE}-{SPAN}-01-what-version-0-has-not"),
            format!("00-{TRACE}-{SPAN}-01."),
            format!("cc-{TRACE}-{SPAN}-01.later"),
            format!("cc-{TRACE}-{SPAN}-0"),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("0-{TRACE}-{SPAN}-001"),
            format!("000-{TRACE}-{SPAN}-1"),
            format!(" 00-{TRACE}-{SPAN}-01"),
            format!("0x-{TRACE}-{SPAN}-01"),
            format!("00-{upper}-{SPAN}-01"),
            format!("00-{TRACE}-00F067AA0BA902B7-01"),
            format!("00-{TRACE}-{SPAN}-0A"),
            format!("00-{TRACE}-{SPAN}-0x"),
            format!("00-+{}-{SPAN}-01", &TRACE[1..]),
            format!("00-{}-{SPAN}-01", &TRACE[1..]),
            format!("00-{}-{SPAN}0-01", &TRACE[1..]),
            format!("00-{TRACE}-{}-01", &SPAN[1..]),
            format!("00_{TRACE}_{SPAN}_01"),
            format!("00-{}-{SPAN}-01", "0".repeat(32)),
            format!("00-{TRACE}-{}-01", "0".repeat(16)),
            format!("00-{}é-{SPAN}-01", &TRACE[2..]),
            format!("00-{TRACE}-{SPAN}-0é"),
            format!("00-{TRACE}-{SPAN}-01,00-{TRACE}-{SPAN}-01"),
        ] {
            assert_eq!(read(&text), None, "{text}");
        }
    }

    #[test]
    fn bytes_of_links_are_whole_and_not_zero() {
        let bytes = read(&format!("00-{TRACE}-{SPAN}-01")).unwrap().to_bytes();
        assert!(TraceContext::from_bytes(&bytes[1..]).is_err());
        assert!(TraceContext::from_bytes(&[bytes.as_slice(), &[0]].concat()).is_err());
        assert!(TraceContext::from_bytes(&[0; TraceContext::BYTES]).is_err());
        assert!(TraceContext::from_bytes(&[]).is_err());
    }

    #[test]
    fn a_state_is_passed_on_whole_or_not_at_all() {
        let most = (0..ENTRIES_MAX).map(|number| format!("k{number}=v")).collect::<Vec<_>>().join(",");
        for good in [
            "congo=t61rcWkgMzE",
            "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE",
            "a=1 ,\tb=2,, c=3,",
            "tenant@system=x y",
            "0a_-*/=!~;",
            &most,
        ] {
            assert_eq!(good.parse::<TraceState>().unwrap().as_str(), good);
        }
        let (more, long) = (format!("{most},more=v"), format!("a={}", "v".repeat(TRACE_STATE_MAX_BYTES)));
        let (key, value) = (format!("{}=v", "k".repeat(257)), format!("k={}", "v".repeat(257)));
        for bad in [
            "", ",", "a", "=1", "a=", "A=1", "a=1=2", "a b=1", "a=é", "_a=1", "a=1,a=2", "a=1,b", "a=\u{7f}",
            &more, &long, &key, &value,
        ] {
            assert!(bad.parse::<TraceState>().is_err(), "{bad}");
        }
    }
}
