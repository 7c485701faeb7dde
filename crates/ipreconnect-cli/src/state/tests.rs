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
