//! The gateway's own door for operators: where it is opened, and a client for it.

pub(crate) mod client;
pub(crate) mod door;

pub(crate) use ipreconnect_admin::view;
