//! The gateway on real sockets, in front of scripted origins.

mod bytes;
mod faults;
mod forward;
mod http;
mod ports;
mod scene;
mod silence;
mod streams;
mod udp;
