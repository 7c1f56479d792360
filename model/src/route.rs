//! HTTP routes: which requests of the ingress reach which component.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::name::ComponentName;

/// Requests for `host` (any host if none) whose path is `path` or below it reach `to`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HttpRoute {
    /// The host, without a port; `None` takes what no other route's host takes.
    pub host: Option<Host>,
    /// A path prefix, matched by whole segments.
    pub path: PathPrefix,
    /// The component that exports `wasi:http/incoming-handler`.
    pub to: ComponentName,
}

impl HttpRoute {
    /// Host and path as people write them; `*` is any host.
    pub fn origin(&self) -> String {
        format!("{}{}", self.host.as_ref().map_or("*", Host::as_str), self.path)
    }
}

/// A host name, lower case, without a port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Host(String);

/// A path prefix that starts with `/` and does not end with it, unless it is `/`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PathPrefix(String);

/// Why a text is not a host or a path of a route.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// Not a host name.
    #[error("a route's host is a plain host name, without scheme, port or wildcard")]
    Host,
    /// Not an absolute path.
    #[error("a route's path starts with `/` and has no query, `..`, `//` or spaces")]
    Path,
}

impl Host {
    /// The host as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Host {
    type Err = RouteError;
    fn from_str(text: &str) -> Result<Self, RouteError> {
        let host = text.to_ascii_lowercase();
        let label = |label: &str| {
            !label.is_empty()
                && label.len() <= 63
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        if host.len() > 253 || !host.split('.').all(label) {
            return Err(RouteError::Host);
        }
        Ok(Self(host))
    }
}

impl PathPrefix {
    /// `/`, under which every path is.
    pub fn root() -> Self {
        Self("/".to_owned())
    }

    /// The prefix as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `path` is this prefix or below it, by whole segments: `/a` takes `/a` and `/a/b`, not `/ab`.
    pub fn takes(&self, path: &str) -> bool {
        self.0 == "/" || path.strip_prefix(&self.0).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl FromStr for PathPrefix {
    type Err = RouteError;
    fn from_str(text: &str) -> Result<Self, RouteError> {
        let plain = text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'?' | b'#' | b'\\' | b'*'));
        let segments = text.split('/').all(|segment| segment != ".." && segment != ".");
        if !text.starts_with('/') || text.len() > 1024 || !plain || !segments || text.contains("//") {
            return Err(RouteError::Path);
        }
        let trimmed = text.trim_end_matches('/');
        Ok(Self(if trimmed.is_empty() { "/".to_owned() } else { trimmed.to_owned() }))
    }
}

macro_rules! text_forms {
    ($($name:ident)*) => {$(
        impl TryFrom<String> for $name {
            type Error = RouteError;
            fn try_from(text: String) -> Result<Self, RouteError> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.pad(&self.0)
            }
        }
    )*};
}

text_forms! { Host PathPrefix }

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn prefixes_match_by_segment() {
        let prefix: PathPrefix = "/api/".parse().unwrap();
        assert_eq!(prefix.as_str(), "/api");
        assert!(prefix.takes("/api") && prefix.takes("/api/x"));
        assert!(!prefix.takes("/apix") && !prefix.takes("/"));
        assert!(PathPrefix::root().takes("/anything"));
        for wrong in ["", "a", "/a?b", "/../a", "//a", "/a b"] {
            assert!(wrong.parse::<PathPrefix>().is_err(), "{wrong:?}");
        }
        for wrong in ["", "a:80", "http://a", "*.a", "a..b", "-a", "a-.b", "[::1]", "a."] {
            assert!(wrong.parse::<Host>().is_err(), "{wrong:?}");
        }
    }
}
