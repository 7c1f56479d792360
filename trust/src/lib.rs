//! Who is who in a cluster: its certificate authority, identities as X.509 certificates, and TLS between them.
//!
//! Programs of a cluster know each other by the one name in their certificates, `spiffe://CLUSTER/ROLE/UID`, and never
//! by address or DNS name. [`authority`] makes certificates, [`identity`] holds one with its key, [`keyring`] is what a
//! process has at the moment: it may be renewed, and others may be revoked, while connections are open. [`server`] and
//! [`client`] are the two ends of a connection, [`gate`] says which role may call which method, and [`token`] is how a
//! newcomer is let in.
//!
//! Nothing here reads or writes a file, and nothing asks a clock but the check of a certificate in a handshake. TLS is
//! 1.3 alone, from one provider of cryptography that is passed by hand: no global is set.

pub mod access;
pub mod authority;
pub mod certificate;
pub mod client;
pub mod connection;
pub mod fingerprint;
pub mod gate;
pub mod identity;
pub mod key;
pub mod keyring;
pub mod pem;
pub mod refusal;
pub mod server;
pub mod spiffe;
pub mod token;
mod verify;

pub use authority::Authority;
pub use client::{Connector, Expect, connect, connector, pinned_connector};
pub use connection::{Connection, Peer};
pub use fingerprint::Fingerprint;
pub use gate::{Access, Gate};
pub use identity::Identity;
pub use key::Key;
pub use keyring::Keyring;
pub use refusal::Refusal;
pub use server::{Acceptor, Clients, incoming};
pub use spiffe::{Role, SpiffeId};
pub use token::JoinToken;
