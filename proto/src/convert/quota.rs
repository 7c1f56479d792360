//! Quotas, and what is used of them.

use model::quota::{Quota, Usage};
use model::reserve::Priority;
use model::unit::ByteSize;

use super::DecodeError;
use super::linked::priority;
use crate::weft::namespace::v1 as wire;

impl From<Quota> for wire::Quota {
    fn from(quota: Quota) -> Self {
        Self {
            graphs: quota.graphs,
            replicas: quota.replicas,
            memory_bytes: quota.memory.map(|memory| memory.0),
            reserved: quota.reserved,
            priority: quota.priority.map(Priority::get),
        }
    }
}

impl TryFrom<wire::Quota> for Quota {
    type Error = DecodeError;

    fn try_from(quota: wire::Quota) -> Result<Self, DecodeError> {
        Ok(Self {
            graphs: quota.graphs,
            replicas: quota.replicas,
            memory: quota.memory_bytes.map(ByteSize),
            reserved: quota.reserved,
            priority: quota.priority.map(|number| priority("priority", number)).transpose()?,
        })
    }
}

impl From<Usage> for wire::Usage {
    fn from(usage: Usage) -> Self {
        Self {
            graphs: usage.graphs,
            replicas: usage.replicas,
            memory_bytes: usage.memory.0,
            reserved: usage.reserved,
        }
    }
}

impl From<wire::Usage> for Usage {
    fn from(usage: wire::Usage) -> Self {
        Self {
            graphs: usage.graphs,
            replicas: usage.replicas,
            memory: ByteSize(usage.memory_bytes),
            reserved: usage.reserved,
        }
    }
}
