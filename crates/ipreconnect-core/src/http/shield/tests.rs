use super::*;
use crate::http::Parsed;

fn judge(shield: &Shield, lines: &str) -> Result<(), Foreign> {
    let text = format!("{}\r\n\r\n", lines.replace('\n', "\r\n"));
    let mut head = RequestHead::default();
    let parsed = head.parse(text.as_bytes());
    assert_eq!(parsed, Ok(Parsed::Whole), "{text}");
    shield.judge(&head, text.as_bytes(), false)
}

fn shield() -> Shield {
    let origin = |text| WebOrigin::new(text).expect("an origin");
    let origins = [
        "https://app.example.com",
        "https://*.tools.example:8443",
        "chrome-extension://abcdef",
    ];
    Shield::new(
        vec![HostRule::exact("shop.test")],
        origins.map(origin).to_vec(),
    )
}

#[test]
fn names_that_lead_here_are_addresses_localhost_and_those_that_are_named() {
    let host = |host: &str| judge(&shield(), &format!("GET / HTTP/1.1\nHost: {host}"));
    for ours in [
        "127.0.0.1:62893",
        "127.0.0.1",
        "[::1]:80",
        "[::1]",
        "localhost",
        "LocalHost:8080",
        "localhost.",
        "shop.localhost:1",
        "192.0.2.7:8080",
        "shop.test",
        "SHOP.TEST:99",
        "app.example.com",
        "a.tools.example",
        "",
    ] {
        assert_eq!(host(ours), Ok(()), "{ours}");
    }
    for foreign in [
        "evil.example:62893",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "xlocalhost",
        "a.shop.test",
        "tools.example",
        "0.0.0.0:8080",
        "[::]:8080",
        "2130706433",
        "0x7f.0.0.1",
        "127.1",
    ] {
        assert_eq!(host(foreign), Err(Foreign::Host), "{foreign}");
    }
    assert_eq!(judge(&shield(), "GET / HTTP/1.0"), Ok(()));
    assert_eq!(
        judge(
            &shield(),
            "GET http://evil.example/ HTTP/1.1\nHost: localhost"
        ),
        Err(Foreign::Host),
        "the target counts more"
    );
}

#[test]
fn pages_come_from_here_from_this_machine_or_from_where_it_is_said() {
    let from = |origin: &str| {
        let lines = format!("POST / HTTP/1.1\nHost: shop.test:8080\nOrigin: {origin}");
        judge(&shield(), &lines)
    };
    for friend in [
        "http://shop.test:8080",
        "http://SHOP.test:8080",
        "http://localhost:3000",
        "http://127.0.0.1:9",
        "https://[::1]:5",
        "http://a.localhost",
        "https://app.example.com",
        "https://x.tools.example:8443",
        "chrome-extension://abcdef",
    ] {
        assert_eq!(from(friend), Ok(()), "{friend}");
    }
    for foreign in [
        "null",
        "",
        "http://shop.test",
        "http://shop.test:80",
        "http://evil.example",
        "http://app.example.com",
        "https://app.example.com:444",
        "https://tools.example:8443",
        "https://app.example.com.evil.example",
        "chrome-extension://other",
        "file://",
        "http://localhost.evil.example",
        "http://evil.example:8080",
        "ws://localhost",
        "http://localhost@evil.example",
    ] {
        assert_eq!(from(foreign), Err(Foreign::Origin), "{foreign}");
    }
    let two =
        "POST / HTTP/1.1\nHost: localhost\nOrigin: http://localhost\nOrigin: http://evil.example";
    assert_eq!(judge(&shield(), two), Err(Foreign::Origin));
}

#[test]
fn what_another_site_sends_is_let_in_only_where_it_leads_here() {
    let sent = |method: &str, more: &str| {
        judge(
            &shield(),
            &format!("{method} / HTTP/1.1\nHost: localhost:8080\n{more}"),
        )
    };
    for fine in [
        "Sec-Fetch-Site: same-origin",
        "Sec-Fetch-Site: none",
        "Sec-Fetch-Site: same-site",
        "Sec-Fetch-Site: cross-site\nSec-Fetch-Mode: navigate\nSec-Fetch-Dest: document",
        "Sec-Fetch-Site: cross-site\nOrigin: https://app.example.com",
        "Sec-Fetch-Site: cross-site\nOrigin: http://127.0.0.1:3000",
        "Sec-Fetch-Site: cross-site\nReferer: http://127.0.0.1:3000/?a=b",
        "Referer: https://app.example.com\nSec-Fetch-Site: cross-site\nSec-Fetch-Mode: no-cors",
    ] {
        assert_eq!(sent("GET", fine), Ok(()), "{fine}");
    }
    for foreign in [
        "Sec-Fetch-Site: cross-site",
        "Sec-Fetch-Site: else",
        "Sec-Fetch-Site: same-origin\nSec-Fetch-Site: cross-site",
        "Sec-Fetch-Site: cross-site\nSec-Fetch-Mode: no-cors\nSec-Fetch-Dest: image",
        "Sec-Fetch-Site: cross-site\nSec-Fetch-Mode: navigate\nSec-Fetch-Dest: iframe",
        "Sec-Fetch-Site: cross-site\nReferer: https://evil.example/http://127.0.0.1:3000",
        "Sec-Fetch-Site: cross-site\nReferer: https://app.example.com.evil.example/",
        "Sec-Fetch-Site: cross-site\nReferer: https://app.example.com@evil.example/",
        "Sec-Fetch-Site: cross-site\nReferer: http://evil.example?://localhost/",
        "Sec-Fetch-Site: cross-site\nReferer: http://localhost:80@evil.example/",
        "Sec-Fetch-Site: cross-site\nReferer: localhost",
        "Sec-Fetch-Site: cross-site\nReferer:",
    ] {
        assert_eq!(sent("GET", foreign), Err(Foreign::Site), "{foreign}");
    }
    let link = "Sec-Fetch-Site: cross-site\nSec-Fetch-Mode: navigate\nSec-Fetch-Dest: document";
    assert_eq!(sent("POST", link), Err(Foreign::Site));
    let both =
        "Sec-Fetch-Site: cross-site\nReferer: http://localhost/\nOrigin: https://evil.example";
    assert_eq!(sent("GET", both), Err(Foreign::Origin));
}

#[test]
fn over_tls_the_certificate_has_proven_the_name() {
    let text = b"GET / HTTP/1.1\r\nHost: any.example\r\n\r\n";
    let mut head = RequestHead::default();
    assert_eq!(head.parse(text), Ok(Parsed::Whole));
    assert_eq!(shield().judge(&head, text, true), Ok(()));
    assert_eq!(shield().judge(&head, text, false), Err(Foreign::Host));
}

#[test]
fn an_origin_is_scheme_host_and_port() {
    for (text, why) in [
        ("app.example.com", WebOriginError::NoScheme),
        ("://app", WebOriginError::NoScheme),
        ("1http://app", WebOriginError::NoScheme),
        ("http://", WebOriginError::Host),
        ("http://*.", WebOriginError::Host),
        ("http://*", WebOriginError::Host),
        ("http://a b", WebOriginError::Host),
        ("http://user@host", WebOriginError::Host),
        ("http://[::1", WebOriginError::Host),
        ("http://app:0", WebOriginError::Port),
        ("http://app:", WebOriginError::Port),
        ("http://app:65536", WebOriginError::Port),
        ("http://app/path", WebOriginError::Path),
        ("http://app?x", WebOriginError::Path),
    ] {
        assert_eq!(WebOrigin::new(text), Err(why), "{text}");
    }
    assert_eq!(
        WebOrigin::new("http://app:80/"),
        WebOrigin::new("HTTP://APP")
    );
    assert_eq!(
        WebOrigin::new("https://app:443"),
        WebOrigin::new("https://app")
    );
    assert!(WebOrigin::new("http://[::1]:3000").is_ok());
}
