use std::os::unix::fs::PermissionsExt;

use super::*;

fn names() -> Vec<String> {
    ["shop.localhost", "127.0.0.1"].map(str::to_owned).to_vec()
}

fn read(pair: &CertifiedKey) -> Certificate {
    Certificate::read(&pair.cert[0]).unwrap()
}

#[test]
fn the_authority_stays_over_restarts_and_its_key_is_its_owners() {
    let directory = tempfile::tempdir().unwrap();
    let ca = directory.path().join("ca");
    let first = Authority::open(&ca).unwrap().root;
    assert_eq!(Authority::open(&ca).unwrap().root, first);
    let mode = std::fs::metadata(ca.join("root.key"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    // A root that is lost is made again for the same key.
    std::fs::remove_file(root_file(&ca)).unwrap();
    let again = Authority::open(&ca).unwrap().root;
    let key = |der: &CertificateDer<'_>| Certificate::read(der).unwrap().key;
    assert_eq!(key(&again), key(&first));
    std::fs::write(ca.join("root.key"), "garbage").unwrap();
    assert!(
        Authority::open(&ca)
            .unwrap_err()
            .to_string()
            .contains("root.key")
    );
}

#[test]
fn a_leaf_is_renewed_when_its_time_comes_whenever_it_is_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Arc::new(Authority::open(directory.path()).unwrap());
    let internal = Internal::new(authority, names()).unwrap();
    let first = internal.certificate(None).unwrap();
    assert_eq!(*read(&first).names, names()[..]);
    assert!(Arc::ptr_eq(
        &first,
        &internal.certificate(Some("shop.localhost")).unwrap()
    ));
    // As after a long sleep, and as after a clock that was set back.
    for (from, renew_at) in [(0, now() - 1), (now() + 9999, now() + 99_999)] {
        let pair = Arc::clone(&first);
        internal.leaf.store(Some(Arc::new(Leaf {
            pair,
            from,
            renew_at,
        })));
        let new = internal.certificate(None).unwrap();
        assert!(read(&new).key != read(&first).key);
        assert!(read(&new).not_after > now() + 6 * DAY);
    }
}
