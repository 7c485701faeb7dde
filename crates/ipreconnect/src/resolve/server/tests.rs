use super::*;

#[test]
fn resolvers_are_read_and_shown_in_one_way() {
    for (text, shown) in [
        ("system", "system"),
        ("9.9.9.9", "9.9.9.9"),
        ("9.9.9.9:53", "9.9.9.9"),
        ("udp://9.9.9.9", "9.9.9.9"),
        ("127.0.0.1:5353", "127.0.0.1:5353"),
        ("2620:fe::fe", "2620:fe::fe"),
        ("[2620:fe::fe]:5353", "[2620:fe::fe]:5353"),
        ("tcp://9.9.9.9", "tcp://9.9.9.9:53"),
        (
            "tls://1.1.1.1#cloudflare-dns.com",
            "tls://1.1.1.1#cloudflare-dns.com",
        ),
        ("tls://1.1.1.1", "tls://1.1.1.1"),
        ("tls://[::1]:8853#x.test", "tls://[::1]:8853#x.test"),
        ("tls://dns.example", "tls://dns.example"),
        (
            "https://dns.example/dns-query",
            "https://dns.example/dns-query",
        ),
        ("https://dns.example", "https://dns.example/dns-query"),
        (
            "https://127.0.0.1:8443/q#a.test",
            "https://127.0.0.1:8443/q#a.test",
        ),
    ] {
        let server: DnsServer = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(server.to_string(), shown);
        assert_eq!(shown.parse(), Ok(server), "{shown}");
    }
}

#[test]
fn what_is_no_resolver_is_told() {
    for (text, error) in [
        ("", DnsServerError::Host),
        ("dns.example", DnsServerError::NeedsAddress),
        ("tcp://dns.example", DnsServerError::NeedsAddress),
        ("quic://1.1.1.1", DnsServerError::Scheme),
        ("1.1.1.1:0", DnsServerError::Port),
        ("1.1.1.1:65536", DnsServerError::Port),
        ("1.1.1.1/x", DnsServerError::Path),
        ("tls://1.1.1.1/x", DnsServerError::Path),
        ("1.1.1.1#name", DnsServerError::Name),
        ("tls://1.1.1.1#", DnsServerError::Name),
        ("tls://a b", DnsServerError::Host),
        ("[::1", DnsServerError::Host),
        ("[1.1.1.1]:53", DnsServerError::Host),
    ] {
        assert_eq!(text.parse::<DnsServer>(), Err(error), "{text:?}");
    }
}
