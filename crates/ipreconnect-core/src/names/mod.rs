//! Names: when to ask for them, whom, and what an answer is worth.
//!
//! Nothing here looks anything up. A [`Memory`] says when one kind of record of one name is to be
//! asked for and what is known of it meanwhile; an [`Inquiry`] says which servers one lookup asks, and
//! whose answer counts; a [`Panel`] remembers which servers failed of late.

mod inquiry;
mod memory;
mod panel;
mod remembered;
mod sightings;
mod whereabouts;

pub use inquiry::{Decision, Inquiry, Reply, Step, Strategy};
pub use memory::{Knowledge, Limits, Look, LookId, Memory, Outcome, Security, Turn};
pub use panel::{Fault, Panel, Seat};
pub use remembered::{Remembered, RememberedError};
pub use sightings::{Change, Sightings};
pub use whereabouts::Whereabouts;
