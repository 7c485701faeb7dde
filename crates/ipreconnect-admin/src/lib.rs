//! The operator's view of a gateway: an API, metrics, a dashboard, and a ledger of what was lost.
//!
//! It declares what it shows ([`view`]) and what it wants of a gateway ([`Gateway`]), and knows no plane. All of it
//! runs on threads of its own: detection never waits for a page or a disk.

mod alerts;
mod encode;
mod events;
mod gateway;
mod history;
mod log;
mod metrics;
pub mod moment;
mod otlp;
mod page;
mod post;
mod server;
pub mod view;

pub use alerts::{AlertPlan, Alerts, Hook, HookPlan, Hooks, Message, Sink};
pub use encode::encoded;
pub use events::Events;
pub use gateway::{Denial, Gateway, Pulse, Tapped};
pub use history::{Begun, Ledger, read_history};
pub use log::{Journal, LineFormat, LogWay, SyslogPlace};
pub use otlp::{Collector, Traces};
pub use page::{Drawn, StatusPage, StatusPages};
pub use post::Undelivered;
pub use server::{Api, Guard, description};
