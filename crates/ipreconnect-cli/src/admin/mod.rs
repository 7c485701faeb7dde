//! The gateway's own door for operators: an HTTP API on a Unix socket, and a client for it.

pub mod client;
pub mod server;
pub mod view;
