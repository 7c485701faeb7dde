use std::os::unix::fs::PermissionsExt;

use ipreconnect::core::identity::KeyId;

use super::*;

fn seen(address: &str, key: u8, acceptance: Acceptance) -> Sighting {
    Sighting {
        entry: "db.test:1".into(),
        address: address.into(),
        key: KeyId([key; 32]),
        issuer: "CN=Test CA, O='; DROP TABLE identity; --".into(),
        names: ["db.test".to_owned(), "*.db.test".to_owned()].into(),
        not_after: 4_000_000_000,
        version: "TLS 1.3".into(),
        dnssec: "secure".into(),
        first_seen: u64::from(key),
        last_seen: 200,
        acceptance,
    }
}

#[test]
fn what_was_kept_is_there_after_a_restart_and_each_origin_has_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger.db");
    let all = [
        seen("192.0.2.1:1", 1, Acceptance::Accepted),
        seen("192.0.2.2:1", 2, Acceptance::Alarming),
        seen("192.0.2.2:1", 3, Acceptance::Refused),
    ];
    let ledger = Ledger::at(path.clone());
    ledger.keep("db", &all).unwrap();
    ledger.keep("other", &all[..1]).unwrap();
    drop(ledger);
    let ledger = Ledger::at(path.clone());
    assert_eq!(ledger.sightings("db").unwrap(), all);
    ledger.keep("db", &all[1..]).unwrap();
    assert_eq!(ledger.sightings("db").unwrap(), all[1..]);
    assert_eq!(ledger.sightings("other").unwrap(), all[..1]);
    assert_eq!(ledger.sightings("unknown").unwrap(), []);
    let mode = std::fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_damaged_file_is_an_error_until_it_is_mended() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger.db");
    std::fs::write(
        &path,
        "this is no database, and long enough to be read as one".repeat(100),
    )
    .unwrap();
    let ledger = Ledger::at(path.clone());
    let error = ledger.sightings("db").unwrap_err().to_string();
    assert!(error.contains("ledger.db"), "{error}");
    assert!(ledger.keep("db", &[]).is_err());
    std::fs::remove_file(&path).unwrap();
    ledger.keep("db", &[]).unwrap();
    assert_eq!(ledger.sightings("db").unwrap(), []);
}

#[test]
fn a_file_of_a_newer_version_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger.db");
    let newer = Connection::open(&path).unwrap();
    newer
        .pragma_update(None, "user_version", VERSION + 1)
        .unwrap();
    drop(newer);
    let error = Ledger::at(path).sightings("db").unwrap_err().to_string();
    assert!(error.contains("newer version"), "{error}");
}
