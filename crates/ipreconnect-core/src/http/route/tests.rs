use super::*;
use crate::http::{Parsed, RequestHead, normal, path_of};
use proptest::prelude::*;

fn matches(rule: &RouteRule, text: &str) -> bool {
    let mut head = RequestHead::default();
    let bytes = text.as_bytes();
    assert_eq!(head.parse(bytes), Ok(Parsed::Whole), "{text}");
    let path = normal(path_of(head.target.of(bytes)));
    let asked = Asked {
        host: head
            .host
            .span()
            .map_or(&b""[..], |host| host_of(host.of(bytes))),
        path: &path,
        method: head.method_text.of(bytes),
        fields: &head.fields,
        text: bytes,
    };
    rule.matches(&asked)
}

fn get(host: &str, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nX-Beta: 1\r\n\r\n")
}

#[test]
fn hosts_are_matched_without_case_and_port() {
    let rule = RouteRule {
        hosts: vec![
            HostRule::exact("Shop.example"),
            HostRule::below("shop.example"),
        ],
        ..RouteRule::default()
    };
    for host in [
        "shop.example",
        "SHOP.example:8080",
        "a.shop.example",
        "a.b.shop.example",
        "shop.example.",
    ] {
        assert!(matches(&rule, &get(host, "/")), "{host}");
    }
    for host in [
        "example",
        "xshop.example",
        ".shop.example",
        "shop.example.org",
    ] {
        assert!(!matches(&rule, &get(host, "/")), "{host}");
    }
    assert_eq!(host_of(b"[::1]:80"), b"[::1]");
}

#[test]
fn a_prefix_ends_where_a_segment_does() {
    for prefix in ["/api", "/api/"] {
        let rule = RouteRule {
            paths: vec![PathRule::new(prefix).unwrap()],
            ..RouteRule::default()
        };
        for path in [
            "/api",
            "/api/",
            "/api/x",
            "/api?q",
            "/%61pi/x",
            "/x/../api",
            "//api",
        ] {
            assert!(matches(&rule, &get("a", path)), "{prefix} {path}");
        }
        for path in ["/apix", "/ap", "/", "/x/api", "/api/..", "/API"] {
            assert!(!matches(&rule, &get("a", path)), "{prefix} {path}");
        }
    }
    let all = PathRule::new("/").unwrap();
    assert!(all.matches(b"/") && all.matches(b"/x"));
}

#[test]
fn paths_may_be_exact_or_expressions() {
    let exact = PathRule::new("= /a").unwrap();
    assert!(exact.matches(b"/a") && !exact.matches(b"/a/"));
    let expression = PathRule::new("~ ^/[0-9]+$").unwrap();
    assert!(expression.matches(b"/12") && !expression.matches(b"/1a"));
    assert_eq!(PathRule::new("api").unwrap_err(), PathRuleError::NoSlash);
    assert!(matches!(
        PathRule::new("~ (").unwrap_err(),
        PathRuleError::Expression(_)
    ));
    assert!(PathRule::new("~ (a{1000}){1000}").is_err());
    for (text, shown) in [
        ("/", "/"),
        ("/a/", "/a"),
        ("=/a/", "= /a/"),
        ("~ ^/a$", "~ ^/a$"),
    ] {
        assert_eq!(PathRule::new(text).unwrap().to_string(), shown);
    }
}

#[test]
fn everything_that_is_named_must_match() {
    let rule = RouteRule {
        methods: vec![b"GET"[..].into()],
        fields: vec![
            (b"x-beta"[..].into(), Pattern::new("1").unwrap()),
            (b"host"[..].into(), Pattern::new("~ ^a").unwrap()),
            (b"X-BETA"[..].into(), Pattern::new("*").unwrap()),
        ],
        ..RouteRule::default()
    };
    assert!(matches(&rule, &get("ab", "/")));
    assert!(!matches(&rule, &get("b", "/")));
    assert!(!matches(
        &rule,
        "POST / HTTP/1.1\r\nHost: a\r\nX-Beta: 1\r\n\r\n"
    ));
    assert!(!matches(&rule, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
}

proptest! {
    #[test]
    fn no_request_makes_it_panic(host in "[a-z.:]{0,12}", path in "/[a-z%./]{0,12}", prefix in "/[a-z./]{0,6}") {
        let rule = RouteRule {
            hosts: vec![HostRule::below("a")],
            paths: vec![PathRule::new(&prefix).unwrap()],
            ..RouteRule::default()
        };
        let text = get(&host, &path);
        let mut head = RequestHead::default();
        if head.parse(text.as_bytes()) == Ok(Parsed::Whole) {
            matches(&rule, &text);
        }
    }
}
