//! Who may come in: ordered rules, of which the first that matches decides, and nobody comes in whom none
//! matches. They mean what they mean in PostgreSQL's `pg_hba.conf` and `pg_ident.conf` (version 16 and later),
//! whether they are written so or in our own configuration.
//!
//! Nothing here reads a file, looks up a name or knows the addresses of this machine: [`Files`] and [`World`]
//! do.

mod address;
mod hba;
mod ident;
mod names;
mod plain;
mod roles;
mod rule;
mod rules;
mod words;

pub use hba::read_hba;
pub use ident::{Maps, read_ident};
pub use plain::{Plain, PlainField, PlainMistake, our_own, our_own_said, plain, this_machine};
pub use roles::{Roles, read_roles};
pub use rule::{ClientCert, Foreign, Kind, Method, Rule};
pub use rules::{Host, Mismatch, Names, Rules, Source, Verdict, Visitor, World};
pub use words::{Files, Mistake, Place};

#[cfg(test)]
mod tests;
