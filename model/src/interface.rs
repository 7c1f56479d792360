//! Interface names: `namespace:package/interface@version`, and the semver track a name stands on.

use std::fmt;
use std::str::FromStr;

use semver::Version;
use serde::{Deserialize, Serialize};

/// The name of a WIT interface as a component imports or exports it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InterfaceName {
    /// `wasi` in `wasi:http/types@0.2.3`.
    pub namespace: String,
    /// `http` in `wasi:http/types@0.2.3`.
    pub package: String,
    /// `types` in `wasi:http/types@0.2.3`.
    pub interface: String,
    /// `0.2.3` in `wasi:http/types@0.2.3`.
    pub version: Option<Version>,
}

/// What versions may stand for each other: semver's rule, by the first part that is not zero.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Track {
    /// No version: matches only no version.
    Unversioned,
    /// `1`, `2`, …
    Major(u64),
    /// `0.1`, `0.2`, …
    Minor(u64),
    /// `0.0.1`, `0.0.2`, …
    Patch(u64),
    /// A pre-release matches only itself.
    Exact(Version),
}

impl Track {
    /// The track a version stands on.
    pub fn of(version: Option<&Version>) -> Self {
        match version {
            None => Self::Unversioned,
            Some(version) if !version.pre.is_empty() => Self::Exact(version.clone()),
            Some(version) if version.major > 0 => Self::Major(version.major),
            Some(version) if version.minor > 0 => Self::Minor(version.minor),
            Some(version) => Self::Patch(version.patch),
        }
    }
}

impl fmt::Display for Track {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unversioned => Ok(()),
            Self::Major(major) => write!(out, "@{major}"),
            Self::Minor(minor) => write!(out, "@0.{minor}"),
            Self::Patch(patch) => write!(out, "@0.0.{patch}"),
            Self::Exact(version) => write!(out, "@{version}"),
        }
    }
}

/// What people write to name an interface: the version may be left out, or cut to its track (`@2`, `@0.2`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InterfacePattern {
    namespace: String,
    package: String,
    /// `None` is `ns:pkg/*`.
    interface: Option<String>,
    version: Option<VersionPattern>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct VersionPattern {
    major: u64,
    minor: Option<u64>,
    patch: Option<u64>,
    exact: Option<Version>,
}

/// Why a text does not name an interface.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InterfaceError {
    /// Not of the form `namespace:package/interface[@version]`.
    #[error("an interface is written `namespace:package/interface@version`, as in `wasi:http/types@0.2.0`")]
    Form,
    /// The part behind `@` is not a version.
    #[error("`{text}` is not a version: write `@2`, `@0.2` or `@2.0.0`")]
    Version {
        /// What stands behind `@`.
        text: String,
    },
}

impl InterfaceError {
    /// Keeps the beginning of what stands there.
    fn version(text: &str) -> Self {
        const ECHO_MAX_CHARS: usize = 32;
        Self::Version { text: text.chars().take(ECHO_MAX_CHARS).flat_map(char::escape_debug).collect() }
    }
}

impl InterfaceName {
    /// The semver track of this name's version.
    pub fn track(&self) -> Track {
        Track::of(self.version.as_ref())
    }

    /// The name without its version: `wasi:http/types`.
    pub fn path(&self) -> String {
        format!("{}:{}/{}", self.namespace, self.package, self.interface)
    }

    /// Whether this is the interface that takes HTTP requests, `wasi:http/incoming-handler@0.2`. A call of it is one
    /// request with its answer, and goes to another node as that.
    pub fn is_http_handler(&self) -> bool {
        (&*self.namespace, &*self.package, &*self.interface) == ("wasi", "http", "incoming-handler")
            && self.track() == Track::Minor(2)
    }

    /// Whether both name the same interface on the same semver track.
    pub fn same_track(&self, other: &Self) -> bool {
        self.namespace == other.namespace
            && self.package == other.package
            && self.interface == other.interface
            && self.track() == other.track()
    }
}

fn is_wit_label(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 128
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn split(text: &str) -> Result<(&str, &str, &str, Option<&str>), InterfaceError> {
    let (path, version) = match text.split_once('@') {
        Some((path, version)) => (path, Some(version)),
        None => (text, None),
    };
    let (namespace, rest) = path.split_once(':').ok_or(InterfaceError::Form)?;
    let (package, interface) = rest.split_once('/').ok_or(InterfaceError::Form)?;
    if !is_wit_label(namespace) || !is_wit_label(package) {
        return Err(InterfaceError::Form);
    }
    Ok((namespace, package, interface, version))
}

impl FromStr for InterfaceName {
    type Err = InterfaceError;

    fn from_str(text: &str) -> Result<Self, InterfaceError> {
        let (namespace, package, interface, version) = split(text)?;
        if !is_wit_label(interface) {
            return Err(InterfaceError::Form);
        }
        let version =
            version.map(|text| Version::parse(text).map_err(|_| InterfaceError::version(text))).transpose()?;
        Ok(Self {
            namespace: namespace.to_owned(),
            package: package.to_owned(),
            interface: interface.to_owned(),
            version,
        })
    }
}

impl TryFrom<String> for InterfaceName {
    type Error = InterfaceError;
    fn try_from(text: String) -> Result<Self, InterfaceError> {
        text.parse()
    }
}

impl From<InterfaceName> for String {
    fn from(name: InterfaceName) -> String {
        name.to_string()
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}/{}", self.namespace, self.package, self.interface)?;
        match &self.version {
            Some(version) => write!(out, "@{version}"),
            None => Ok(()),
        }
    }
}

impl InterfacePattern {
    /// Whether `name` is one of the interfaces this pattern names.
    ///
    /// A full version names its whole semver track, as a short one does: `@2.0.0` matches 2.1.0.
    pub fn matches(&self, name: &InterfaceName) -> bool {
        if self.namespace != name.namespace || self.package != name.package {
            return false;
        }
        if self.interface.as_ref().is_some_and(|i| *i != name.interface) {
            return false;
        }
        let Some(wanted) = &self.version else { return true };
        let Some(version) = &name.version else { return false };
        if let Some(exact) = &wanted.exact {
            return Track::of(Some(exact)) == Track::of(Some(version));
        }
        // A short form names only releases.
        version.pre.is_empty()
            && wanted.major == version.major
            && wanted.minor.is_none_or(|minor| minor == version.minor)
            && wanted.patch.is_none_or(|patch| patch == version.patch)
    }
}

impl FromStr for InterfacePattern {
    type Err = InterfaceError;

    fn from_str(text: &str) -> Result<Self, InterfaceError> {
        let (namespace, package, interface, version) = split(text)?;
        if interface != "*" && !is_wit_label(interface) {
            return Err(InterfaceError::Form);
        }
        Ok(Self {
            namespace: namespace.to_owned(),
            package: package.to_owned(),
            interface: (interface != "*").then(|| interface.to_owned()),
            version: version.map(VersionPattern::parse).transpose()?,
        })
    }
}

impl VersionPattern {
    fn parse(text: &str) -> Result<Self, InterfaceError> {
        let wrong = || InterfaceError::version(text);
        if let Ok(exact) = Version::parse(text) {
            return Ok(Self {
                major: exact.major,
                minor: Some(exact.minor),
                patch: Some(exact.patch),
                exact: Some(exact),
            });
        }
        let mut parts = text.split('.');
        // As semver has it: digits only, without zeros in front.
        let is_number = |part: &str| {
            part.bytes().all(|byte| byte.is_ascii_digit()) && (part.len() == 1 || !part.starts_with('0'))
        };
        let number = |part: &str| part.parse::<u64>().ok().filter(|_| is_number(part)).ok_or_else(wrong);
        let mut next = || parts.next().map(number);
        let major = next().ok_or_else(wrong)??;
        let minor = next().transpose()?;
        if parts.next().is_some() {
            return Err(wrong());
        }
        Ok(Self { major, minor, patch: None, exact: None })
    }
}

impl TryFrom<String> for InterfacePattern {
    type Error = InterfaceError;
    fn try_from(text: String) -> Result<Self, InterfaceError> {
        text.parse()
    }
}

impl From<InterfacePattern> for String {
    fn from(pattern: InterfacePattern) -> String {
        pattern.to_string()
    }
}

impl fmt::Display for InterfacePattern {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let interface = self.interface.as_deref().unwrap_or("*");
        write!(out, "{}:{}/{interface}", self.namespace, self.package)?;
        let Some(version) = &self.version else { return Ok(()) };
        match (&version.exact, version.minor) {
            (Some(exact), _) => write!(out, "@{exact}"),
            (None, Some(minor)) => write!(out, "@{}.{minor}", version.major),
            (None, None) => write!(out, "@{}", version.major),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_a_semver_track() {
        let cases = [
            ("fermyon:spin/sqlite@2", "fermyon:spin/sqlite@2.0.0", true),
            ("fermyon:spin/sqlite@2.0.0", "fermyon:spin/sqlite@2.1.0", true),
            ("fermyon:spin/sqlite@1", "fermyon:spin/sqlite@2.0.0", false),
            ("fermyon:spin/*", "fermyon:spin/sqlite@2.0.0", true),
            ("fermyon:spin/sqlite", "fermyon:spin/sqlite@2.0.0", true),
            ("wasi:http/types@0.2", "wasi:http/types@0.2.3", true),
            ("wasi:http/types@0.2.0", "wasi:http/types@0.2.3", true),
            ("wasi:http/types@0.3", "wasi:http/types@0.2.3", false),
            ("wasi:config/store@0.2", "wasi:config/store@0.2.0-draft", false),
            ("wasi:config/store@0.2.0-draft", "wasi:config/store@0.2.0-draft", true),
        ];
        for (pattern, name, expected) in cases {
            let matched = pattern.parse::<InterfacePattern>().unwrap().matches(&name.parse().unwrap());
            assert_eq!(matched, expected, "{pattern} against {name}");
        }
    }

    #[test]
    fn reads_what_it_writes() {
        for text in ["wasi:http/types@0.2.3", "a:b/c", "wasi:config/store@0.2.0-draft"] {
            assert_eq!(text.parse::<InterfaceName>().unwrap().to_string(), text);
        }
        for text in ["a:b/*", "a:b/c@2", "a:b/c@0.2", "a:b/c@2.0.1"] {
            assert_eq!(text.parse::<InterfacePattern>().unwrap().to_string(), text);
        }
        assert_eq!("a/b".parse::<InterfaceName>(), Err(InterfaceError::Form));
    }
}
