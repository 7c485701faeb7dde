//! The fault lab: faulty links, scripted origins and a steady load, in one process.
//!
//! Everything here runs unprivileged on a tokio runtime and talks over the loopback only. A
//! [`link`] stands between a client and its origin and breaks what passes; an [`origin`] is a small
//! server that is killed, frozen and revived on the same port; a [`dns`] server answers with what it
//! is told to, or lies; a [`load`] asks at a steady pace and counts what its clients saw.
//!
//! ```
//! use ipreconnect_lab::link::{Fault, TcpLink};
//! use ipreconnect_lab::load::Load;
//! use ipreconnect_lab::origin::{Script, ScriptedOrigin};
//! use std::time::Duration;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! let origin = ScriptedOrigin::start(Script::Answer { name: "blue".into() })?;
//! let link = TcpLink::to(origin.address())?;
//! link.set(Fault::Latency(Duration::from_millis(1)))?;
//!
//! let load = Load { clients: 2, lasting: Duration::from_millis(100), ..Load::on(link.address()) };
//! let report = load.start()?.finished().await;
//! assert_eq!(report.answers_by_name["blue"], report.answered());
//! # Ok(())
//! # }
//! ```
//!
//! Buffers are bounded everywhere: a link stops reading when it holds enough, a datagram that finds
//! no room is lost, a load that has too much in flight counts what it could not send.

pub mod dns;
mod door;
pub mod link;
pub mod load;
pub mod namespace;
pub mod origin;
#[cfg(test)]
mod patience;
mod rooms;
