//! The benchmarks, side by side with HAProxy, nginx and Envoy.

pub(crate) mod access;
mod cpu;
mod fault;
mod figures;
pub(crate) mod forward;
pub(crate) mod forward_origin;
mod frame;
pub(crate) mod guard;
pub(crate) mod http;
pub(crate) mod l4;
mod machine;
mod namespace;
pub(crate) mod operating;
pub(crate) mod origin;
mod papers;
mod peers;
pub(crate) mod ports;
mod process;
mod proxy;
mod recovery;
pub(crate) mod requests;
pub(crate) mod round;
mod scenario;
mod sight;
pub(crate) mod tls;
mod wish;

use std::process::ExitCode;

/// `cargo xtask bench recovery`.
pub(crate) fn recovery(arguments: &[&str]) -> ExitCode {
    frame::measure::<scenario::Scenario>(arguments)
}

/// `cargo xtask bench tls`.
pub(crate) fn tls(arguments: &[&str]) -> ExitCode {
    frame::measure::<tls::Task>(arguments)
}

/// `cargo xtask bench l4`.
pub(crate) fn l4(arguments: &[&str]) -> ExitCode {
    frame::measure::<l4::Task>(arguments)
}

/// `cargo xtask bench http`.
pub(crate) fn http(arguments: &[&str]) -> ExitCode {
    frame::measure::<http::Task>(arguments)
}

/// `cargo xtask bench requests`.
pub(crate) fn requests(arguments: &[&str]) -> ExitCode {
    frame::measure::<requests::Case>(arguments)
}
