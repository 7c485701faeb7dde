use proptest::prelude::*;

use super::*;

const DAY: u64 = 86_400;

fn server(entry: &str, address: &str, key: u8) -> Presented {
    Presented {
        entry: entry.into(),
        address: Address::Tcp(address.parse().unwrap()),
        key: KeyId([key; 32]),
        issuer: "CN=Test CA".into(),
        names: vec!["db.test".to_owned()].into(),
        not_after: 100 * DAY,
        version: "TLS 1.3",
        dnssec: Security::Insecure,
        pinned: false,
    }
}

#[test]
fn a_new_address_with_the_same_key_has_moved_and_a_new_key_is_a_rotation() {
    let mut history = History::default();
    let first = server("db.test:1", "192.0.2.1:1", 1);
    let verdict = history.see(&first, OnKeyChange::Verify, DAY);
    assert_eq!(verdict.seen, Seen::First);
    assert!(verdict.is_news && verdict.changed);
    assert!(history.knows(&first, DAY + 1));

    let moved = server("db.test:1", "192.0.2.2:1", 1);
    let verdict = history.see(&moved, OnKeyChange::Verify, DAY + 2);
    let from = "192.0.2.1:1".into();
    assert_eq!(verdict.seen, Seen::Moved { from });
    assert!(!history.see(&moved, OnKeyChange::Verify, DAY + 3).is_news);

    let rotated = server("db.test:1", "192.0.2.2:1", 2);
    let verdict = history.see(&rotated, OnKeyChange::Verify, DAY + 4);
    let from = KeyId([1; 32]);
    assert_eq!(verdict.seen, Seen::Rotated { from });
    assert_eq!(verdict.acceptance, Acceptance::Accepted);
    assert_eq!(
        history.see(&rotated, OnKeyChange::Verify, DAY + 5).seen,
        Seen::Known
    );
}

#[test]
fn a_backup_that_is_met_for_the_first_time_is_no_change_of_the_key() {
    let mut history = History::default();
    history.see(&server("a:1", "192.0.2.1:1", 1), OnKeyChange::Refuse, DAY);
    let verdict = history.see(&server("b:1", "192.0.2.2:1", 2), OnKeyChange::Refuse, DAY);
    assert_eq!(verdict.seen, Seen::First);
    assert_eq!(verdict.acceptance, Acceptance::Accepted);
}

#[test]
fn a_refused_key_stays_refused_until_a_person_accepts_it() {
    let mut history = History::default();
    history.see(&server("a:1", "192.0.2.1:1", 1), OnKeyChange::Refuse, DAY);
    let other = server("a:1", "192.0.2.1:1", 2);
    for (again, is_news) in [(0, true), (1, false), (2, false)] {
        let verdict = history.see(&other, OnKeyChange::Refuse, DAY + again);
        assert_eq!(verdict.acceptance, Acceptance::Refused);
        assert_eq!(verdict.is_news, is_news);
        assert!(!history.knows(&other, DAY));
    }
    assert!(history.is_alarming());
    assert_eq!(history.accept(Some(KeyId([7; 32]))), []);
    assert!(history.is_alarming());
    assert_eq!(history.accept(Some(other.key)).len(), 1);
    assert_eq!(history.accept(None), []);
    assert_eq!(
        history.see(&other, OnKeyChange::Refuse, DAY + 9).seen,
        Seen::Known
    );
    assert!(history.knows(&other, DAY + 9));
}

#[test]
fn an_alarming_key_is_used_and_told_once() {
    let mut history = History::default();
    history.see(&server("a:1", "192.0.2.1:1", 1), OnKeyChange::Alarm, DAY);
    let other = server("a:1", "192.0.2.1:1", 2);
    let verdict = history.see(&other, OnKeyChange::Alarm, DAY);
    assert!(verdict.is_news);
    assert_eq!(verdict.acceptance, Acceptance::Alarming);
    assert!(!history.see(&other, OnKeyChange::Alarm, DAY + 1).is_news);
    assert!(history.is_alarming());
}

#[test]
fn a_pinned_key_was_accepted_beforehand() {
    let mut history = History::default();
    history.see(&server("a:1", "192.0.2.1:1", 1), OnKeyChange::Refuse, DAY);
    let backup = Presented {
        pinned: true,
        ..server("a:1", "192.0.2.1:1", 2)
    };
    let verdict = history.see(&backup, OnKeyChange::Refuse, DAY);
    assert_eq!(verdict.acceptance, Acceptance::Accepted);
}

#[test]
fn a_flood_of_refused_keys_displaces_none_that_is_accepted() {
    let mut history = History::default();
    let own = server("a:1", "192.0.2.1:1", 1);
    history.see(&own, OnKeyChange::Refuse, DAY);
    for count in 0..1000u32 {
        let mut key = [9; 32];
        key[..4].copy_from_slice(&count.to_be_bytes());
        let forged = Presented {
            key: KeyId(key),
            ..own.clone()
        };
        let now = DAY + 1 + u64::from(count);
        let verdict = history.see(&forged, OnKeyChange::Refuse, now);
        assert_eq!(verdict.acceptance, Acceptance::Refused);
    }
    assert_eq!(history.sightings().len(), SIGHTINGS);
    assert_eq!(
        history.see(&own, OnKeyChange::Refuse, 2 * DAY).seen,
        Seen::Known
    );
}

proptest! {
    #[test]
    fn a_pin_is_read_as_it_was_written(bytes: [u8; 32]) {
        let key = KeyId(bytes);
        prop_assert_eq!(key.to_string().len(), "sha256/".len() + 44);
        prop_assert_eq!(key.to_string().parse(), Ok(key));
    }

    #[test]
    fn no_text_is_too_odd_for_a_pin(text in "(sha256/)?[A-Za-z0-9+/=é ]{0,60}") {
        let _ = text.parse::<KeyId>();
    }
}
