//! The API's own messages as JSON and YAML, by their descriptors: what scripts read is what the wire says.

use std::sync::OnceLock;

use prost::{Message, Name};
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
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

/// A message as a JSON value: the canonical mapping of protobuf, with every field that has a value or a default.
pub fn value<M: Message + Name>(message: &M) -> Result<Value, MessageError> {
    let wrong = |problem: String| MessageError::Descriptor { name: M::full_name(), problem };
    let pool = pool().ok_or_else(|| wrong("the descriptors cannot be read".to_owned()))?;
    let descriptor =
        pool.get_message_by_name(&M::full_name()).ok_or_else(|| wrong("it has no descriptor".to_owned()))?;
    let mut dynamic = DynamicMessage::new(descriptor);
    dynamic.transcode_from(message).map_err(|error| wrong(error.to_string()))?;
    let options = SerializeOptions::new().skip_default_fields(false);
    dynamic
        .serialize_with_options(serde_json::value::Serializer, &options)
        .map_err(|error| MessageError::Text(error.to_string()))
}

/// A value as indented JSON with a line end.
pub fn json(value: &Value) -> Result<String, MessageError> {
    let text = serde_json::to_string_pretty(value).map_err(|error| MessageError::Text(error.to_string()))?;
    Ok(format!("{text}\n"))
}

/// A value as YAML with a line end.
pub fn yaml(value: &Value) -> Result<String, MessageError> {
    let text = serde_saphyr::to_string(value).map_err(|error| MessageError::Text(error.to_string()))?;
    Ok(if text.ends_with('\n') { text } else { format!("{text}\n") })
}
