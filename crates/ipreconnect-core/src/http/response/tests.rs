use super::*;

fn parse(text: &str) -> Result<ResponseHead, ResponseError> {
    let mut head = ResponseHead::default();
    match head.parse(text.as_bytes())? {
        Parsed::Whole => Ok(head),
        Parsed::Partial => panic!("{text:?} is not whole"),
    }
}

#[test]
fn the_body_is_as_long_as_the_fields_say() {
    let body = |lines: &str, method| {
        let head = parse(&format!("HTTP/1.1 200 OK\r\n{lines}\r\n")).unwrap();
        head.body(method)
    };
    assert_eq!(
        body("Content-Length: 5\r\n", Method::Get),
        ResponseBody::Length(5)
    );
    assert_eq!(
        body("Content-Length: 5\r\nContent-Length: 5\r\n", Method::Get),
        ResponseBody::Length(5)
    );
    assert_eq!(
        body("Content-Length: 5\r\n", Method::Head),
        ResponseBody::None
    );
    assert_eq!(
        body("Transfer-Encoding: chunked\r\n", Method::Get),
        ResponseBody::Chunked
    );
    assert_eq!(body("", Method::Get), ResponseBody::UntilClose);
    for status in ["204 No Content", "304 Not Modified", "100 Continue"] {
        let head = parse(&format!("HTTP/1.1 {status}\r\nContent-Length: 9\r\n\r\n")).unwrap();
        assert_eq!(head.body(Method::Get), ResponseBody::None);
    }
}

#[test]
fn a_status_line_may_lack_its_words() {
    for line in ["HTTP/1.1 200", "HTTP/1.1 200 ", "HTTP/1.1 200 OK"] {
        assert_eq!(
            parse(&format!("{line}\r\n\r\n")).unwrap().status,
            200,
            "{line}"
        );
    }
}

#[test]
fn what_has_two_readings_is_refused() {
    use ResponseError as E;
    for (text, error) in [
        ("HTTP/1.1 200 OK\n\n", E::BareLineFeed),
        ("ICY 200 OK\r\n\r\n", E::StatusLine),
        ("HTTP/1.1 99 No\r\n\r\n", E::StatusLine),
        ("HTTP/1.1 600 No\r\n\r\n", E::StatusLine),
        ("HTTP/1.1 200 OK\r\nA : b\r\n\r\n", E::Field),
        ("HTTP/1.1 200 OK\r\nA: b\r\n folded\r\n\r\n", E::Field),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            E::Length,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            E::Length,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            E::UnknownCoding,
        ),
    ] {
        assert_eq!(parse(text).unwrap_err(), error, "{text:?}");
    }
}

#[test]
fn the_server_says_how_long_it_keeps_a_connection() {
    let head = parse("HTTP/1.1 200 OK\r\nKeep-Alive: timeout=5, max=100\r\n\r\n").unwrap();
    assert_eq!(head.keeps_for, Some(Duration::from_secs(5)));
    assert!(head.is_persistent);
    let head = parse("HTTP/1.0 200 OK\r\nKeep-Alive: max=100\r\n\r\n").unwrap();
    assert_eq!(head.keeps_for, None);
    assert!(!head.is_persistent);
}
