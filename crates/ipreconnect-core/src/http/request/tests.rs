use super::*;
use proptest::prelude::*;

fn parse(text: &str) -> Result<RequestHead, RequestError> {
    let mut head = RequestHead::default();
    match head.parse(text.as_bytes())? {
        Parsed::Whole => Ok(head),
        Parsed::Partial => panic!("{text:?} is not whole"),
    }
}

fn with(lines: &str) -> Result<RequestHead, RequestError> {
    parse(&format!("POST /x HTTP/1.1\r\nHost: a\r\n{lines}\r\n"))
}

#[test]
fn an_ordinary_request_is_read() {
    let text =
        "GET /a/b?c=d HTTP/1.1\r\nHost: shop.example:8080\r\nAccept: */*\r\nX-Y:  z  \r\n\r\nrest";
    let head = parse(text).unwrap();
    let bytes = text.as_bytes();
    assert_eq!(head.method, Method::Get);
    assert_eq!(head.target.of(bytes), b"/a/b?c=d");
    assert_eq!(head.host.span().unwrap().of(bytes), b"shop.example:8080");
    assert_eq!(head.body, Body::None);
    assert!(head.is_persistent);
    assert_eq!(head.length, text.len() - 4);
    let last = head.fields.last().unwrap();
    assert_eq!(
        (last.name.of(bytes), last.value.of(bytes)),
        (&b"X-Y"[..], &b"z"[..])
    );
}

#[test]
fn a_head_that_comes_in_pieces_is_partial_until_it_is_whole() {
    let text = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    for end in 0..text.len() {
        let parsed = RequestHead::default().parse(&text.as_bytes()[..end]);
        assert_eq!(parsed, Ok(Parsed::Partial), "{end}");
    }
}

#[test]
fn what_has_two_readings_is_refused() {
    use RequestError as E;
    for (text, error) in [
        ("GET / HTTP/1.1\nHost: a\n\n", E::BareLineFeed),
        ("GET / HTTP/1.1\r\nHost: a\n\r\n", E::BareLineFeed),
        ("GET / HTTP/1.1\r\nHost: a\r\n\n", E::BareLineFeed),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", E::FieldName),
        ("GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", E::FieldName),
        (
            "GET / HTTP/1.1\r\nHost: a\r\n\tfolded\r\n\r\n",
            E::FieldName,
        ),
        ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", E::FieldName),
        ("GET / HTTP/1.1\r\nHost: a\r\nX\0Y: 1\r\n\r\n", E::FieldName),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
            E::FieldValue,
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
            E::FieldValue,
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n",
            E::FieldName,
        ),
        ("GET / HTTP/1.1\r\n\r\n", E::Host),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", E::Host),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", E::Host),
        ("GET / HTTP/1.1\r\nHost: user@a\r\n\r\n", E::Host),
        ("GET / HTTP/1.1\r\nHost: a:8x\r\n\r\n", E::Host),
        ("GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", E::Host),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", E::Host),
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", E::RequestLine),
        ("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", E::Version),
        ("GET /\r\n\r\n", E::RequestLine),
        ("GET x HTTP/1.1\r\nHost: a\r\n\r\n", E::Target),
        ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", E::Target),
        ("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", E::Target),
        ("GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", E::Target),
        ("GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n", E::Host),
        ("GET http://u@a/x HTTP/1.1\r\nHost: a\r\n\r\n", E::Host),
        ("GET http://a?x HTTP/1.1\r\nHost: a\r\n\r\n", E::Target),
        ("GET / HTTP/1.2\r\nHost: a\r\n\r\n", E::Version),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", E::Version),
        ("CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", E::Method),
        ("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", E::Method),
    ] {
        assert_eq!(parse(text).unwrap_err(), error, "{text:?}");
    }
    assert_eq!(
        RequestHead::default().parse(b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n"),
        Err(E::RequestLine)
    );
}

#[test]
fn clients_of_a_forward_proxy_say_where_they_want_to_go() {
    use RequestError as E;
    let read = |text: &str| {
        let mut head = RequestHead::default();
        let bytes = text.as_bytes();
        let parsed = head.parse_for(Role::Forward, bytes)?;
        assert_eq!(parsed, Parsed::Whole, "{text}");
        let host = head.host.span().map_or(&b""[..], |host| host.of(bytes));
        let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok((shown(host), shown(head.target.of(bytes)), head.is_secure))
    };
    let wanted = |host: &str, target: &str, is_secure| Ok((host.into(), target.into(), is_secure));
    for (text, wanted) in [
        (
            "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
            wanted("a:443", "a:443", false),
        ),
        (
            "CONNECT [::1]:443 HTTP/1.0\r\n\r\n",
            wanted("[::1]:443", "[::1]:443", false),
        ),
        (
            "CONNECT a:443 HTTP/1.1\r\n\r\n",
            wanted("a:443", "a:443", false),
        ),
        ("CONNECT u@a:443 HTTP/1.1\r\nHost: a\r\n\r\n", Err(E::Host)),
        ("CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n", Err(E::Host)),
        (
            "CONNECT http://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
            Err(E::Host),
        ),
        (
            "CONNECT a:443#x HTTP/1.1\r\nHost: a\r\n\r\n",
            Err(E::Target),
        ),
        (
            "GET http://a/b?c HTTP/1.1\r\nHost: x\r\n\r\n",
            wanted("a", "/b?c", false),
        ),
        (
            "GET HTTP://a:81?c HTTP/1.1\r\nHost: a\r\n\r\n",
            wanted("a:81", "?c", false),
        ),
        (
            "GET http://a/100% HTTP/1.1\r\nHost: a\r\n\r\n",
            wanted("a", "/100%", false),
        ),
        (
            "GET https://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
            wanted("a", "/", true),
        ),
        ("GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", Err(E::Target)),
        (
            "GET http://u:p@a/ HTTP/1.1\r\nHost: a\r\n\r\n",
            Err(E::Host),
        ),
        ("GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n", Err(E::Host)),
        (
            "GET http://a#@b/ HTTP/1.1\r\nHost: a\r\n\r\n",
            Err(E::Target),
        ),
        (
            "GET http://a\\@b/ HTTP/1.1\r\nHost: a\r\n\r\n",
            Err(E::Host),
        ),
        ("GET http://a/ HTTP/1.1\r\n\r\n", Err(E::Host)),
        (
            "TRACE http://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
            Err(E::Method),
        ),
        (
            "GET /pac HTTP/1.1\r\nHost: proxy\r\n\r\n",
            wanted("proxy", "/pac", false),
        ),
        (
            "OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n",
            wanted("a", "", false),
        ),
    ] {
        assert_eq!(read(text), wanted, "{text:?}");
    }
}

#[test]
fn the_body_has_one_length() {
    use RequestError as E;
    assert_eq!(with("Content-Length: 5\r\n").unwrap().body, Body::Length(5));
    assert_eq!(
        with("Transfer-Encoding: Chunked\r\n").unwrap().body,
        Body::Chunked
    );
    assert_eq!(with("Content-Length: 0\r\n").unwrap().body, Body::None);
    for (lines, error) in [
        (
            "Content-Length: 5\r\nContent-Length: 5\r\n",
            E::ContentLength,
        ),
        ("Content-Length: 5, 5\r\n", E::ContentLength),
        ("Content-Length: +5\r\n", E::ContentLength),
        ("Content-Length: -1\r\n", E::ContentLength),
        ("Content-Length: 5 5\r\n", E::ContentLength),
        ("Content-Length: 0x5\r\n", E::ContentLength),
        ("Content-Length:\r\n", E::ContentLength),
        ("Content-Length: 99999999999999999999\r\n", E::ContentLength),
        (
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            E::TransferEncoding,
        ),
        (
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            E::TransferEncoding,
        ),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            E::TransferEncoding,
        ),
        (
            "Transfer-Encoding: chunked, chunked\r\n",
            E::TransferEncoding,
        ),
        ("Transfer-Encoding: chunked, gzip\r\n", E::TransferEncoding),
        ("Transfer-Encoding: identity\r\n", E::TransferEncoding),
        ("Transfer-Encoding: \x0bchunked\r\n", E::FieldValue),
        ("Transfer-Encoding: xchunked\r\n", E::TransferEncoding),
        ("Transfer-Encoding: gzip, chunked\r\n", E::UnknownCoding),
        ("Transfer-Encoding : chunked\r\n", E::FieldName),
        ("Transfer-Encoding: chun\r\n ked\r\n", E::FieldName),
    ] {
        assert_eq!(with(lines).unwrap_err(), error, "{lines:?}");
    }
    let old = parse("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert_eq!(old.unwrap_err(), E::TransferEncoding);
}

#[test]
fn what_is_for_one_hop_is_marked() {
    let text = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close, X-Secret, Host, Content-Length\r\nX-Secret: 1\r\nKeep-Alive: timeout=1\r\nTE: trailers\r\nX-Open: 2\r\nContent-Length: 3\r\n\r\n";
    let head = parse(text).unwrap();
    let passed: Vec<&[u8]> = head
        .fields
        .iter()
        .filter(|field| !field.is_hop)
        .map(|field| field.name.of(text.as_bytes()))
        .collect();
    assert_eq!(passed, [&b"Host"[..], b"X-Open", b"Content-Length"]);
    assert!(!head.is_persistent);
    assert!(head.takes_trailers);
}

#[test]
fn old_clients_close_unless_they_ask_not_to() {
    assert!(!parse("GET / HTTP/1.0\r\n\r\n").unwrap().is_persistent);
    let kept = parse("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n");
    assert!(kept.unwrap().is_persistent);
}

#[test]
fn an_absolute_target_names_the_host() {
    let text = "GET HTTP://b.example:81/x?y HTTP/1.1\r\nHost: a\r\n\r\n";
    let head = parse(text).unwrap();
    assert_eq!(head.target.of(text.as_bytes()), b"/x?y");
    assert_eq!(
        head.host.span().unwrap().of(text.as_bytes()),
        b"b.example:81"
    );
    let text = "OPTIONS http://b HTTP/1.1\r\nHost: a\r\n\r\n";
    assert!(parse(text).unwrap().target.is_empty());
}

#[test]
fn upgrades_need_both_fields() {
    let head = with("Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n").unwrap();
    assert!(head.upgrade.is_some());
    assert!(with("Upgrade: websocket\r\n").unwrap().upgrade.is_none());
}

#[test]
fn there_is_one_expectation() {
    assert!(
        with("Expect: 100-Continue\r\nContent-Length: 1\r\n")
            .unwrap()
            .expects_continue
    );
    assert_eq!(
        with("Expect: gold\r\n").unwrap_err(),
        RequestError::Expectation
    );
}

#[test]
fn there_is_a_bound_on_fields() {
    let lines: String = (0..FIELDS).map(|n| format!("X-{n}: 1\r\n")).collect();
    assert_eq!(with(&lines).unwrap_err(), RequestError::TooManyFields);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = RequestHead::default().parse(&bytes);
    }

    /// Whatever is accepted keeps to the one reading.
    #[test]
    fn what_is_accepted_is_strict(lines in proptest::collection::vec(
        prop_oneof![
            Just("Content-Length: 3"), Just("Transfer-Encoding: chunked"), Just("Host: a"),
            Just("Connection: close"), Just("X: y"), Just(" folded"), Just("A : b"), Just("Expect: 100-continue"),
        ], 0..6), ends in proptest::collection::vec(prop_oneof![4 => Just("\r\n"), 1 => Just("\n")], 8)) {
        let mut text = String::from("POST / HTTP/1.1");
        let mut ends = ends.iter().cycle();
        for line in &lines {
            text.push_str(ends.next().unwrap());
            text.push_str(line);
        }
        text.push_str(ends.next().unwrap());
        text.push_str(ends.next().unwrap());
        let mut head = RequestHead::default();
        if head.parse(text.as_bytes()) == Ok(Parsed::Whole) {
            let count = |what: &str| lines.iter().filter(|line| **line == what).count();
            let (lengths, codings) = (count("Content-Length: 3"), count("Transfer-Encoding: chunked"));
            prop_assert!(lengths + codings <= 1);
            prop_assert_eq!(count("Host: a"), 1);
            prop_assert_eq!(count(" folded") + count("A : b"), 0);
            prop_assert!(!text.replace("\r\n", "").contains('\n'));
        }
    }
}
