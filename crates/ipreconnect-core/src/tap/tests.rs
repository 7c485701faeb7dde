use super::postgres::WHOLE;
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
    for (field, wanted) in [
        (
            "Referer: https://x/?token=hush&a=b",
            "Referer: https://x/?token=•••&a=b",
        ),
        (
            "Location: https://x/cb?code=hush#access_token=hush",
            "Location: https://x/cb?code=•••#access_token=•••",
        ),
        (
            "Referer: https://x/?%74oken=hush",
            "Referer: https://x/?%74oken=•••",
        ),
        ("Cookie: hush; a=hush", "Cookie: •••; a=•••"),
        ("Set-Cookie: hush; Path=/", "Set-Cookie: •••; Path=/"),
        ("Authorization: hush hush", "Authorization: ••• (9 bytes)"),
        ("X-Auth-Key: hush", "X-Auth-Key: ••• (4 bytes)"),
        ("Accept: text/html", "Accept: text/html"),
    ] {
        assert_eq!(
            masked(format!("GET / HTTP/1.1\r\n{field}\r\n").as_bytes())[1],
            wanted
        );
    }
    let lines = masked(b"HTTP/1.1 200 OK\r\nSet-Cookie: sid=hush; Path=/; Secure\r\n\r\n");
    assert_eq!(lines[1], "Set-Cookie: sid=•••; Path=/; Secure");
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    [&[kind][..], &length, body].concat()
}

/// A reader that knows where it is.
fn in_step(side: Side) -> Reader {
    let mut reader = Reader::new(side);
    let (kind, body) = match side {
        Side::Frontend => (b'S', &b""[..]),
        Side::Backend => (b'Z', &b"I"[..]),
    };
    assert_eq!(reader.read(&message(kind, body)).len(), 1);
    reader
}

#[test]
fn what_a_client_says_is_told_and_its_secrets_are_not() {
    let mut all = message(b'P', b"s1\0SELECT $1\0\0\0");
    all.extend(message(
        b'B',
        b"\0s1\0\0\0\0\x02\0\0\0\x04hush\xff\xff\xff\xff\0\0",
    ));
    all.extend(message(b'p', b"hush\0"));
    let (mut told, mut reader) = (Vec::new(), in_step(Side::Frontend));
    // However it comes.
    for byte in &all {
        told.extend(reader.read(&[*byte]));
    }
    assert_eq!(
        told,
        [
            "Parse s1 SELECT $1",
            "Bind (unnamed) of s1, values: [4 bytes, NULL]",
            "authentication ••• (9 bytes)",
        ]
    );
    assert_eq!(in_step(Side::Frontend).read(&all), told);
}

#[test]
fn passwords_in_queries_are_masked_however_they_are_written() {
    for text in [
        "ALTER ROLE app PASSWORD 'hush'",
        "ALTER ROLE app PASSWORD 'it''s hush'",
        "ALTER ROLE app PASSWORD E'it\\'s hush'",
        "ALTER ROLE app PASSWORD $$hush$$",
        "ALTER ROLE app PASSWORD $t$hush$t$ VALID UNTIL 'x'",
        "ALTER ROLE app PASSWORD\r\n    'hush'",
        "ALTER ROLE app PASSWORD/**/'hush'",
        "SELECT set(password => 'hush')",
        "INSERT INTO u (name, password) VALUES ('bob', 'hush')",
        "SELECT crypt('hush', gen_salt('bf'))",
        "CREATE SUBSCRIPTION s CONNECTION 'host=h password=hush' PUBLICATION p",
        "ALTER ROLE app PASSWORD 'hush",
    ] {
        let told = in_step(Side::Frontend).read(&message(b'Q', format!("{text}\0").as_bytes()));
        assert!(
            told[0].contains("'•••'") && !told[0].contains("hush"),
            "{text}: {told:?}"
        );
    }
    let told = in_step(Side::Frontend).read(&message(
        b'Q',
        b"SELECT * FROM t WHERE a = 'x' AND b = $1\0",
    ));
    assert_eq!(told, ["Query  SELECT * FROM t WHERE a = 'x' AND b = $1"]);
    let error = message(
        b'E',
        b"SERROR\0C22P02\0Minvalid input syntax for type integer: \"hush\"\0\0",
    );
    let told = in_step(Side::Backend).read(&error);
    assert_eq!(
        told,
        ["ErrorResponse: ERROR 22P02: invalid input syntax for type integer: \"•••\""]
    );
}

#[test]
fn what_a_server_says_is_told_and_rows_are_counted() {
    let mut reader = in_step(Side::Backend);
    let mut all = message(b'T', b"\0\x01name\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    for _ in 0..3 {
        all.extend(message(b'D', b"\0\x01\0\0\0\x04hush"));
    }
    all.extend(message(b'C', b"SELECT 3\0"));
    all.extend(message(b'E', b"SERROR\0C42P01\0Mno such table\0\0"));
    all.extend(message(b'K', b"\0\0\0\x07hush"));
    all.extend(message(b'Z', b"I"));
    let told = reader.read(&all);
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
fn whoever_listens_in_the_middle_waits_for_the_next_message() {
    let mut reader = Reader::new(Side::Backend);
    // Data that looks like the beginning of a message.
    for data in [
        &b"C 100 rows of anybody's data"[..],
        b"f 12",
        b"d more",
        b"Z\0\0\0\x05",
    ] {
        assert_eq!(reader.read(data), Vec::<String>::new());
    }
    let ready = message(b'Z', b"T");
    let wanted = ["ReadyForQuery, in a transaction"];
    assert_eq!(reader.read(&ready), wanted);
    reader.loses_step();
    assert_eq!(reader.read(b"C 100 rows"), Vec::<String>::new());
    assert_eq!(reader.read(&ready), wanted);
    // What cannot be is told once, and what follows it found.
    let told = reader.read(b"C 100 rows of anybody's data");
    assert!(
        told.len() == 1 && told[0].contains("not understood"),
        "{told:?}"
    );
    assert_eq!(reader.read(&ready), wanted);
    // A long one is not kept, and what follows it is found.
    let long = message(b'd', &vec![b'x'; 1_000_000]);
    let mut told = Vec::new();
    for part in long.chunks(10_000) {
        told.extend(reader.read(part));
        assert!(reader.kept() <= WHOLE + 10_000);
    }
    told.extend(reader.read(&message(b'c', b"")));
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
        in_step(side).read(&bytes);
        assert!(masked(&bytes).len() <= bytes.len());
        assert_eq!(hex(&bytes).len(), bytes.len().div_ceil(LINE));
    }
}
