//! How people name a policy and a version of it: `name[@generation]`.

use std::str::FromStr;

use model::name::PolicyName;

/// `name[@generation]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyReference {
    /// The policy.
    pub name: PolicyName,
    /// Behind `@`; 0 stands for none.
    pub generation: u64,
}

/// Why a text names no policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyReferenceError {
    /// The part in front of `@`.
    #[error("`{part}` is not a name: {problem}")]
    Name {
        /// The part.
        part: String,
        /// What is wrong.
        problem: String,
    },
    /// The part behind `@`.
    #[error("a version of a policy is a number, as in `pii-firewall@12`")]
    Generation,
}

impl FromStr for PolicyReference {
    type Err = PolicyReferenceError;

    fn from_str(text: &str) -> Result<Self, PolicyReferenceError> {
        let (name, generation) = match text.split_once('@') {
            None => (text, 0),
            Some((name, number)) => match number.parse() {
                Ok(number) if number > 0 => (name, number),
                _ => return Err(PolicyReferenceError::Generation),
            },
        };
        let name = name.parse().map_err(|error: model::name::NameError| PolicyReferenceError::Name {
            part: name.to_owned(),
            problem: error.to_string(),
        })?;
        Ok(Self { name, generation })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_named_with_and_without_a_version() {
        let read = |text: &str| text.parse::<PolicyReference>().map(|r| (r.name.to_string(), r.generation));
        assert_eq!(read("pii").unwrap(), ("pii".to_owned(), 0));
        assert_eq!(read("pii@12").unwrap(), ("pii".to_owned(), 12));
        for wrong in ["", "@1", "pii@", "pii@0", "pii@x", "a/b", "Pii"] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
    }
}
