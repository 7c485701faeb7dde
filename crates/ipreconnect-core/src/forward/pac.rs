//! What tells browsers by which proxy to go: a PAC file.

use ipnet::IpNet;

use super::policy::{ForwardPolicy, Private};

/// Networks that are not of the whole Internet, as far as browsers have to do with them.
const PRIVATE: [&str; 6] = [
    "10.0.0.0/8",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",
];

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
    let is_open = |network: &IpNet| match &policy.private {
        Private::Deny => false,
        Private::Allow => true,
        Private::Only(set) => set.contains(network.addr()),
    };
    let networks = PRIVATE.iter().filter_map(|text| text.parse::<IpNet>().ok());
    let closed: Vec<IpNet> = networks.filter(|network| !is_open(network)).collect();
    if matches!(policy.private, Private::Deny) {
        text.push_str("  if (isPlainHostName(host)) return \"DIRECT\";\n");
    }
    if !closed.is_empty() {
        text.push_str("  if (/^\\d+\\.\\d+\\.\\d+\\.\\d+$/.test(host)) {\n");
        for network in closed {
            text.push_str(&format!(
                "    if (isInNet(host, \"{}\", \"{}\")) return \"DIRECT\";\n",
                network.network(),
                network.netmask()
            ));
        }
        text.push_str("  }\n");
    }
    text.push_str(&format!("  return \"{ways}\";\n}}\n"));
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
        let open = ForwardPolicy {
            private: Private::Allow,
            ..ForwardPolicy::default()
        };
        assert!(!pac(&open, "p:1", false).contains("isInNet"));
    }
}
