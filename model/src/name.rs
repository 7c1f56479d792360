//! Names people give: one rule for all of them, one type for each kind.
//!
//! The rule is the DNS label of RFC 1123 (lower case letters, digits and inner hyphens), so that every name is
//! safe in a host name, a file name, a metric label and a WIT identifier. `--` is kept for names Weft makes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest name, in bytes: the limit of a DNS label.
pub const NAME_MAX_BYTES: usize = 63;

/// Between the parts of a name that Weft makes, as in `app--pii-firewall`; refused in names that people give.
pub const MADE_NAME_SEPARATOR: &str = "--";

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The text is empty.
    #[error("a name must not be empty")]
    Empty,
    /// The text is longer than [`NAME_MAX_BYTES`].
    #[error("a name has at most {NAME_MAX_BYTES} characters, this one has {length}")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// A character outside `a-z`, `0-9` and `-`.
    #[error("{} cannot be in a name: use lower-case letters, digits and hyphens", shown(*.found))]
    Character {
        /// The first such character.
        found: char,
    },
    /// A hyphen at an end.
    #[error("a name starts and ends with a letter or a digit")]
    Edge,
    /// `--`, which only Weft puts into a name.
    #[error("`--` is kept for the names Weft makes")]
    Reserved,
}

/// A character, with its number where it may look like another one or like none.
fn shown(c: char) -> String {
    if c.is_ascii_graphic() {
        format!("`{c}`")
    } else {
        format!("`{}` (U+{:04X})", c.escape_debug(), u32::from(c))
    }
}

fn check(text: &str, made: bool) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    // Names that Weft makes join several others, so they may be longer than one of them.
    let longest = if made { 3 * NAME_MAX_BYTES } else { NAME_MAX_BYTES };
    if text.len() > longest {
        return Err(NameError::TooLong { length: text.len() });
    }
    if let Some(found) = text.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '-')) {
        return Err(NameError::Character { found });
    }
    if text.starts_with('-') || text.ends_with('-') {
        return Err(NameError::Edge);
    }
    if !made && text.contains(MADE_NAME_SEPARATOR) {
        return Err(NameError::Reserved);
    }
    Ok(())
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Refuses a text that is not a name.
            pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
                let text = text.into();
                check(&text, false)?;
                Ok(Self(text))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                // A stored or received name may be one that Weft made; what people write goes through `new`.
                check(&text, true)?;
                Ok(Self(text))
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.pad(&self.0)
            }
        }
    )*};
}

names! {
    /// A namespace: the boundary of ownership.
    NamespaceName;
    /// A graph's name, unique in its namespace.
    GraphName;
    /// A component's name in a graph; capabilities share this name space.
    ComponentName;
    /// A policy's name, unique in the cluster.
    PolicyName;
    /// A node's name, unique in the cluster.
    NodeName;
}

impl ComponentName {
    /// The name of a component that a policy puts behind `caller`: `{caller}--{policy}`, with a number where
    /// the same policy stands on several imports of that caller.
    pub fn interposed(caller: &ComponentName, policy: &PolicyName, nth: usize) -> Result<Self, NameError> {
        let text = if nth == 0 {
            format!("{caller}{MADE_NAME_SEPARATOR}{policy}")
        } else {
            format!("{caller}{MADE_NAME_SEPARATOR}{policy}-{nth}")
        };
        Self::try_from(text)
    }
}

impl NamespaceName {
    /// The namespace of a graph that names none.
    pub fn default_namespace() -> Self {
        Self("default".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_is_wrong_with_a_name() {
        let cases = [
            ("", Err(NameError::Empty)),
            ("app", Ok(())),
            ("a", Ok(())),
            ("../x", Err(NameError::Character { found: '.' })),
            ("a/b", Err(NameError::Character { found: '/' })),
            ("App", Err(NameError::Character { found: 'A' })),
            ("аpp", Err(NameError::Character { found: 'а' })),
            ("-app", Err(NameError::Edge)),
            ("app-", Err(NameError::Edge)),
            ("a--b", Err(NameError::Reserved)),
        ];
        for (text, expected) in cases {
            assert_eq!(ComponentName::new(text).map(drop), expected, "{text:?}");
        }
        assert_eq!(GraphName::new("a".repeat(254)).map(drop), Err(NameError::TooLong { length: 254 }));
    }
}
