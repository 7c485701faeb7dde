//! What an application needs: servers that its settings name, and those that it was seen to talk to.
//!
//! Settings come in as paths and values, whatever file or environment they were read from; what is a secret in them is
//! left behind at once. What was seen comes in as connections with their times. Nothing is looked up here.

mod mention;
mod observed;

pub use mention::{Mention, Setting, mentions};
pub use observed::{Observed, Why};

#[cfg(test)]
mod tests;
