//! Keeps an application connected to the servers it cannot work without.
//!
//! An [`Origin`] is what an application needs; each of its addresses is an *endpoint*. A supervisor
//! per origin notices when an endpoint is lost, tries again, fails over, and lets callers wait
//! meanwhile. What it decides is decided by `ipreconnect-core`; this crate carries it out on tokio.
//!
//! Names are looked up by the operating system, or as [`Surroundings::with_names`] is told; what is known
//! of them serves on while no resolver answers.
//!
//! Servers that speak TLS prove who they are on every connection, before anything is sent to them: see
//! [`Builder::tls`] and [`tls::TlsSettings`].
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let orders = ipreconnect::Origin::builder("orders-db")
//!     .address("db-1.internal:5432") // preferred
//!     .address("db-2.internal:5432") // backup
//!     .start()?;
//!
//! let link = orders.connect().await?; // AsyncRead + AsyncWrite; waits while the origin is away
//! println!("connected to {}", link.address());
//!
//! let status = orders.watch(|status| status.is_up()).await?;
//! println!("{} is {}", status.origin, status.phase);
//! # Ok(()) }
//! ```

mod builder;
mod chooser;
pub mod clock;
mod dial;
mod driver;
mod error;
mod identity;
pub mod inspect;
mod light;
mod link;
mod meter;
mod origin;
mod probe;
mod race;
mod reconnecting;
pub mod resolve;
pub mod sense;
mod settings;
mod shared;
mod snapshot;
pub mod socket;
pub mod span;
pub mod stats;
mod status;
mod store;
mod surroundings;
mod target;
mod task;
pub mod tls;
mod waiters;
mod warm;
mod way;
mod witness;

pub use builder::Builder;
pub use chooser::Chooser;
pub use error::{Error, Kind, Retry};
pub use ipreconnect_core as core;
pub use light::{Host, Open, Vet};
pub use link::{Link, Parts};
pub use meter::{Meter, Usage, closings};
pub use origin::{Changes, Origin};
pub use reconnecting::Reconnecting;
pub use settings::{HoldSettings, OriginSettings, Place, WarmSettings};
pub use snapshot::Snapshot;
pub use status::{EndpointStatus, Identity, Status};
pub use store::Store;
pub use surroundings::{Signal, Surroundings};
pub use target::{Target, TargetError, Transport};
pub use way::{Hold, Way};
pub use witness::{News, Witness};
