//! The gateway on real sockets, in front of scripted origins.

mod faults;
mod scene;
mod silence;
mod streams;
