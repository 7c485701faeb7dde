//! Names to addresses: the resolvers, and the memory of names that all origins share.
//!
//! One lookup serves everybody who uses a name. What is known of it is kept beyond its time to live
//! while resolvers fail, and on disk between two runs; what comes of it is proven before it is used.

mod answer;
mod ask;
mod client;
mod hosts;
mod lookup;
mod names;
mod place;
mod provider;
mod reverse;
mod server;
mod settings;
mod system;
mod table;
mod visits;

pub use answer::{Question, Record, RecordKind, Service};
pub use names::{NameStatus, Names, ServerAnswer, ServerStatus};
pub(crate) use place::Places;
pub use reverse::reverse;
pub use server::{DnsServer, DnsServerError, Host, HttpsServer, PlainTransport};
pub use settings::{DnsSettings, Dnssec, Roots, TrustAnchor, TrustAnchorError};
