use super::*;

#[test]
fn bytes_are_shown_with_their_text() {
    assert_eq!(
        hex(b"PING\r\n\x00\xff and more bytes"),
        [
            "0000  50 49 4e 47 0d 0a 00 ff 20 61 6e 64 20 6d 6f 72  PING.... and mor",
            "0010  65 20 62 79 74 65 73                             e bytes",
        ]
    );
}

#[test]
fn secrets_of_heads_are_masked() {
    let head = b"GET /a?user=x&access_token=hush&y HTTP/1.1\r\nHost: shop\r\nAuthorization: Bearer hush\r\n\
                 Cookie: sid=hush; theme=hush\r\nX-Api-Key: hush\r\nX-Odd: \x1b[2J\r\n\r\n";
    let lines = masked(head);
    assert_eq!(
        lines,
        [
            "GET /a?user=x&access_token=•••&y HTTP/1.1",
            "Host: shop",
            "Authorization: Bearer ••• (11 bytes)",
            "Cookie: sid=•••; theme=•••",
            "X-Api-Key: ••• (4 bytes)",
            "X-Odd: \\u{1b}[2J",
        ]
    );
    let lines = masked(b"HTTP/1.1 200 OK\r\nSet-Cookie: sid=hush; Path=/; Secure\r\n\r\n");
    assert_eq!(lines[1], "Set-Cookie: sid=•••; Path=/; Secure");
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    [&[kind][..], &length, body].concat()
}

#[test]
fn what_a_client_says_is_told_and_its_secrets_are_not() {
    let mut reader = Reader::new(Side::Frontend);
    let mut all = message(b'Q', b"ALTER ROLE app PASSWORD 'hush' VALID UNTIL 'x'\0");
    all.extend(message(b'P', b"s1\0SELECT $1\0\0\0"));
    all.extend(message(
        b'B',
        b"\0s1\0\0\0\0\x02\0\0\0\x04hush\xff\xff\xff\xff\0\0",
    ));
    all.extend(message(b'p', b"hush\0"));
    let mut told = Vec::new();
    // However it comes.
    for byte in &all {
        told.extend(reader.read(&[*byte], 1));
    }
    assert_eq!(
        told,
        [
            "Query  ALTER ROLE app PASSWORD '•••' VALID UNTIL 'x'",
            "Parse s1 SELECT $1",
            "Bind (unnamed) of s1, values: [4 bytes, NULL]",
            "authentication ••• (9 bytes)",
        ]
    );
    let whole = Reader::new(Side::Frontend).read(&all, all.len());
    assert_eq!(whole, told);
}

#[test]
fn what_a_server_says_is_told_and_rows_are_counted() {
    let mut reader = Reader::new(Side::Backend);
    let mut all = message(b'T', b"\0\x01name\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    for _ in 0..3 {
        all.extend(message(b'D', b"\0\x01\0\0\0\x04hush"));
    }
    all.extend(message(b'C', b"SELECT 3\0"));
    all.extend(message(b'E', b"SERROR\0C42P01\0Mno such table\0\0"));
    all.extend(message(b'K', b"\0\0\0\x07hush"));
    all.extend(message(b'Z', b"I"));
    let told = reader.read(&all, all.len());
    assert_eq!(
        told,
        [
            "RowDescription: name",
            "DataRow × 3 (42 bytes)",
            "CommandComplete SELECT 3",
            "ErrorResponse: ERROR 42P01: no such table",
            "BackendKeyData, process 7, key •••",
            "ReadyForQuery, idle",
        ]
    );
}

#[test]
fn whoever_listens_in_the_middle_finds_the_next_message() {
    let mut reader = Reader::new(Side::Backend);
    let told = reader.read(b"\x07\x08garbage", 9);
    assert!(told[0].contains("in the middle"), "{told:?}");
    let told = reader.read(&message(b'Z', b"T"), 6);
    assert_eq!(told, ["ReadyForQuery, in a transaction"]);
    // A long one is not kept, and what follows it is found.
    let long = message(b'd', &vec![b'x'; 1_000_000]);
    let mut told = Vec::new();
    for part in long.chunks(10_000) {
        told.extend(reader.read(part, part.len()));
        assert!(reader.kept() <= 300_000);
    }
    told.extend(reader.read(&message(b'c', b""), 5));
    assert_eq!(told, ["CopyData (1000004 bytes)", "CopyDone"]);
}

#[test]
fn nothing_that_is_said_ends_it() {
    let mut dice = crate::dice::Dice::new(7);
    for _ in 0..20_000 {
        let mut bytes = vec![0_u8; usize::try_from(dice.below(64)).unwrap()];
        for byte in &mut bytes {
            *byte = match dice.below(4) {
                0 => 0,
                1 => b"QPBDCESHRTKZ"[usize::try_from(dice.below(12)).unwrap()],
                _ => u8::try_from(dice.below(256)).unwrap(),
            };
        }
        let side = if dice.below(2) == 0 {
            Side::Frontend
        } else {
            Side::Backend
        };
        Reader::new(side).read(&bytes, bytes.len());
        assert!(masked(&bytes).len() <= bytes.len());
        assert_eq!(hex(&bytes).len(), bytes.len().div_ceil(LINE));
    }
}
