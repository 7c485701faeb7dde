use proptest::prelude::*;

use super::*;

/// A ClientHello with these extensions, as one message without record headers.
fn hello(extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0x13, 0x01, 1, 0]);
    let mut all = Vec::new();
    for (kind, value) in extensions {
        all.extend(kind.to_be_bytes());
        all.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
        all.extend(value);
    }
    body.extend(u16::try_from(all.len()).unwrap().to_be_bytes());
    body.extend(all);
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    let mut message = vec![CLIENT_HELLO, length[1], length[2], length[3]];
    message.extend(body);
    message
}

fn named(name: &str) -> Vec<u8> {
    let length = u16::try_from(name.len()).unwrap();
    let mut value = (length + 3).to_be_bytes().to_vec();
    value.push(HOST_NAME);
    value.extend(length.to_be_bytes());
    value.extend(name.as_bytes());
    hello(&[(43, vec![2, 3, 4]), (SERVER_NAME, value)])
}

/// The message in records of so many bytes.
fn records(message: &[u8], size: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for fragment in message.chunks(size) {
        bytes.extend([HANDSHAKE, 3, 1]);
        bytes.extend(u16::try_from(fragment.len()).unwrap().to_be_bytes());
        bytes.extend(fragment);
    }
    bytes
}

#[test]
fn the_name_is_read_however_the_hello_is_cut() {
    let message = named("Shop.Example.");
    let wanted = Hello::Tls(ClientHello {
        name: Some("shop.example".to_owned()),
        protocols: Vec::new(),
    });
    for size in [1, 2, 3, 7, 50, 4000] {
        let bytes = records(&message, size);
        assert_eq!(read(&bytes), wanted, "records of {size} bytes");
        for end in 0..bytes.len() {
            assert_eq!(read(&bytes[..end]), Hello::More, "{end} bytes of {size}");
        }
    }
}

#[test]
fn a_hello_without_a_name_is_one() {
    let wanted = Hello::Tls(ClientHello::default());
    assert_eq!(read(&records(&hello(&[]), 4000)), wanted);
}

#[test]
fn the_protocols_that_are_offered_are_read() {
    let offered = |list: &[u8]| read(&records(&hello(&[(PROTOCOLS, list.to_vec())]), 4000));
    let wanted = Hello::Tls(ClientHello {
        name: None,
        protocols: vec![b"h2".to_vec(), b"http/1.1".to_vec()],
    });
    assert_eq!(offered(b"\0\x0c\x02h2\x08http/1.1"), wanted);
    for broken in [
        &b""[..],
        b"\0\0",
        b"\0\x01\0",
        b"\0\x03\x05h2",
        b"\0\x04\x02h2",
    ] {
        assert_eq!(offered(broken), Hello::Broken, "{broken:?}");
    }
}

#[test]
fn what_is_not_tls_is_told_at_its_first_byte() {
    for text in ["GET / HTTP/1.1\r\n", "\0\0\0\u{8}", "SSH-2.0-x\r\n"] {
        assert_eq!(read(text.as_bytes()), Hello::NotTls, "{text:?}");
    }
    assert_eq!(read(&[HANDSHAKE, 2]), Hello::NotTls);
    assert_eq!(read(&[]), Hello::More);
}

#[test]
fn what_is_broken_is_not_waited_for() {
    let huge = [HANDSHAKE, 3, 1, 0x40, 0, CLIENT_HELLO, 0xff, 0xff, 0xff];
    assert_eq!(read(&huge), Hello::Broken);
    let empty_record = [HANDSHAKE, 3, 1, 0, 0];
    assert_eq!(read(&empty_record), Hello::Broken);
    let server_hello = [HANDSHAKE, 3, 1, 0, 40, 2];
    assert_eq!(read(&server_hello), Hello::Broken);
    for name in ["", "a b", "a\0b", "ex/ample", &"a".repeat(300)] {
        assert_eq!(
            read(&records(&named(name), 4000)),
            Hello::Broken,
            "{name:?}"
        );
    }
    let twice = {
        let one = (SERVER_NAME, vec![0, 4, 0, 0, 1, b'a']);
        records(&hello(&[one.clone(), one]), 4000)
    };
    assert_eq!(read(&twice), Hello::Broken);
    let trickled = records(&[CLIENT_HELLO], 1);
    assert_eq!(read(&trickled), Hello::More);
}

proptest! {
    #[test]
    fn nothing_is_too_odd(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = read(&bytes);
        let mut framed = vec![HANDSHAKE, 3, 1, 1, 0];
        framed.extend(&bytes);
        let _ = read(&framed);
    }

    #[test]
    fn one_changed_byte_never_takes_it_beyond_its_end(at in 0usize..90, to: u8) {
        let mut bytes = records(&named("shop.example"), 4000);
        if let Some(byte) = bytes.get_mut(at) {
            *byte = to;
        }
        if let Hello::Tls(ClientHello { name: Some(name), .. }) = read(&bytes) {
            prop_assert!(name.len() <= NAME);
        }
    }
}
