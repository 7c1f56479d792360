//! Nodes.

use model::node::{Capacity, NodeDescription};

use super::{DecodeError, read};
use crate::weft::node::v1 as wire;

impl From<NodeDescription> for wire::NodeDescription {
    fn from(node: NodeDescription) -> Self {
        Self {
            name: node.name.into(),
            uid: node.uid.into(),
            api_address: node.api_address,
            ingress_address: node.ingress_address,
            version: node.version,
            labels: node.labels.into_iter().collect(),
            capabilities: node.capabilities,
            memory_bytes: node.capacity.memory_bytes,
            cpus: node.capacity.cpus,
            instances: node.capacity.instances,
            level: node.level,
        }
    }
}

impl TryFrom<wire::NodeDescription> for NodeDescription {
    type Error = DecodeError;

    fn try_from(node: wire::NodeDescription) -> Result<Self, DecodeError> {
        Ok(Self {
            name: read("name", node.name)?,
            uid: read("uid", node.uid)?,
            api_address: node.api_address,
            ingress_address: node.ingress_address,
            version: node.version,
            labels: node.labels.into_iter().collect(),
            capabilities: node.capabilities,
            capacity: Capacity { memory_bytes: node.memory_bytes, cpus: node.cpus, instances: node.instances },
            level: node.level,
        })
    }
}
