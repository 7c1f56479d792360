//! The API's own messages as JSON and YAML, by their descriptors: what scripts read is what the wire says.

use std::sync::OnceLock;

use prost::{Message, Name};
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde::{Serialize, Serializer};
use serde_json::Value;

/// Why a message cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// The descriptors that were built in do not have it.
    #[error("message {name} cannot be shown: {problem}")]
    Descriptor {
        /// The message.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// It has no JSON or YAML form.
    #[error("a value cannot be written as text: {0}")]
    Text(String),
}

impl From<MessageError> for crate::failure::Failure {
    fn from(error: MessageError) -> Self {
        Self::refused(error.to_string())
    }
}

fn pool() -> Option<&'static DescriptorPool> {
    static POOL: OnceLock<Option<DescriptorPool>> = OnceLock::new();
    POOL.get_or_init(|| DescriptorPool::decode(proto::DESCRIPTORS).ok()).as_ref()
}

/// A message in the canonical JSON mapping of protobuf: fields in their declared order, with defaults where nothing is
/// set.
pub struct Shown(DynamicMessage);

impl Serialize for Shown {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize_with_options(serializer, &SerializeOptions::new().skip_default_fields(false))
    }
}

/// A message that can be written as JSON or YAML.
pub fn shown<M: Message + Name>(message: &M) -> Result<Shown, MessageError> {
    let wrong = |problem: String| MessageError::Descriptor { name: M::full_name(), problem };
    let pool = pool().ok_or_else(|| wrong("the descriptors cannot be read".to_owned()))?;
    let descriptor =
        pool.get_message_by_name(&M::full_name()).ok_or_else(|| wrong("it has no descriptor".to_owned()))?;
    let mut dynamic = DynamicMessage::new(descriptor);
    dynamic.transcode_from(message).map_err(|error| wrong(error.to_string()))?;
    Ok(Shown(dynamic))
}

/// A message as a JSON value, to be put into a larger one.
pub fn value<M: Message + Name>(message: &M) -> Result<Value, MessageError> {
    serde_json::to_value(shown(message)?).map_err(|error| MessageError::Text(error.to_string()))
}

/// A value as indented JSON with a line end.
pub fn json(value: &impl Serialize) -> Result<String, MessageError> {
    let text = serde_json::to_string_pretty(value).map_err(|error| MessageError::Text(error.to_string()))?;
    Ok(format!("{text}\n"))
}

/// A value as one line of JSON with a line end.
pub fn json_line(value: &impl Serialize) -> Result<String, MessageError> {
    let text = serde_json::to_string(value).map_err(|error| MessageError::Text(error.to_string()))?;
    Ok(format!("{text}\n"))
}

/// A value as YAML with a line end.
pub fn yaml(value: &impl Serialize) -> Result<String, MessageError> {
    let text = serde_saphyr::to_string(value).map_err(|error| MessageError::Text(error.to_string()))?;
    Ok(if text.ends_with('\n') { text } else { format!("{text}\n") })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proto::weft::graph::v1 as wire;

    use super::*;

    fn status() -> wire::GraphStatus {
        wire::GraphStatus {
            graph: "sales/crm".to_owned(),
            revision: 7,
            generation: u64::MAX,
            state: Some(wire::graph_status::State::Failed(wire::Failed {
                reason: "start_failed".to_owned(),
                message: "a \"trap\"".to_owned(),
                serving_generation: 0,
            })),
            ..wire::GraphStatus::default()
        }
    }

    #[test]
    fn json_is_the_shape_of_the_api() {
        insta::assert_snapshot!(json(&shown(&status()).unwrap()).unwrap());
        assert_eq!(value(&status()).unwrap()["generation"], Value::from(u64::MAX.to_string()));
        assert_eq!(json_line(&shown(&status()).unwrap()).unwrap().lines().count(), 1);
    }

    #[test]
    fn yaml_is_the_same_shape() {
        let text = yaml(&shown(&status()).unwrap()).unwrap();
        insta::assert_snapshot!(text);
        let read: Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(read, value(&status()).unwrap());
    }
}
