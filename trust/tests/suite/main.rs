//! A cluster's trust over real sockets: who is let in, what is cut, and what a certificate is made of.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "tests")]

mod authority;
mod crowd;
mod gate;
mod handshake;
mod pem;
mod renewal;
mod revocation;
mod support;
mod token;
