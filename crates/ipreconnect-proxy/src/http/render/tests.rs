use super::*;
use crate::http::{Chain, Forwarding};
use ipreconnect::core::http::{Method, Parsed};

fn told(forwarding: &Forwarding) -> Told<'_> {
    let peer = "192.0.2.1";
    Told::new(forwarding, Some(peer.parse().unwrap()), peer, "https")
}

fn passed(text: &str, host: &AskedHost) -> String {
    let mut head = RequestHead::default();
    assert_eq!(head.parse(text.as_bytes()), Ok(Parsed::Whole));
    let mut out = Vec::new();
    let forwarding = Forwarding::default();
    let told = told(&forwarding);
    let rewrite = Rewrite::default();
    request(
        &mut out,
        text.as_bytes(),
        &head,
        host,
        &rewrite,
        &told,
        None,
    );
    String::from_utf8(out).unwrap()
}

fn answered(text: &str, method: Method, client: Version, onward: Onward) -> String {
    let mut head = ResponseHead::default();
    assert_eq!(head.parse(text.as_bytes()), Ok(Parsed::Whole));
    let mut out = Vec::new();
    let body = head.body(method);
    let rules = FieldRules {
        set: vec![("x-set".into(), "1".into())],
        remove: vec!["x-gone".into()],
    };
    let asked = match client {
        Version::Http10 => "GET / HTTP/1.0\r\nHost: shop\r\n\r\n",
        Version::Http11 => "GET / HTTP/1.1\r\nHost: shop\r\n\r\n",
    };
    let mut request = RequestHead::default();
    assert_eq!(request.parse(asked.as_bytes()), Ok(Parsed::Whole));
    let lead = Lead {
        head: &head,
        text: text.as_bytes(),
        body,
        rules: &rules,
        origin: [b"", b"10.0.0.7:80"],
        scheme: "https",
        asked: &request,
        cookie: None,
        compressed: None,
        varies: false,
        is_through: false,
        told: &[],
        onward,
    };
    response(&mut out, &lead, asked.as_bytes());
    let text = String::from_utf8(out).unwrap();
    let lines = text.split_inclusive("\r\n");
    lines.filter(|line| !line.starts_with("Date: ")).collect()
}

#[test]
fn what_is_for_the_next_hop_stays_here() {
    let text = "POST http://shop/x?y HTTP/1.1\r\nHost: other\r\nAccept: a\r\nX-Forwarded-For: 6.6.6.6\r\nConnection: x-hop\r\nX-Hop: 1\r\nB: c  \r\nTransfer-Encoding: chunked\r\nD: e\r\n\r\n";
    assert_eq!(
        passed(text, &AskedHost::Client),
        "POST /x?y HTTP/1.1\r\nHost: shop\r\nAccept: a\r\nB: c  \r\nD: e\r\nX-Forwarded-For: 192.0.2.1\r\nX-Real-IP: 192.0.2.1\r\nX-Forwarded-Proto: https\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
}

#[test]
fn the_origin_may_be_asked_for_another_host() {
    let text =
        "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    let host = AskedHost::Fixed("api.example".into());
    assert_eq!(
        passed(text, &host),
        "GET / HTTP/1.1\r\nHost: api.example\r\nX-Forwarded-For: 192.0.2.1\r\nX-Real-IP: 192.0.2.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: localhost\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
    );
}

#[test]
fn answers_lose_what_tells_of_the_origin() {
    let text = "HTTP/1.0 200 Fine\r\nServer: nginx/1.31\r\nA: b\r\nKeep-Alive: timeout=5\r\nContent-Length: 3\r\n\r\n";
    assert_eq!(
        answered(text, Method::Get, Version::Http11, Onward::Kept),
        "HTTP/1.1 200 Fine\r\nA: b\r\nContent-Length: 3\r\nx-set: 1\r\n\r\n"
    );
}

#[test]
fn bodies_are_coded_as_the_client_can_read_them() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let open = "HTTP/1.1 200 OK\r\n\r\n";
    let (new, old) = (Version::Http11, Version::Http10);
    for (text, client, onward, coded) in [
        (chunked, new, Onward::Kept, "Transfer-Encoding: chunked\r\n"),
        (chunked, old, Onward::Closed, "Connection: close\r\n"),
        (open, new, Onward::Kept, "Transfer-Encoding: chunked\r\n"),
        (open, old, Onward::Closed, "Connection: close\r\n"),
    ] {
        let wanted = format!("HTTP/1.1 200 OK\r\nx-set: 1\r\n{coded}\r\n");
        assert_eq!(answered(text, Method::Get, client, onward), wanted);
    }
    let head = answered(chunked, Method::Head, new, Onward::Kept);
    assert_eq!(head, "HTTP/1.1 200 OK\r\nx-set: 1\r\n\r\n");
}

#[test]
fn redirects_lead_back_here() {
    let redirected = |location: &str| {
        let text =
            format!("HTTP/1.1 302 Found\r\nX-Gone: 1\r\nLocation: {location}\r\nX-Set: 0\r\n\r\n");
        let answer = answered(&text, Method::Head, Version::Http11, Onward::Kept);
        assert!(
            !answer.contains("X-Gone") && !answer.contains("X-Set: 0"),
            "{answer}"
        );
        let line = answer
            .lines()
            .find(|line| line.starts_with("Location"))
            .unwrap();
        line.trim_start_matches("Location: ").to_owned()
    };
    assert_eq!(
        redirected("http://10.0.0.7:80/login?x"),
        "https://shop/login?x"
    );
    assert_eq!(redirected("http://10.0.0.7:80"), "https://shop");
    for location in [
        "/login",
        "http://elsewhere/",
        "http://shop/x",
        "http://10.0.0.7:81/",
    ] {
        assert_eq!(redirected(location), location);
    }
}

#[test]
fn what_is_told_of_the_client_is_told_as_it_was_asked_for() {
    let text = "GET / HTTP/1.1\r\nHost: shop\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: gopher\r\nForwarded: for=6.6.6.6\r\n\r\n";
    let mut head = RequestHead::default();
    assert_eq!(head.parse(text.as_bytes()), Ok(Parsed::Whole));
    let lines = |forwarding: &Forwarding| {
        let mut out = Vec::new();
        let (host, rewrite) = (AskedHost::Client, Rewrite::default());
        request(
            &mut out,
            text.as_bytes(),
            &head,
            &host,
            &rewrite,
            &told(forwarding),
            None,
        );
        let text = String::from_utf8(out).unwrap();
        let head = text
            .trim_end()
            .split_once("\r\nHost: shop")
            .unwrap()
            .1
            .to_owned();
        head.replace("\r\n", "|")
    };
    let trust: Vec<ipnet::IpNet> = vec!["192.0.2.1/32".parse().unwrap()];
    let with = |chain, trust: &[ipnet::IpNet], standard| Forwarding {
        trust: trust.to_vec(),
        chain,
        standard,
    };
    for (forwarding, wanted) in [
        (
            with(Chain::Replaced, &[], true),
            "|X-Forwarded-For: 192.0.2.1|X-Real-IP: 192.0.2.1|X-Forwarded-Proto: https|Forwarded: for=192.0.2.1;proto=https;host=\"shop\"",
        ),
        (
            with(Chain::Replaced, &trust, false),
            "|X-Forwarded-Proto: gopher|X-Forwarded-For: 6.6.6.6|X-Real-IP: 6.6.6.6",
        ),
        (
            with(Chain::Appended, &trust, false),
            "|X-Forwarded-For: 6.6.6.6|X-Forwarded-Proto: gopher|X-Forwarded-For: 192.0.2.1|X-Real-IP: 6.6.6.6",
        ),
        (
            with(Chain::Appended, &[], false),
            "|X-Forwarded-For: 6.6.6.6|X-Forwarded-For: 192.0.2.1|X-Real-IP: 192.0.2.1|X-Forwarded-Proto: https",
        ),
        (with(Chain::Deleted, &trust, true), ""),
        (
            with(Chain::Untouched, &[], true),
            "|X-Forwarded-For: 6.6.6.6|X-Forwarded-Proto: gopher|Forwarded: for=6.6.6.6",
        ),
    ] {
        assert_eq!(lines(&forwarding), wanted, "{forwarding:?}");
    }
}
