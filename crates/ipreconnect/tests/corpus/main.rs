//! The corpora of the fuzz targets, replayed.

mod checks;

use std::path::Path;

fn replay(target: &str, check: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    let inputs = std::fs::read_dir(corpus.join(target)).unwrap();
    let mut count = 0;
    for input in inputs {
        check(&std::fs::read(input.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count > 0, "{target} has no corpus");
}

#[test]
fn what_is_kept_of_names() {
    replay("remembered", checks::remembered);
}

#[test]
fn addresses_as_they_are_written() {
    replay("addresses", checks::addresses);
}

#[test]
fn the_first_bytes_of_clients() {
    replay("hello", checks::hello);
}

#[test]
fn certificates_of_strangers() {
    replay("certificate", checks::certificate);
}

#[test]
fn handshakes_with_anybody() {
    replay("session", checks::session);
}

#[test]
fn requests_and_answers_of_strangers() {
    replay("message", checks::message);
}

#[test]
fn routes_and_paths() {
    replay("route", checks::route);
}

#[test]
fn files_of_rules() {
    replay("hba", checks::hba);
}

#[test]
fn files_of_maps() {
    replay("ident", checks::ident);
}

#[test]
fn headers_of_proxies() {
    replay("carried", checks::carried);
}

#[test]
fn the_first_words_to_a_database() {
    replay("startup", checks::startup);
}

#[test]
fn what_passes() {
    replay("tapped", checks::tapped);
}

#[test]
fn where_somebody_wants_to_go() {
    replay("target", checks::target);
}

#[test]
fn clients_of_socks() {
    replay("socks", checks::socks);
}
