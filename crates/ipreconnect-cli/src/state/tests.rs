use super::*;

#[test]
fn what_is_kept_is_found_again_and_stays_in_its_directory() {
    let home = tempfile::tempdir().unwrap();
    let state = StateDirectory::open(&home.path().join("state")).unwrap();
    let store = state.store();
    assert_eq!(store.load("names", "db.test A").unwrap(), None);
    for key in ["db.test A", "../../etc/passwd", "/", "ünïcode", "a/b", ""] {
        store.save("names", key, "first").unwrap();
        store.save("names", key, key).unwrap();
        assert_eq!(store.load("names", key).unwrap().as_deref(), Some(key));
    }
    let mut outside: Vec<_> = fs::read_dir(home.path()).unwrap().flatten().collect();
    assert_eq!(outside.remove(0).file_name(), "state");
    assert!(outside.is_empty());
}

#[test]
fn what_cannot_be_kept_is_told() {
    let home = tempfile::tempdir().unwrap();
    let state = StateDirectory::open(home.path()).unwrap();
    fs::write(home.path().join("names"), "in the way").unwrap();
    assert!(state.store().save("names", "a", "b").is_err());
    fs::remove_file(home.path().join("names")).unwrap();
    assert!(state.store().save("names", "a", "b").is_ok());
    fs::write(home.path().join("names/a"), [0xff, 0xfe]).unwrap();
    assert!(state.store().load("names", "a").is_err());
}

/// Ever new names must not fill the disk.
#[test]
fn the_oldest_gives_way_when_there_are_too_many() {
    let home = tempfile::tempdir().unwrap();
    let store = FileStore {
        directory: home.path().to_owned(),
        keys: 8,
    };
    let long_ago = SystemTime::now() - std::time::Duration::from_secs(3600);
    for key in 0..8 {
        store.save("names", &key.to_string(), "old").unwrap();
        let file = File::open(store.path("names", &key.to_string())).unwrap();
        let written = long_ago + std::time::Duration::from_secs(key);
        file.set_modified(written).unwrap();
    }
    store.save("names", "0", "new again").unwrap();
    for key in 100..103 {
        store.save("names", &key.to_string(), "new").unwrap();
    }
    let kept = fs::read_dir(home.path().join("names")).unwrap().count();
    assert_eq!(kept, 8);
    let is_kept = |key: &str| store.load("names", key).unwrap().is_some();
    assert!(is_kept("0") && is_kept("100") && is_kept("102"));
    assert!(!is_kept("1") && !is_kept("2") && !is_kept("3") && is_kept("4"));
}
