//! Where a component may send HTTP requests: everything that no rule lists is refused.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One allowed origin: `https://api.stripe.com`, `http://127.0.0.1:9000`.
///
/// A rule names one host exactly; there are no wildcards, so that a review of the manifest is a review of what can
/// be reached.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EgressRule {
    /// Whether TLS is used.
    pub scheme: Scheme,
    /// The host, lower case, without a trailing dot.
    pub host: String,
    /// The port, the scheme's default if none was written.
    pub port: u16,
}

/// The two schemes of outgoing requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// Plain HTTP.
    Http,
    /// HTTP over TLS.
    Https,
}

impl Scheme {
    /// The scheme's own port.
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }

    /// `http` or `https`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// Why a text is not an egress rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EgressError {
    /// Not `http://` or `https://`.
    #[error("an egress rule is an origin, as in `https://api.example.com` or `http://10.0.0.7:8080`")]
    Scheme,
    /// A path, query or user stands behind the host.
    #[error("an egress rule is an origin only: leave out user, path and query")]
    Rest,
    /// `*`, a CIDR block, or another wildcard.
    #[error("an egress rule names one host exactly: there are no wildcards")]
    Wildcard,
    /// Not a host name in its one usual form.
    #[error("`{host}` is not a host name or an IP address in its usual form")]
    Host {
        /// What stands there.
        host: String,
    },
    /// Port 0 or above 65535.
    #[error("a port is a number from 1 to 65535")]
    Port,
}

impl EgressRule {
    /// Whether a request to this origin is allowed by this rule.
    pub fn allows(&self, scheme: Scheme, host: &str, port: u16) -> bool {
        let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        self.scheme == scheme && self.port == port && self.host.eq_ignore_ascii_case(host)
    }
}

impl FromStr for EgressRule {
    type Err = EgressError;

    fn from_str(text: &str) -> Result<Self, EgressError> {
        let (scheme, authority) = match text.split_once("://") {
            Some(("http", rest)) => (Scheme::Http, rest),
            Some(("https", rest)) => (Scheme::Https, rest),
            _ if text.contains('*') => return Err(EgressError::Wildcard),
            _ => return Err(EgressError::Scheme),
        };
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        if authority.contains('*') {
            return Err(EgressError::Wildcard);
        }
        if authority.contains(['/', '?', '#', '@']) {
            return Err(EgressError::Rest);
        }
        let (host, port) = split_port(authority)?;
        let port = match port {
            None => scheme.default_port(),
            Some(text) => parse_port(text)?,
        };
        Ok(Self { scheme, host: canonical_host(host)?, port })
    }
}

fn split_port(authority: &str) -> Result<(&str, Option<&str>), EgressError> {
    if let Some(rest) = authority.strip_prefix('[') {
        let wrong = || EgressError::Host { host: echo(authority) };
        let (host, rest) = rest.split_once(']').ok_or_else(wrong)?;
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(wrong()),
        };
    }
    match authority.split_once(':') {
        Some((host, port)) => Ok((host, Some(port))),
        None => Ok((authority, None)),
    }
}

/// The beginning of what was written.
fn echo(text: &str) -> String {
    const ECHO_MAX_CHARS: usize = 32;
    text.chars().take(ECHO_MAX_CHARS).flat_map(char::escape_debug).collect()
}

fn parse_port(text: &str) -> Result<u16, EgressError> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(EgressError::Port);
    }
    match text.parse() {
        Ok(0) | Err(_) => Err(EgressError::Port),
        Ok(port) => Ok(port),
    }
}

/// One spelling for each host: addresses in disguise (decimal, octal, IPv4 in IPv6, a trailing dot) are refused,
/// since what a reviewer reads must be what is reached.
fn canonical_host(text: &str) -> Result<String, EgressError> {
    let wrong = || EgressError::Host { host: echo(text) };
    if let Ok(address) = text.parse::<IpAddr>() {
        let disguised = match address {
            IpAddr::V4(v4) => v4.is_unspecified() || v4.is_broadcast(),
            IpAddr::V6(v6) => v6.to_ipv4_mapped().is_some() || v6.is_unspecified(),
        };
        return if disguised || address.to_string() != text.to_ascii_lowercase() {
            Err(wrong())
        } else {
            Ok(address.to_string())
        };
    }
    let host = text.to_ascii_lowercase();
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    // A last label of digits only would be read as an address by some resolvers.
    let numeric = host
        .rsplit('.')
        .next()
        .is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x"));
    if host.len() > 253 || numeric || !host.split('.').all(label) {
        return Err(wrong());
    }
    Ok(host)
}

impl TryFrom<String> for EgressRule {
    type Error = EgressError;
    fn try_from(text: String) -> Result<Self, EgressError> {
        text.parse()
    }
}

impl From<EgressRule> for String {
    fn from(rule: EgressRule) -> String {
        rule.to_string()
    }
}

impl fmt::Display for EgressRule {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}://", self.scheme.as_str())?;
        if self.host.contains(':') {
            write!(out, "[{}]", self.host)?;
        } else {
            out.write_str(&self.host)?;
        }
        if self.port == self.scheme.default_port() { Ok(()) } else { write!(out, ":{}", self.port) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn reads_origins_and_refuses_disguises() {
        for text in
            ["https://api.stripe.com", "http://127.0.0.1:9000", "http://[::1]:9000", "http://localhost:1"]
        {
            assert_eq!(text.parse::<EgressRule>().unwrap().to_string(), text);
        }
        for text in [
            "*",
            "https://*.example.com",
            "0.0.0.0/0",
            "http://0.0.0.0",
            "http://[::ffff:10.0.0.1]",
            "http://2852039166",
            "http://0x7f.1",
            "http://localhost.",
            "http://a:0",
            "http://a:65536",
            "http://user:pw@a",
            "http://a/path",
            "ftp://a",
            "",
            "http://",
            "http://127.1",
        ] {
            assert!(text.parse::<EgressRule>().is_err(), "{text:?}");
        }
    }
}
