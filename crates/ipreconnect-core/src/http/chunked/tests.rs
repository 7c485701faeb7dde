use super::*;
use proptest::prelude::*;

fn read(bytes: &[u8]) -> Result<(Vec<u8>, usize, bool), ChunkError> {
    let (mut chunked, mut data) = (Chunked::default(), Vec::new());
    let used = chunked.read(bytes, |part| data.extend_from_slice(part))?;
    Ok((data, used, chunked.is_done()))
}

#[test]
fn chunks_are_put_together() {
    let text = b"5\r\nhello\r\nA;x=\"y\"\r\n0123456789\r\n0\r\n\r\nnext";
    let (data, used, done) = read(text).unwrap();
    assert_eq!(data, b"hello0123456789");
    assert!(done);
    assert_eq!(used, text.len() - 4);
}

#[test]
fn trailers_are_kept() {
    let mut chunked = Chunked::default();
    let text = b"0\r\nGrpc-Status: 0\r\nX: y\r\n\r\n";
    assert_eq!(chunked.read(text, |_| {}), Ok(text.len()));
    assert!(chunked.is_done());
    assert_eq!(chunked.trailers(), b"Grpc-Status: 0\r\nX: y\r\n");
}

#[test]
fn what_has_two_readings_is_refused() {
    use ChunkError as E;
    for (text, error) in [
        (&b"5\nhello\r\n"[..], E::Size),
        (b"5 \r\nhello", E::Size),
        (b" 5\r\nhello", E::Size),
        (b"\r\nhello", E::Size),
        (b"0x5\r\nhello", E::Size),
        (b"-5\r\n", E::Size),
        (b"+5\r\n", E::Size),
        (b"11111111111111111\r\n", E::Size),
        (b"5;a\nb\r\nhello", E::Extension),
        (b"5;a\0b\r\nhello", E::Extension),
        (b"5\rxhello", E::End),
        (b"5\r\nhelloX\r\n", E::End),
        (b"5\r\nhello\n0\r\n", E::End),
        (b"0\r\nX: y\n\r\n", E::Trailers),
        (b"0\r\nX : y\r\n\r\n", E::Trailers),
        (b"0\r\n\n", E::Trailers),
    ] {
        assert_eq!(
            read(text).unwrap_err(),
            error,
            "{:?}",
            String::from_utf8_lossy(text)
        );
    }
    let long = [b"5;", vec![b'a'; 2000].as_slice()].concat();
    assert_eq!(read(&long).unwrap_err(), E::Extension);
    let long = [b"0\r\nX: ", vec![b'a'; TRAILERS].as_slice()].concat();
    assert_eq!(read(&long).unwrap_err(), E::Trailers);
}

proptest! {
    /// However the bytes are cut, the same body comes out.
    #[test]
    fn cuts_make_no_difference(parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..6), cut in 1usize..7) {
        let mut wire = Vec::new();
        for part in &parts {
            wire.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
            wire.extend_from_slice(part);
            wire.extend_from_slice(b"\r\n");
        }
        wire.extend_from_slice(b"0\r\n\r\n");
        let (mut chunked, mut data) = (Chunked::default(), Vec::new());
        for piece in wire.chunks(cut) {
            let used = chunked.read(piece, |part| data.extend_from_slice(part)).unwrap();
            prop_assert_eq!(used, piece.len());
        }
        prop_assert!(chunked.is_done());
        prop_assert_eq!(data, parts.concat());
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = read(&bytes);
    }
}
