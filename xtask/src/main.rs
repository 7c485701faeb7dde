//! All that continuous integration runs, runnable at a desk: `cargo xtask help`.

mod bench;
mod fuzz;
mod install;
mod reference;
mod test;

use std::process::ExitCode;

const HELP: &str = "\
cargo xtask test             formatting, lints, all tests, documentation; what CI runs
cargo xtask gen [--check]    write docs/reference from the program, or tell whether it is current
cargo xtask bench recovery [--rounds N] [--only NAME]... [--current-peers]
                             how long clients suffer from a fault, beside HAProxy, nginx and
                             Envoy; NAME is a scenario or a proxy; --current-peers takes current
                             builds of the peers instead of the system's
cargo xtask bench l4 [--rounds N] [--only NAME]... [--current-peers]
                             what it costs to carry raw TCP and UDP; NAME is a task or a proxy
cargo xtask bench tls [--rounds N] [--only NAME]... [--current-peers]
                             what TLS costs at the door, and what it takes to the first byte
cargo xtask bench http [--rounds N] [--only NAME]... [--current-peers]
                             what it costs to carry requests
cargo xtask bench requests [--rounds N] [--only NAME]... [--current-peers]
                             what becomes of requests in a fault of their origin
cargo xtask bench access [--rounds N]
                             what access rules cost, and strangers that are refused
cargo xtask bench forward [--rounds N]
                             what the forward proxy costs, beside Squid and tinyproxy
cargo xtask bench ports [--rounds N]
                             what an inventory of listening sockets costs, beside ss
cargo xtask bench guard [--rounds N]
                             what the guard sees of short connections, and what that costs
cargo xtask bench operating [--rounds N] [--before PROGRAM]
                             what the operator's side costs; beside another build with --before
cargo xtask fuzz [--seconds N] [TARGET]...
                             the fuzz targets, a minute each unless told
cargo xtask help             this";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["test"] => test::run(),
        ["gen"] => told(reference::write()),
        ["gen", "--check"] => told(reference::check()),
        ["fuzz", arguments @ ..] => fuzz::run(arguments),
        ["bench", "recovery", arguments @ ..] => bench::recovery(arguments),
        ["bench", "l4", arguments @ ..] => bench::l4(arguments),
        // The processes that a benchmark is made of.
        ["bench-round", order] => bench::round::run(order),
        ["bench-l4-round", order] => bench::l4::round(order),
        ["l4-origin", "--port", port, "--burst", burst] => bench::l4::server::run(port, burst),
        ["origin", "--address", address, "--name", name] => bench::origin::run(address, name, None),
        [
            "origin",
            "--address",
            address,
            "--name",
            name,
            "--tls",
            papers,
        ] => bench::origin::run(address, name, Some(papers)),
        ["bench", "access", arguments @ ..] => bench::access::measure(arguments),
        ["bench", "forward", arguments @ ..] => bench::forward::measure(arguments),
        ["bench-forward-round", order] => bench::forward::round(order),
        ["bench", "ports", arguments @ ..] => bench::ports::measure(arguments),
        ["bench-ports-round", order] => bench::ports::round(order),
        ["bench", "guard", arguments @ ..] => bench::guard::measure(arguments),
        ["bench-guard-round", order] => bench::guard::round(order),
        ["holder", "--sockets", count] => bench::ports::hold(count),
        ["forward-origin", "--port", port] => bench::forward_origin::run(port),
        ["bench", "operating", arguments @ ..] => bench::operating::measure(arguments),
        ["bench-access-round", order] => bench::access::round(order),
        ["bench-access-decisions", _] => bench::access::decisions(),
        ["bench", "tls", arguments @ ..] => bench::tls(arguments),
        ["bench", "requests", arguments @ ..] => bench::requests(arguments),
        ["bench-requests-round", order] => bench::requests::round(order),
        ["book-origin", "--port", port, "--book", book] => bench::requests::origin::run(port, book),
        ["bench", "http", arguments @ ..] => bench::http(arguments),
        ["bench-http-round", order] => bench::http::round(order),
        ["http-origin", "--port", port, "--answer", length] => {
            bench::http::server::run(port, length)
        }
        ["bench-tls-round", order] => bench::tls::round(order),
        [] | ["help" | "--help" | "-h"] => {
            println!("{HELP}");
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("error: unknown task {words:?}\n\n{HELP}");
            ExitCode::from(2)
        }
    }
}

/// What went wrong was printed where it did.
fn told(well: bool) -> ExitCode {
    if well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
