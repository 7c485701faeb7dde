use proptest::prelude::*;

use super::*;

#[test]
fn a_text_is_read_as_it_was_written() {
    let remembered = Remembered {
        saved: 1_763_733_600,
        security: Security::Secure,
        records: vec!["192.0.2.1".into(), "2001:db8::1".into()],
    };
    let text = remembered.to_string();
    assert_eq!(
        text,
        "ipreconnect name 1\nsaved 1763733600\ndnssec secure\nrecord 192.0.2.1\nrecord 2001:db8::1\n"
    );
    assert_eq!(Remembered::parse(&text), Ok(remembered));
}

#[test]
fn anything_else_is_refused() {
    for (text, error) in [
        ("", RememberedError::Head),
        (
            "ipreconnect name 2\nsaved 1\ndnssec secure\n",
            RememberedError::Head,
        ),
        (
            "ipreconnect name 1\nsaved -1\ndnssec secure\n",
            RememberedError::Line(2),
        ),
        (
            "ipreconnect name 1\nsaved 1\ndnssec maybe\n",
            RememberedError::Line(3),
        ),
        (
            "ipreconnect name 1\nsaved 1\ndnssec secure\n192.0.2.1\n",
            RememberedError::Line(4),
        ),
        (
            "ipreconnect name 1\nsaved 1\ndnssec secure\nrecord 192.0.2.1\r",
            RememberedError::Line(4),
        ),
    ] {
        assert_eq!(Remembered::parse(text), Err(error), "{text:?}");
    }
    let many = "record 192.0.2.1\n".repeat(65);
    let text = format!("ipreconnect name 1\nsaved 1\ndnssec secure\n{many}");
    assert_eq!(Remembered::parse(&text), Err(RememberedError::TooLong));
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in ".*", lines in prop::collection::vec("(saved|dnssec|record) .*", 0..6)) {
        let _ = Remembered::parse(&text);
        let framed = format!("ipreconnect name 1\n{}", lines.join("\n"));
        if let Ok(read) = Remembered::parse(&framed) {
            prop_assert_eq!(Remembered::parse(&read.to_string()), Ok(read));
        }
    }
}
