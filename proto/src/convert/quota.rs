//! Quotas, and what is used of them.

use model::quota::{Quota, Usage};
use model::unit::ByteSize;

use crate::weft::namespace::v1 as wire;

impl From<Quota> for wire::Quota {
    fn from(quota: Quota) -> Self {
        Self {
            graphs: quota.graphs,
            replicas: quota.replicas,
            memory_bytes: quota.memory.map(|memory| memory.0),
        }
    }
}

impl From<wire::Quota> for Quota {
    fn from(quota: wire::Quota) -> Self {
        Self { graphs: quota.graphs, replicas: quota.replicas, memory: quota.memory_bytes.map(ByteSize) }
    }
}

impl From<Usage> for wire::Usage {
    fn from(usage: Usage) -> Self {
        Self { graphs: usage.graphs, replicas: usage.replicas, memory_bytes: usage.memory.0 }
    }
}

impl From<wire::Usage> for Usage {
    fn from(usage: wire::Usage) -> Self {
        Self { graphs: usage.graphs, replicas: usage.replicas, memory: ByteSize(usage.memory_bytes) }
    }
}
