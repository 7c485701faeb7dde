//! Configuration: text to a complete and checked [`Plan`].
//!
//! All mistakes of all files are told at once, each with its place and, where there is one, a
//! suggestion. Nothing here opens a socket, and no runtime type knows that it exists.

mod access;
mod admissions;
mod alerts;
mod check;
mod crosscheck;
mod diff;
mod dns;
mod environment;
mod expand;
mod files;
mod forward;
mod gateway;
mod guard;
mod http;
mod kept;
mod listen;
mod load;
mod log;
mod material;
mod mistake;
mod origin;
mod plan;
mod question;
mod reference;
mod refresh;
mod route;
mod rules;
mod section;
mod stamps;
mod tls;
mod value;

pub(crate) use check::show;
pub(crate) use diff::{Change, diff};
pub(crate) use environment::Environment;
pub(crate) use kept::{stamps_of_kept_ports, with_kept_ports};
pub(crate) use load::{
    Loaded, admin_socket, from_addresses, from_text, load, names_and_origins, state_directory,
};
pub(crate) use material::Permissions;
pub(crate) use mistake::{Colour, Mistakes};
pub(crate) use plan::{
    ForwardListen, GatewayPlan, GuardPlan, ListenPlan, LogLevel, LogPlan, LogTo, OnConflict,
    OriginPlan, OtlpPlan, Plan, Protocol, RoutePlan, ViaPlan, WayPlan,
};
pub(crate) use reference::reference;
pub(crate) use refresh::{refreshed, stamps_of_keys};
pub(crate) use stamps::Stamps;
pub(crate) use tls::{AcmePlan, Challenge, ListenTls, Source};
pub(crate) use value::duration;

#[cfg(test)]
mod tests;
