//! The decisions of ipreconnect, fully deterministic.
//!
//! Nothing here reads a clock, throws dice of its own, opens a socket or waits: time comes in as a
//! parameter, randomness as a seed, facts as [events](origin::Event), and what comes out are
//! [actions](origin::Action) for somebody else to carry out.

pub mod access;
pub mod address;
pub mod alert;
pub mod backoff;
pub mod balance;
pub mod budget;
pub mod carried;
pub mod detector;
pub mod dice;
pub mod discover;
pub mod escape;
pub mod failover;
pub mod failure;
pub mod forward;
pub mod freeze;
pub mod guard;
pub mod hello;
pub mod hold;
pub mod http;
pub mod identity;
pub mod locality;
pub mod names;
pub mod netset;
pub mod origin;
pub mod outlier;
pub mod path;
pub mod policy;
pub mod ports;
pub mod postgres;
pub mod question;
pub mod race;
pub mod rate;
pub mod storm;
pub mod tap;
pub mod warm;
pub mod watchdog;

/// Where the time of a test begins; all that follows is virtual.
#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "an instant cannot be made from nothing"
)]
fn beginning() -> std::time::Instant {
    std::time::Instant::now()
}
