//! The library as its users meet it: against scripted origins on the loopback.

mod blame;
mod connect;
mod hold;
mod light;
mod names;
mod network;
mod questions;
mod scene;
mod sessions;
mod tls;
mod watch;
