//! The forward proxy's decisions: where a client wants to go, and whether it may.

mod allowance;
mod domains;
mod list;
mod pac;
mod policy;
pub mod socks;
mod target;

pub use allowance::{Allowance, Allowances, Over, Spent};
pub use pac::{direct, pac};
pub use policy::{Denial, Entry, ForwardPolicy, Places, Private, Standing};
pub use target::{Host, Target, TargetError};
