//! Conversions between the wire and `model`.
//!
//! Towards the wire they cannot fail. From the wire they refuse what is missing, unknown or malformed, and name the
//! field.

mod assignment;
mod condition;
mod event;
mod link;
mod linked;
mod log;
mod node;
mod plan;
mod quota;
mod report;
mod rollout;
mod routing;
mod status;
mod traffic;

use std::fmt::Display;
use std::str::FromStr;

/// A message that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct DecodeError {
    /// The path of the field: `linked.components.artifact.digest`.
    pub field: String,
    /// What is wrong with it.
    pub problem: String,
    /// `missing_field`, `unknown_enum` or `malformed`.
    pub reason: &'static str,
}

impl DecodeError {
    /// A required field is absent.
    pub fn missing(field: &str) -> Self {
        Self { field: field.to_owned(), problem: "required".to_owned(), reason: "missing_field" }
    }

    /// A value that this version does not know.
    pub fn unknown(field: &str) -> Self {
        Self { field: field.to_owned(), problem: "unknown value".to_owned(), reason: "unknown_enum" }
    }

    /// A value of the wrong form.
    pub fn malformed(field: &str, problem: impl Display) -> Self {
        Self { field: field.to_owned(), problem: problem.to_string(), reason: "malformed" }
    }

    /// The same error, seen from the message that holds the field.
    #[must_use]
    pub fn under(mut self, parent: &str) -> Self {
        self.field = format!("{parent}.{}", self.field);
        self
    }
}

impl From<DecodeError> for tonic::Status {
    fn from(error: DecodeError) -> Self {
        crate::status::refuse(tonic::Code::InvalidArgument, error.reason, error.to_string())
    }
}

/// Reads a text field.
pub fn parse<T>(field: &str, text: &str) -> Result<T, DecodeError>
where
    T: FromStr,
    T::Err: Display,
{
    text.parse().map_err(|error| DecodeError::malformed(field, error))
}

/// Reads a text field whose type refuses by `TryFrom<String>`: names that Weft makes are allowed there.
pub fn read<T>(field: &str, text: String) -> Result<T, DecodeError>
where
    T: TryFrom<String>,
    T::Error: Display,
{
    T::try_from(text).map_err(|error| DecodeError::malformed(field, error))
}

/// Takes a message field that must be there.
pub fn required<T>(field: &str, value: Option<T>) -> Result<T, DecodeError> {
    value.ok_or_else(|| DecodeError::missing(field))
}

/// Reads each of a repeated field.
pub fn each<W, T>(field: &str, values: Vec<W>) -> Result<Vec<T>, DecodeError>
where
    T: TryFrom<W, Error = DecodeError>,
{
    values.into_iter().map(|value| T::try_from(value).map_err(|error| error.under(field))).collect()
}
