//! The wire: code generated from the `.proto` files, and the only conversions between it and `model`.
//!
//! A generated type is named nowhere but in [`convert`] and in the service method that received it.

pub mod backup;
pub mod convert;
pub mod status;

/// Generated from `proto/weft`.
#[allow(missing_docs, clippy::all, clippy::unwrap_used, clippy::expect_used, reason = "generated")]
pub mod weft {
    /// `weft.graph`
    pub mod graph {
        /// `weft.graph.v1`
        pub mod v1 {
            tonic::include_proto!("weft.graph.v1");
        }
    }
    /// `weft.policy`
    pub mod policy {
        /// `weft.policy.v1`
        pub mod v1 {
            tonic::include_proto!("weft.policy.v1");
        }
    }
    /// `weft.artifact`
    pub mod artifact {
        /// `weft.artifact.v1`
        pub mod v1 {
            tonic::include_proto!("weft.artifact.v1");
        }
    }
    /// `weft.link`
    pub mod link {
        /// `weft.link.v1`
        pub mod v1 {
            tonic::include_proto!("weft.link.v1");
        }
    }
    /// `weft.node`
    pub mod node {
        /// `weft.node.v1`
        pub mod v1 {
            tonic::include_proto!("weft.node.v1");
        }
    }
    /// `weft.namespace`
    pub mod namespace {
        /// `weft.namespace.v1`
        pub mod v1 {
            tonic::include_proto!("weft.namespace.v1");
        }
    }
    /// `weft.event`
    pub mod event {
        /// `weft.event.v1`
        pub mod v1 {
            tonic::include_proto!("weft.event.v1");
        }
    }
    /// `weft.log`
    pub mod log {
        /// `weft.log.v1`
        pub mod v1 {
            tonic::include_proto!("weft.log.v1");
        }
    }
    /// `weft.trust`
    pub mod trust {
        /// `weft.trust.v1`
        pub mod v1 {
            tonic::include_proto!("weft.trust.v1");
        }
    }
    /// `weft.member`
    pub mod member {
        /// `weft.member.v1`
        pub mod v1 {
            tonic::include_proto!("weft.member.v1");
        }
    }
    /// `weft.backup`
    pub mod backup {
        /// `weft.backup.v1`
        pub mod v1 {
            tonic::include_proto!("weft.backup.v1");
        }
    }
    /// `weft.agent`
    pub mod agent {
        /// `weft.agent.v1`
        pub mod v1 {
            tonic::include_proto!("weft.agent.v1");
        }
    }
}

/// The compiled descriptors of all services, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The most bytes of one chunk of an artifact.
///
/// Small enough that a slow link is never blocked for long by one message, large enough that overhead is nothing.
pub const CHUNK_MAX_BYTES: usize = 256 << 10;
