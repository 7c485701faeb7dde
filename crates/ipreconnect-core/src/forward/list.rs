//! Lists of what is blocked, as others write them: hosts files, plain names, networks, and the names of adblock lists.

use std::net::IpAddr;

use ipnet::IpNet;

use super::domains::Reach;
use super::target::name;

/// What a line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Nothing: it is empty, or a comment.
    Nothing,
    /// Names, and whom of them it is for.
    Names(Vec<(String, Reach)>),
    /// A network.
    Network(IpNet),
    /// An exception: what another line says is not so for this name.
    Except(String, Reach),
    /// Something that is about more than hosts, or nothing that can be read.
    Other,
}

/// Reads a line of any of those kinds.
pub(super) fn line(text: &str) -> Line {
    let text = text.trim();
    let is_comment =
        text.starts_with(['!', '#', ';']) || (text.starts_with('[') && !text.contains(':'));
    if text.is_empty() || is_comment {
        return Line::Nothing;
    }
    if let Some(rest) = text.strip_prefix("@@") {
        return match adblock(rest) {
            Some((name, reach)) => Line::Except(name, reach),
            None => Line::Other,
        };
    }
    if text.starts_with("||") {
        return match adblock(text) {
            Some(one) => Line::Names(vec![one]),
            None => Line::Other,
        };
    }
    let text = text.split(" #").next().unwrap_or_default();
    let text = text.split("\t#").next().unwrap_or_default().trim();
    let mut words = text.split_ascii_whitespace();
    let (Some(first), second) = (words.next(), words.next()) else {
        return Line::Nothing;
    };
    let Some(second) = second else {
        return alone(first);
    };
    // A hosts file says where its names lead; which place it is makes no difference.
    if first.parse::<IpAddr>().is_err() {
        return Line::Other;
    }
    let names = std::iter::once(second).chain(words);
    let names = names.take_while(|word| !word.starts_with('#'));
    let names = names.filter_map(|word| Some((name(word)?, Reach::Exact)));
    // What every such file begins with is not meant.
    let names: Vec<_> = names
        .filter(|(name, _)| !is_of_this_machine(name))
        .collect();
    if names.is_empty() {
        Line::Nothing
    } else {
        Line::Names(names)
    }
}

/// A line of one word.
fn alone(word: &str) -> Line {
    if let Ok(network) = word.parse::<IpNet>() {
        return Line::Network(network.trunc());
    }
    if let Ok(address) = word.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Line::Network(address.into());
    }
    match pattern(word) {
        Some(one) => Line::Names(vec![one]),
        None => Line::Other,
    }
}

/// A name as configurations write it: `ads.example`, `*.example` (all below), `.example` (it, and all below).
#[must_use]
pub(super) fn pattern(word: &str) -> Option<(String, Reach)> {
    if let Some(rest) = word.strip_prefix("*.") {
        return Some((name(rest)?, Reach::Below));
    }
    if let Some(rest) = word.strip_prefix('.') {
        return Some((name(rest)?, Reach::Suffix));
    }
    Some((name(word)?, Reach::Exact))
}

/// `||ads.example^`: the name and all below it. What goes on is about more than hosts.
fn adblock(text: &str) -> Option<(String, Reach)> {
    let rest = text.strip_prefix("||")?;
    let (host, after) = rest.split_once('^').unwrap_or((rest, ""));
    let is_for_all = matches!(after, "" | "|" | "$all" | "$important" | "$document");
    if !is_for_all {
        return None;
    }
    let host = host
        .strip_prefix("*.")
        .map_or((host, Reach::Suffix), |below| (below, Reach::Below));
    Some((name(host.0)?, host.1))
}

fn is_of_this_machine(name: &str) -> bool {
    let first = name.split('.').next().unwrap_or_default();
    matches!(
        first,
        "localhost"
            | "broadcasthost"
            | "local"
            | "ip6-localhost"
            | "ip6-loopback"
            | "ip6-localnet"
            | "ip6-mcastprefix"
            | "ip6-allnodes"
            | "ip6-allrouters"
            | "ip6-allhosts"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(of: &[(&str, Reach)]) -> Line {
        Line::Names(
            of.iter()
                .map(|(name, reach)| ((*name).to_owned(), *reach))
                .collect(),
        )
    }

    #[test]
    fn every_kind_of_list_is_read() {
        use Reach::{Below, Exact, Suffix};
        for (text, wanted) in [
            ("", Line::Nothing),
            ("# a comment", Line::Nothing),
            ("! another", Line::Nothing),
            ("[Adblock Plus 2.0]", Line::Nothing),
            (
                "0.0.0.0 Ads.Example. # here",
                names(&[("ads.example", Exact)]),
            ),
            (
                "127.0.0.1\tone.example two.example",
                names(&[("one.example", Exact), ("two.example", Exact)]),
            ),
            ("::1 localhost ip6-localhost", Line::Nothing),
            ("127.0.0.1 localhost.localdomain", Line::Nothing),
            ("ads.example", names(&[("ads.example", Exact)])),
            ("*.tracker.example", names(&[("tracker.example", Below)])),
            (".evil.example", names(&[("evil.example", Suffix)])),
            ("||ads.example^", names(&[("ads.example", Suffix)])),
            (
                "||ads.example^$important",
                names(&[("ads.example", Suffix)]),
            ),
            ("||ads.example^$third-party", Line::Other),
            ("||ads.example/banner", Line::Other),
            (
                "@@||good.example^",
                Line::Except("good.example".to_owned(), Suffix),
            ),
            (
                "203.0.113.0/24",
                Line::Network("203.0.113.0/24".parse().unwrap()),
            ),
            (
                "203.0.113.7",
                Line::Network("203.0.113.7/32".parse().unwrap()),
            ),
            (
                "[2001:db8::1]",
                Line::Network("2001:db8::1/128".parse().unwrap()),
            ),
            ("bücher.example", names(&[("xn--bcher-kva.example", Exact)])),
            ("a b c", Line::Other),
            ("##.banner", Line::Nothing),
            ("/regex/", Line::Other),
        ] {
            assert_eq!(line(text), wanted, "{text}");
        }
    }
}
