//! Links between components on two nodes: how values become bytes, how frames travel, how a consumer's session lives.
//!
//! [`encoding`] is pure. [`interface`] reads what a component calls or offers from its type. [`carrier`] has the streams
//! to other agents, [`pipe`] those of the host that are given over them, [`session`] the consumer's half of a session. The provider's half is the host's, since it makes
//! instances. Knows the store of neither side.

pub(crate) mod carrier;
pub(crate) mod encoding;
pub(crate) mod interface;
pub(crate) mod pipe;
pub(crate) mod session;
