use proptest::prelude::*;

use super::*;

fn packet(code: u32, inside: &[u8]) -> Vec<u8> {
    let length = u32::try_from(inside.len() + 8).unwrap();
    [&length.to_be_bytes()[..], &code.to_be_bytes(), inside].concat()
}

fn start(inside: &[u8]) -> Opening {
    read(&packet(3 << 16, inside))
}

fn refused(inside: &[u8]) -> (&'static str, String) {
    match start(inside) {
        Opening::Broken(refusal) => (refusal.code, refusal.message),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_session_says_who_and_where() {
    let opening = start(b"user\0ann\0database\0orders\0application_name\0psql\0\0");
    let Opening::Packet(length, Packet::StartUp(start_up)) = opening else {
        panic!("{opening:?}");
    };
    assert_eq!(length, 8 + 48);
    assert_eq!(&*start_up.user, b"ann");
    assert_eq!(&*start_up.database, b"orders");
    assert!(!start_up.is_replication);
    // Without a database it is the user's own.
    let opening = start(b"user\0ann\0\0");
    let Opening::Packet(_, Packet::StartUp(start_up)) = opening else {
        panic!("{opening:?}");
    };
    assert_eq!(&*start_up.database, b"ann");
}

#[test]
fn replication_is_physical_unless_it_has_a_database() {
    let kind = |value: &[u8]| {
        let inside = [b"user\0ann\0replication\0", value, b"\0\0"].concat();
        match start(&inside) {
            Opening::Packet(_, Packet::StartUp(start_up)) => Ok(start_up.is_replication),
            Opening::Broken(refusal) => Err(refusal.code),
            other => panic!("{other:?}"),
        }
    };
    for yes in ["true", "on", "1", "yes", "t", "Y", "TRUE"] {
        assert_eq!(kind(yes.as_bytes()), Ok(true), "{yes}");
    }
    for no in ["false", "off", "0", "no", "f", "of", "database"] {
        assert_eq!(kind(no.as_bytes()), Ok(false), "{no}");
    }
    for wrong in ["", "o", "2", "truee", "databases"] {
        assert_eq!(
            kind(wrong.as_bytes()),
            Err(code::INVALID_PARAMETER_VALUE),
            "{wrong}"
        );
    }
}

#[test]
fn what_two_may_read_differently_is_refused() {
    let (code, why) = refused(b"user\0ann\0user\0root\0\0");
    assert_eq!(code, code::PROTOCOL_VIOLATION);
    assert_eq!(why, "startup parameter \"user\" is there more than once");
    let (code, why) = refused(b"user\0ann\0\0more\0");
    assert_eq!(code, code::PROTOCOL_VIOLATION);
    assert!(why.starts_with("invalid startup packet layout"), "{why}");
    assert_eq!(refused(b"user\0ann\0").0, code::PROTOCOL_VIOLATION);
    assert_eq!(refused(b"user\0ann").0, code::PROTOCOL_VIOLATION);
    assert_eq!(refused(b"").0, code::PROTOCOL_VIOLATION);
    assert_eq!(refused(b"database\0d\0\0").0, code::INVALID_AUTHORIZATION);
    assert_eq!(refused(b"user\0\0\0").0, code::INVALID_AUTHORIZATION);
    let long = [b"user\0".as_slice(), &[b'a'; 64], b"\0\0"].concat();
    assert_eq!(refused(&long).0, code::NAME_TOO_LONG);
    let fits = [b"user\0".as_slice(), &[b'a'; 63], b"\0\0"].concat();
    assert!(matches!(start(&fits), Opening::Packet(..)));
}

#[test]
fn names_may_have_any_bytes_but_nul() {
    let opening = start(b"user\0an\n\xffn\0\0");
    let Opening::Packet(_, Packet::StartUp(start_up)) = opening else {
        panic!("{opening:?}");
    };
    assert_eq!(&*start_up.user, b"an\n\xffn");
}

#[test]
fn other_packets_are_told_apart() {
    assert_eq!(
        read(&packet(SSL_REQUEST, b"")),
        Opening::Packet(8, Packet::Ssl)
    );
    assert_eq!(
        read(&packet(GSSENC_REQUEST, b"")),
        Opening::Packet(8, Packet::Gss)
    );
    let cancel = packet(CANCEL_REQUEST, &[0; 8]);
    assert_eq!(read(&cancel), Opening::Packet(16, Packet::Cancel));
    let longer = packet(CANCEL_REQUEST, &[0; 4 + 256]);
    assert_eq!(read(&longer), Opening::Packet(268, Packet::Cancel));
    for (code, inside) in [
        (SSL_REQUEST, 1),
        (CANCEL_REQUEST, 3),
        (CANCEL_REQUEST, 4 + 257),
    ] {
        let opening = read(&packet(code, &vec![0; inside]));
        assert!(matches!(opening, Opening::Broken(_)), "{opening:?}");
    }
    assert_eq!(read(&[22, 3, 1, 2, 0, 1]), Opening::Tls);
    let Opening::Broken(refusal) = read(&packet(2 << 16, b"user\0ann\0\0")) else {
        panic!();
    };
    assert_eq!(refusal.code, code::FEATURE_NOT_SUPPORTED);
    assert!(
        refusal
            .message
            .starts_with("unsupported frontend protocol 2.0")
    );
}

#[test]
fn a_request_of_http_is_no_packet() {
    let opening = read(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(matches!(opening, Opening::Broken(_)), "{opening:?}");
}

#[test]
fn errors_are_as_a_server_writes_them() {
    let refusal = refusal(code::INVALID_AUTHORIZATION, "no\0t you");
    assert_eq!(
        error_response(&refusal),
        b"E\0\0\0\x23SFATAL\0VFATAL\0C28000\0Mnot you\0\0"
    );
}

#[test]
fn requests_and_answers_of_authentication() {
    assert_eq!(authentication(Asked::ClearText), b"R\0\0\0\x08\0\0\0\x03");
    assert_eq!(
        authentication(Asked::Sasl(&["SCRAM-SHA-256"])),
        b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0"
    );
    assert_eq!(
        answer(b"p\0\0\0\x08abc\0"),
        Answer::Whole(9, b"abc\0".to_vec())
    );
    assert_eq!(answer(b"p\0\0\0\x08abc"), Answer::More);
    assert_eq!(answer(b"Q\0\0\0\x08abc\0"), Answer::Broken);
    assert_eq!(answer(b"p\0\x01\0\x08abc\0"), Answer::Broken);
    assert_eq!(password(b"abc\0"), Some(&b"abc"[..]));
    assert_eq!(password(b"a\0c\0"), None);
    assert_eq!(password(b"abc"), None);
    assert_eq!(
        sasl_initial(b"SCRAM-SHA-256\0\0\0\0\x03abc"),
        Some((&b"SCRAM-SHA-256"[..], &b"abc"[..]))
    );
    assert_eq!(sasl_initial(b"SCRAM-SHA-256\0\0\0\0\x04abc"), None);
    assert_eq!(sasl_initial(b"SCRAM-SHA-256\0\xff\xff\xff\xff"), None);
}

#[test]
fn a_server_asks_or_is_content() {
    assert_eq!(asks(b"R\0\0\0\x08\0\0\0\0"), Some(false));
    assert_eq!(asks(b"R\0\0\0\x08\0\0\0\x0a"), Some(true));
    assert_eq!(asks(b"R\0\0\0\x08\0\0\0"), None);
    assert_eq!(asks(b"E\0\0\0\x29SFATAL"), Some(true));
    assert_eq!(
        asks(b"v\0\0\0\x0c\0\x03\0\0\0\0\0\0R\0\0\0\x08\0\0\0\0"),
        Some(false)
    );
    assert_eq!(asks(b"v\0\0\0\x0c\0"), None);
    assert_eq!(asks(b"v\0\0\0\0\0\0\0\0"), None);
    assert_eq!(asks(b"N\0\0\0\x06x\0R\0\0\0\x08\0\0\0\0"), Some(false));
    assert_eq!(asks(b"S\0\0\0\x08a\0b\0"), Some(false));
    assert_eq!(asks(b""), None);
}

proptest! {
    /// Whatever comes is read without harm, and what is whole stays what it is when more comes.
    #[test]
    fn anything_is_read(bytes in prop::collection::vec(any::<u8>(), 0..200), more in any::<u8>()) {
        let opening = read(&bytes);
        let after = [&bytes[..], &[more]].concat();
        match &opening {
            Opening::More => {}
            other => prop_assert_eq!(other, &read(&after)),
        }
        let _ = answer(&bytes);
        let _ = sasl_initial(&bytes);
    }

    /// A packet is asked for until its last byte is there.
    #[test]
    fn parts_are_waited_for(
        parameters in prop::collection::vec(("[a-z]{1,8}", "[^\0]{0,20}"), 0..5),
        user in "[^\0]{1,15}",
    ) {
        let mut inside = Vec::new();
        let known = ["user", "database", "replication"];
        let others = parameters.iter().filter(|(name, _)| !known.contains(&name.as_str()));
        for (name, value) in others.chain([&("user".to_owned(), user.clone())]) {
            inside.extend_from_slice(name.as_bytes());
            inside.push(0);
            inside.extend_from_slice(value.as_bytes());
            inside.push(0);
        }
        inside.push(0);
        let bytes = packet(3 << 16, &inside);
        for end in 0..bytes.len() {
            prop_assert_eq!(read(&bytes[..end]), Opening::More);
        }
        let Opening::Packet(length, Packet::StartUp(start_up)) = read(&bytes) else {
            panic!();
        };
        prop_assert_eq!(length, bytes.len());
        prop_assert_eq!(&*start_up.user, user.as_bytes());
    }
}
