//! The gateway's own door for operators: an HTTP API on a Unix socket, and a client for it.

pub(crate) mod client;
pub(crate) mod server;
pub(crate) mod view;
