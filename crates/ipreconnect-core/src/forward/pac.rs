//! What programs go straight to, and what tells browsers by which proxy to go: a PAC file.

use std::fmt::Write as _;

use ipnet::{IpNet, Ipv4Net};

use super::policy::{ForwardPolicy, Private};

/// Networks that are not of the whole Internet, as far as programs have to do with them.
const PRIVATE: [&str; 6] = [
    "10.0.0.0/8",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",
];

/// A network of one's own, and the parts of it that the rules open.
fn closed(policy: &ForwardPolicy) -> impl Iterator<Item = (Ipv4Net, Vec<Ipv4Net>)> {
    let opened: Vec<Ipv4Net> = match &policy.private {
        Private::Deny => Vec::new(),
        Private::Allow => vec![Ipv4Net::default()],
        Private::Only(set) => set.of_ipv4().collect(),
    };
    let networks = PRIVATE.iter().filter_map(|text| text.parse().ok());
    networks.filter_map(move |network: Ipv4Net| {
        let is_open = opened.iter().any(|one| one.contains(&network));
        let parts = opened.iter().copied().filter(|one| network.contains(one));
        (!is_open).then(|| (network, parts.collect()))
    })
}

/// The networks that programs are to go straight to, without the proxy: those of one's own that nobody gets to by it.
#[must_use]
pub fn direct(policy: &ForwardPolicy) -> Vec<IpNet> {
    let closed = closed(policy).filter(|(_, opened)| opened.is_empty());
    closed.map(|(network, _)| network.into()).collect()
}

/// Writes one: what the rules keep from networks of one's own goes straight there, everything else by the proxy, so
/// that whatever is denied is told. `proxy` is its host and port as clients reach it.
#[must_use]
pub fn pac(policy: &ForwardPolicy, proxy: &str, is_tls: bool) -> String {
    let ways = if is_tls {
        format!("HTTPS {proxy}")
    } else {
        format!("PROXY {proxy}; SOCKS5 {proxy}")
    };
    let mut text = String::from(
        "// Made from the rules of a forward proxy of ipreconnect.\nfunction FindProxyForURL(url, host) {\n  host = host.toLowerCase();\n  if (host === \"localhost\" || dnsDomainIs(host, \".localhost\")) return \"DIRECT\";\n",
    );
    if matches!(policy.private, Private::Deny) {
        text.push_str("  if (isPlainHostName(host)) return \"DIRECT\";\n");
    }
    let mut lines = String::new();
    for (network, opened) in closed(policy) {
        let all = opened.into_iter().map(|one| (one, ways.as_str()));
        for (network, way) in all.chain([(network, "DIRECT")]) {
            // Writing to a string cannot fail.
            let _ = writeln!(
                lines,
                "    if (isInNet(host, \"{}\", \"{}\")) return \"{way}\";",
                network.network(),
                network.netmask()
            );
        }
    }
    if !lines.is_empty() {
        let _ = write!(
            text,
            "  if (/^\\d+\\.\\d+\\.\\d+\\.\\d+$/.test(host)) {{\n{lines}  }}\n"
        );
    }
    let _ = write!(text, "  return \"{ways}\";\n}}\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_from_us_goes_straight_there() {
        let strict = pac(&ForwardPolicy::default(), "proxy.example:3128", false);
        assert_eq!(
            strict,
            "// Made from the rules of a forward proxy of ipreconnect.\n\
             function FindProxyForURL(url, host) {\n  \
             host = host.toLowerCase();\n  \
             if (host === \"localhost\" || dnsDomainIs(host, \".localhost\")) return \"DIRECT\";\n  \
             if (isPlainHostName(host)) return \"DIRECT\";\n  \
             if (/^\\d+\\.\\d+\\.\\d+\\.\\d+$/.test(host)) {\n    \
             if (isInNet(host, \"10.0.0.0\", \"255.0.0.0\")) return \"DIRECT\";\n    \
             if (isInNet(host, \"127.0.0.0\", \"255.0.0.0\")) return \"DIRECT\";\n    \
             if (isInNet(host, \"169.254.0.0\", \"255.255.0.0\")) return \"DIRECT\";\n    \
             if (isInNet(host, \"172.16.0.0\", \"255.240.0.0\")) return \"DIRECT\";\n    \
             if (isInNet(host, \"192.168.0.0\", \"255.255.0.0\")) return \"DIRECT\";\n    \
             if (isInNet(host, \"100.64.0.0\", \"255.192.0.0\")) return \"DIRECT\";\n  \
             }\n  \
             return \"PROXY proxy.example:3128; SOCKS5 proxy.example:3128\";\n}\n"
        );
        let some = ForwardPolicy {
            private: Private::Only(["10.0.0.0/8".parse().unwrap()].into_iter().collect()),
            ..ForwardPolicy::default()
        };
        let some = pac(&some, "[::1]:3128", true);
        assert!(
            !some.contains("10.0.0.0") && some.contains("192.168.0.0"),
            "{some}"
        );
        assert!(some.contains("return \"HTTPS [::1]:3128\";"), "{some}");
        // What is open in part is open in that part alone.
        let part = ForwardPolicy {
            private: Private::Only(
                ["10.1.0.0/16".parse().unwrap(), "fd00::/8".parse().unwrap()]
                    .into_iter()
                    .collect(),
            ),
            ..ForwardPolicy::default()
        };
        let text = pac(&part, "p:1", false);
        let wanted = "    if (isInNet(host, \"10.1.0.0\", \"255.255.0.0\")) return \"PROXY p:1; SOCKS5 p:1\";\n    if (isInNet(host, \"10.0.0.0\", \"255.0.0.0\")) return \"DIRECT\";\n";
        assert!(text.contains(wanted), "{text}");
        let straight: Vec<String> = direct(&part).iter().map(ToString::to_string).collect();
        assert_eq!(straight, PRIVATE[1..]);
        let open = ForwardPolicy {
            private: Private::Allow,
            ..ForwardPolicy::default()
        };
        assert!(!pac(&open, "p:1", false).contains("isInNet"));
        assert_eq!(direct(&open), []);
    }
}
