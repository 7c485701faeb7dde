//! The sockets of this machine: who holds an address.
//!
//! Sockets are found by `sock_diag(7)`, their processes by `/proc`. Both work unprivileged; what
//! another user's process holds is then seen without its process.

mod diag;
mod holder;
mod interface;
mod peer;
mod process;
mod range;

pub use interface::{Interface, interfaces};
pub use peer::{group_id, owner, user, user_id};
pub use range::{candidates, ephemeral, reserved};

pub use holder::{Holder, Process, connected_from, holders, holders_of_udp, holders_of_unix};
