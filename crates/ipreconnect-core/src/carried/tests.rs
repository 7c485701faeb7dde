use proptest::prelude::*;

use super::*;

fn whole(bytes: &[u8]) -> Carried {
    match read(bytes) {
        Header::Whole(length, carried) => {
            assert_eq!(length, bytes.len());
            carried
        }
        other => panic!("{other:?}"),
    }
}

fn pair(from: &str, to: &str) -> Option<(SocketAddr, SocketAddr)> {
    Some((from.parse().unwrap(), to.parse().unwrap()))
}

/// A header of version 2.
fn header(command: u8, family: u8, more: &[u8]) -> Vec<u8> {
    let length = u16::try_from(more.len()).unwrap().to_be_bytes();
    [&SIGNATURE[..], &[0x20 | command, family], &length, more].concat()
}

fn value(kind: u8, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).unwrap().to_be_bytes();
    [&[kind], &length[..], value].concat()
}

const FOUR: [u8; 12] = [192, 0, 2, 1, 10, 0, 0, 1, 0x1f, 0x90, 0, 80];

#[test]
fn a_line_says_who_connected_to_whom() {
    let four = whole(b"PROXY TCP4 192.0.2.1 10.0.0.1 8080 80\r\n");
    assert_eq!(four.addresses, pair("192.0.2.1:8080", "10.0.0.1:80"));
    let six = whole(b"PROXY TCP6 2001:db8::1 ::1 0 65535\r\n");
    assert_eq!(six.addresses, pair("[2001:db8::1]:0", "[::1]:65535"));
    for unknown in ["PROXY UNKNOWN\r\n", "PROXY UNKNOWN whatever it is\r\n"] {
        assert_eq!(whole(unknown.as_bytes()), Carried::default());
    }
    for broken in [
        "PROXY \r\n",
        "PROXY TCP5 192.0.2.1 10.0.0.1 8080 80\r\n",
        "PROXY TCP4 192.0.2.1 10.0.0.1 8080 80\n",
        "PROXY TCP4 192.0.2.1 10.0.0.1 8080\r\n",
        "PROXY TCP4 192.0.2.1 10.0.0.1 8080 80 \r\n",
        "PROXY TCP4  192.0.2.1 10.0.0.1 8080 80\r\n",
        "PROXY TCP4 192.0.2.1 10.0.0.1 08080 80\r\n",
        "PROXY TCP4 192.0.2.1 10.0.0.1 +1 80\r\n",
        "PROXY TCP4 192.0.2.1 10.0.0.1 65536 80\r\n",
        "PROXY TCP4 192.0.2.01 10.0.0.1 1 80\r\n",
        "PROXY TCP4 ::1 ::1 1 80\r\n",
        "PROXY TCP6 192.0.2.1 10.0.0.1 1 80\r\n",
    ] {
        assert!(
            matches!(read(broken.as_bytes()), Header::Broken(_)),
            "{broken}"
        );
    }
    let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(100));
    assert!(matches!(read(long.as_bytes()), Header::Broken(_)));
}

#[test]
fn the_second_version_says_it_in_bytes() {
    let four = whole(&header(1, 0x11, &FOUR));
    assert_eq!(four.addresses, pair("192.0.2.1:8080", "10.0.0.1:80"));
    let six: Vec<u8> = [[0x20; 16], [0x30; 16]].concat();
    let six = whole(&header(1, 0x21, &[&six[..], &[0, 1, 0, 2]].concat()));
    assert_eq!(six.addresses.unwrap().0.port(), 1);
    // The proxy speaks for itself, or of what is no address.
    let own = Carried {
        is_own: true,
        ..Carried::default()
    };
    assert_eq!(whole(&header(0, 0x11, &FOUR)), own);
    assert_eq!(whole(&header(0, 0xff, b"anything")), own);
    assert_eq!(whole(&header(1, 0x00, &[])), Carried::default());
    assert_eq!(whole(&header(1, 0x31, &[b'x'; 216])), Carried::default());
    for broken in [
        header(2, 0x11, &FOUR),
        header(1, 0x12, &FOUR),
        header(1, 0x11, &FOUR[..11]),
        header(1, 0x11, &[0; LONGEST]),
        header(1, 0x11, &[&FOUR[..], &[1]].concat()),
        header(1, 0x11, &[&FOUR[..], &[1, 0, 9, 0]].concat()),
        header(1, 0x11, &[&FOUR[..], &value(SSL, &[1])].concat()),
    ] {
        assert!(matches!(read(&broken), Header::Broken(_)), "{broken:?}");
    }
    let mut other = header(1, 0x11, &FOUR);
    other[12] = 0x31;
    assert!(matches!(read(&other), Header::Broken(_)));
}

#[test]
fn values_tell_of_tls() {
    let tls = |flags: u8, verify: u8| {
        let own = [value(SSL_VERSION, b"TLSv1.3"), value(SSL_CN, b"ann")].concat();
        value(SSL, &[&[flags, 0, 0, 0, verify], &own[..]].concat())
    };
    let said = |flags, verify| {
        let more = [
            &FOUR[..],
            &value(AUTHORITY, b"db.example"),
            &tls(flags, verify),
        ]
        .concat();
        whole(&header(1, 0x11, &more))
    };
    let verified = said(0x7, 0);
    assert_eq!(verified.authority.as_deref(), Some("db.example"));
    let own = verified.tls.unwrap();
    assert_eq!(
        (own.is_verified, own.version.as_deref(), own.name.as_deref()),
        (true, Some("TLSv1.3"), Some("ann"))
    );
    assert!(!said(0x7, 1).tls.unwrap().is_verified);
    assert!(!said(0x1, 0).tls.unwrap().is_verified);
    assert_eq!(said(0x6, 0).tls, None);
    let control = [&FOUR[..], &value(AUTHORITY, b"a\nb")].concat();
    assert_eq!(whole(&header(1, 0x11, &control)).authority, None);
}

#[test]
fn a_checksum_has_to_be_right() {
    assert_eq!(crc32c(b"123456789", 0..0), 0xe306_9283);
    let mut more = [&FOUR[..], &value(CRC32C, &[0; 4]), &value(0x04, b"x")].concat();
    let sum = crc32c(&header(1, 0x11, &more), 0..0);
    more[15..19].copy_from_slice(&sum.to_be_bytes());
    whole(&header(1, 0x11, &more));
    more[3] ^= 1;
    let broken = read(&header(1, 0x11, &more));
    assert_eq!(broken, Header::Broken("its checksum is another one"));
}

proptest! {
    #[test]
    fn a_part_needs_more_and_what_follows_is_not_its(
        cut in 0usize..60,
        behind in prop::collection::vec(any::<u8>(), 0..20),
        is_first in any::<bool>(),
    ) {
        let bytes = match is_first {
            true => b"PROXY TCP4 192.0.2.1 10.0.0.1 8080 80\r\n".to_vec(),
            false => header(1, 0x11, &[&FOUR[..], &value(AUTHORITY, b"x")].concat()),
        };
        prop_assert!(matches!(read(&[&bytes[..], &behind].concat()), Header::Whole(length, _) if length == bytes.len()));
        if cut < bytes.len() {
            prop_assert_eq!(read(&bytes[..cut]), Header::More);
        }
    }

    #[test]
    fn whatever_comes_it_is_read(bytes in prop::collection::vec(any::<u8>(), 0..200), begins in 0usize..3) {
        let begin: &[u8] = [&b""[..], WORD, &SIGNATURE][begins];
        let _ = read(&[begin, &bytes].concat());
    }
}
