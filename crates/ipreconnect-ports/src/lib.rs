//! The sockets of this machine: which there are, and who holds an address.
//!
//! Sockets are found by `sock_diag(7)`, their processes by `/proc`. Both work unprivileged; what
//! another user's process holds is then seen without its process.

mod connection;
mod diag;
mod holder;
mod interface;
mod inventory;
mod namespace;
mod peer;
mod process;
mod program;
mod range;
mod scan;
mod watch;

pub use connection::{Connection, Owners, State, connections, owned_by, owners};
pub use interface::{Interface, interface_index, interface_name, interfaces};
pub use inventory::{Inventory, Reach, Socket, Transport, Unseen, inventory};
pub use namespace::{Inside, InsideError, Namespace, do_without_admin};
pub use peer::{group_id, owner, user, user_id};
pub use program::{Program, parent, program};
pub use range::{candidates, ephemeral, reserved};
pub use watch::{Ending, Endings, Heard, Listening, Look, Outgoing, Scope, Talk, close, look};

pub use holder::{Holder, Process, connected_from, holders, holders_of_udp, holders_of_unix};
