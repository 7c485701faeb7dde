//! Where clients of the forward proxy may go, and why not.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::domains::{Domains, Reach};
use super::list::{Line, line, pattern};
use super::target::{Host, Target};
use crate::netset::NetSet;
use crate::policy::{Scope, carried, scope};

/// Names and networks, out of lists.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Places {
    /// Those that are named one by one.
    own: Domains,
    /// Those of lists, each by itself: what one excepts is not excepted of others.
    lists: Vec<List>,
    networks: Vec<IpNet>,
    set: NetSet,
    /// Lines that say more than is understood, or nothing.
    skipped: u64,
}

/// The names of one list.
#[derive(Clone, Debug, PartialEq)]
struct List {
    /// What people know it by.
    name: Box<str>,
    names: Domains,
    exceptions: Domains,
}

impl Places {
    /// An empty one. Who knows the seed can choose names that are slow to find.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            own: Domains::new(seed),
            ..Self::default()
        }
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Names and networks that are in it.
    #[must_use]
    pub fn len(&self) -> usize {
        let lists = self.lists.iter().map(|list| list.names.len());
        self.own.len() + lists.sum::<usize>() + self.networks.len()
    }

    /// Lines that were not taken.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Takes what the configuration says: a name, `*.name`, `.name`, a network or an address. False if it is none of
    /// them.
    pub fn add(&mut self, word: &str) -> bool {
        let network = word.parse::<IpNet>().ok();
        let address = || word.trim_matches(['[', ']']).parse::<IpAddr>().ok();
        if let Some(network) = network.or_else(|| address().map(IpNet::from)) {
            self.networks.push(network.trunc());
            return true;
        }
        pattern(word).is_some_and(|(name, reach)| self.own.insert(&name, reach, 0))
    }

    /// Takes a list of others, line by line; `name` is what people know it by.
    pub fn read(&mut self, name: &str, text: &str) {
        let mut list = List {
            name: name.into(),
            names: Domains::new(self.own.seed()),
            exceptions: Domains::new(self.own.seed()),
        };
        for (number, text) in (1..).zip(text.lines()) {
            let is_taken = match line(text) {
                Line::Nothing => true,
                Line::Network(network) => {
                    self.networks.push(network);
                    true
                }
                Line::Names(names) => names
                    .iter()
                    .all(|(name, reach)| list.names.insert(name, *reach, number)),
                Line::Except(name, reach) => list.exceptions.insert(&name, reach, number),
                Line::Other => false,
            };
            self.skipped += u64::from(!is_taken);
        }
        self.lists.push(list);
    }

    /// Everything was taken: what was put aside for more is given back.
    pub fn finish(&mut self) {
        self.own.shrink();
        for list in &mut self.lists {
            list.names.shrink();
            list.exceptions.shrink();
        }
        self.networks.shrink_to_fit();
        self.set = self.networks.iter().copied().collect();
    }

    /// Whether a host is in it, as it is written: an address by itself, whatever other address it carries.
    #[must_use]
    pub fn has(&self, host: &Host) -> bool {
        match host {
            Host::Ip(ip) => self.set.contains(*ip),
            Host::Name(_) => self.host(host).is_some(),
        }
    }

    /// The entry that a host is in, or the address of IPv4 that it carries.
    fn host(&self, host: &Host) -> Option<Entry> {
        let name = match host {
            Host::Ip(ip) => return self.address(*ip),
            Host::Name(name) => name,
        };
        if let Some((name, reach, _)) = self.own.find(name) {
            return Some(Entry {
                text: shown(name, reach),
                place: None,
            });
        }
        self.lists.iter().find_map(|list| {
            let (found, reach, line) = list.names.find(name)?;
            if list.exceptions.find(name).is_some() {
                return None;
            }
            Some(Entry {
                text: shown(found, reach),
                place: Some(format!("line {line} of {}", list.name).into()),
            })
        })
    }

    /// The network that an address is in, or the address of IPv4 that it carries.
    fn address(&self, ip: IpAddr) -> Option<Entry> {
        let ip = ip.to_canonical();
        let inside = match ip {
            IpAddr::V6(ip) => carried(ip).map(IpAddr::V4),
            IpAddr::V4(_) => None,
        };
        let mut both = [Some(ip), inside].into_iter().flatten();
        let found = both.find(|ip| self.set.contains(*ip))?;
        let network = self
            .networks
            .iter()
            .find(|network| network.contains(&found));
        Some(Entry {
            text: network.map(ToString::to_string).unwrap_or_default(),
            place: None,
        })
    }
}

fn shown(name: &str, reach: Reach) -> String {
    match reach {
        Reach::Exact => name.to_owned(),
        Reach::Below => format!("*.{name}"),
        Reach::Suffix => format!(".{name}"),
    }
}

/// An entry, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// As it is written.
    pub text: String,
    /// Where, if it is a name out of a list.
    pub place: Option<Box<str>>,
}

/// Addresses that are not of the whole Internet.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Private {
    /// None of them.
    #[default]
    Deny,
    /// All of them.
    Allow,
    /// Those in these networks.
    Only(NetSet),
}

/// Where clients may go.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ForwardPolicy {
    /// Nowhere else, if it is said: nowhere at all, if nothing is in it.
    pub allow: Option<Places>,
    /// Not there, whatever is allowed.
    pub block: Places,
    /// These ports alone, from the first to the last; all, if there are none.
    pub ports: Vec<(u16, u16)>,
    /// Addresses of networks of one's own.
    pub private: Private,
}

/// Why somebody may not go there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denial {
    /// The port is none of those.
    Port(u16),
    /// It is blocked by this entry.
    Blocked(Entry),
    /// It resolves to an address that is blocked by this entry.
    ResolvesToBlocked(IpAddr, Entry),
    /// It is none of the places that are allowed.
    NotAllowed,
    /// It is, or resolves to, such an address.
    Private(IpAddr, Scope),
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |entry: &Entry| match &entry.place {
            Some(place) => format!("`{}` ({place})", entry.text),
            None => format!("`{}`", entry.text),
        };
        match self {
            Self::Port(port) => write!(f, "port {port} is none of those that are allowed"),
            Self::Blocked(entry) => write!(f, "it is blocked by {}", line(entry)),
            Self::ResolvesToBlocked(ip, entry) => {
                write!(
                    f,
                    "it resolves to {ip}, which is blocked by {}",
                    line(entry)
                )
            }
            Self::NotAllowed => f.write_str("it is none of the places that are allowed"),
            Self::Private(ip, scope) => write!(f, "{ip} is {scope}"),
        }
    }
}

/// What a name leaves open until it is resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing but whether its addresses may be dialled.
    Welcome,
    /// Its addresses have to be among those that are allowed.
    ByAddress,
}

impl ForwardPolicy {
    /// Judges where somebody wants to go, as it is written.
    ///
    /// # Errors
    /// Why not.
    pub fn judge(&self, target: &Target) -> Result<Standing, Denial> {
        let is_in = |(first, last): &(u16, u16)| (*first..=*last).contains(&target.port);
        if !self.ports.is_empty() && !self.ports.iter().any(is_in) {
            return Err(Denial::Port(target.port));
        }
        if let Some(entry) = self.block.host(&target.host) {
            return Err(Denial::Blocked(entry));
        }
        let standing = match &self.allow {
            None => Standing::Welcome,
            Some(allow) if allow.has(&target.host) => Standing::Welcome,
            Some(allow) if matches!(target.host, Host::Name(_)) && !allow.networks.is_empty() => {
                Standing::ByAddress
            }
            Some(_) => return Err(Denial::NotAllowed),
        };
        if let Host::Ip(ip) = target.host {
            self.judge_address(ip, Standing::Welcome)?;
        }
        Ok(standing)
    }

    /// Judges an address that is to be dialled, after a name was resolved.
    ///
    /// # Errors
    /// Why not.
    pub fn judge_address(&self, ip: IpAddr, standing: Standing) -> Result<(), Denial> {
        let ip = ip.to_canonical();
        if let Some(entry) = self.block.address(ip) {
            return Err(Denial::ResolvesToBlocked(ip, entry));
        }
        let is_allowed = |allow: &Places| allow.set.contains(ip);
        if standing == Standing::ByAddress && !self.allow.as_ref().is_some_and(is_allowed) {
            return Err(Denial::NotAllowed);
        }
        let is_allowed = match (&self.private, scope(ip)) {
            (_, Scope::Global) => true,
            (Private::Deny, _) => false,
            // Nobody means these by all; services of clouds for their own machines are among the link-local ones, and
            // there are new ones every year.
            (
                Private::Allow,
                Scope::Unspecified | Scope::Multicast | Scope::Metadata | Scope::LinkLocal,
            ) => false,
            (Private::Allow, _) => true,
            (Private::Only(set), _) => set.contains(ip),
        };
        if is_allowed {
            Ok(())
        } else {
            Err(Denial::Private(ip, scope(ip)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(words: &[&str]) -> Places {
        let mut places = Places::default();
        for word in words {
            assert!(places.add(word), "{word}");
        }
        places.finish();
        places
    }

    fn word(denial: &Denial) -> &'static str {
        match denial {
            Denial::Port(_) => "port",
            Denial::Blocked(_) | Denial::ResolvesToBlocked(..) => "blocked",
            Denial::NotAllowed => "not_allowed",
            Denial::Private(..) => "private",
        }
    }

    fn target(text: &str) -> Target {
        Target::authority(text.as_bytes()).unwrap()
    }

    #[test]
    fn names_are_judged_as_written_and_as_resolved() {
        let policy = ForwardPolicy {
            block: places(&["ads.example", "*.tracker.example", "203.0.113.0/24"]),
            ports: vec![(80, 80), (443, 443)],
            ..ForwardPolicy::default()
        };
        let judge = |text: &str| policy.judge(&target(text)).map_err(|denial| word(&denial));
        for (text, wanted) in [
            ("good.example:443", Ok(Standing::Welcome)),
            ("good.example:22", Err("port")),
            ("ads.example:80", Err("blocked")),
            ("ADS.example.:80", Err("blocked")),
            ("a.tracker.example:80", Err("blocked")),
            ("tracker.example:80", Ok(Standing::Welcome)),
            ("203.0.113.7:80", Err("blocked")),
            ("[::ffff:203.0.113.7]:80", Err("blocked")),
            ("0xcb007107:80", Err("blocked")),
            ("127.0.0.1:80", Err("private")),
            ("2130706433:80", Err("private")),
            ("[::1]:80", Err("private")),
            ("[::ffff:10.0.0.1]:80", Err("private")),
            ("[64:ff9b::7f00:1]:80", Err("private")),
            ("169.254.169.254:80", Err("private")),
            ("0.0.0.0:80", Err("private")),
            ("93.184.216.34:80", Ok(Standing::Welcome)),
        ] {
            assert_eq!(judge(text), wanted, "{text}");
        }
        let resolved = |ip: &str| {
            policy
                .judge_address(ip.parse().unwrap(), Standing::Welcome)
                .map_err(|denial| word(&denial))
        };
        assert_eq!(resolved("93.184.216.34"), Ok(()));
        assert_eq!(resolved("203.0.113.9"), Err("blocked"));
        assert_eq!(resolved("192.168.1.1"), Err("private"));
        assert_eq!(resolved("::ffff:127.0.0.1"), Err("private"));
    }

    #[test]
    fn what_is_allowed_is_nothing_else() {
        let policy = ForwardPolicy {
            allow: Some(places(&["*.example.com", "198.252.100.0/24"])),
            block: places(&["bad.example.com"]),
            ..ForwardPolicy::default()
        };
        let judge = |text: &str| policy.judge(&target(text)).map_err(|denial| word(&denial));
        assert_eq!(judge("www.example.com:443"), Ok(Standing::Welcome));
        assert_eq!(judge("bad.example.com:443"), Err("blocked"));
        assert_eq!(judge("198.252.100.7:443"), Ok(Standing::Welcome));
        assert_eq!(judge("93.184.216.34:443"), Err("not_allowed"));
        assert_eq!(judge("other.example:443"), Ok(Standing::ByAddress));
        let by_address = |ip: &str| policy.judge_address(ip.parse().unwrap(), Standing::ByAddress);
        assert_eq!(by_address("198.252.100.7"), Ok(()));
        assert_eq!(by_address("93.184.216.34"), Err(Denial::NotAllowed));
        let names_alone = ForwardPolicy {
            allow: Some(places(&["*.example.com"])),
            ..ForwardPolicy::default()
        };
        assert_eq!(
            names_alone.judge(&target("other.example:443")),
            Err(Denial::NotAllowed)
        );
    }

    #[test]
    fn a_list_that_is_empty_allows_nothing() {
        let policy = ForwardPolicy {
            allow: Some(Places::default()),
            ..ForwardPolicy::default()
        };
        for text in ["example.com:80", "93.184.216.34:80"] {
            assert_eq!(
                policy.judge(&target(text)),
                Err(Denial::NotAllowed),
                "{text}"
            );
        }
    }

    #[test]
    fn addresses_that_carry_others_are_blocked_as_those() {
        let policy = ForwardPolicy {
            block: places(&["93.184.216.0/24"]),
            ..ForwardPolicy::default()
        };
        for text in ["[64:ff9b::5db8:d822]:80", "[2002:5db8:d822::1]:80"] {
            assert_eq!(
                policy.judge(&target(text)).map_err(|denial| word(&denial)),
                Err("blocked"),
                "{text}"
            );
        }
        // They are not allowed as those: whoever carries it there is nobody's choice.
        let policy = ForwardPolicy {
            allow: Some(places(&["93.184.216.0/24"])),
            ..ForwardPolicy::default()
        };
        for (text, wanted) in [
            ("93.184.216.34:80", Ok(Standing::Welcome)),
            ("[::ffff:93.184.216.34]:80", Ok(Standing::Welcome)),
            ("[64:ff9b::5db8:d822]:80", Err("not_allowed")),
            ("[2002:5db8:d822::1]:80", Err("not_allowed")),
        ] {
            assert_eq!(
                policy.judge(&target(text)).map_err(|denial| word(&denial)),
                wanted,
                "{text}"
            );
        }
    }

    #[test]
    fn the_same_lists_are_the_same_whatever_the_seed() {
        let read = |seed, text: &str| {
            let mut places = Places::new(seed);
            assert!(places.add("a.example") && places.add("10.0.0.0/8"));
            places.read("list", text);
            places.finish();
            places
        };
        let text = "||evil.example^\n@@||good.evil.example^\n";
        assert_eq!(read(1, text), read(2, text));
        assert_ne!(read(1, text), read(1, "||evil.example^\n"));
    }

    #[test]
    fn a_list_excepts_nothing_of_others() {
        let mut block = places(&["evil.example"]);
        block.read(
            "one",
            "||ads.example^\n@@||com^\n@@||evil.example^\n@@||ok.ads.example^\n",
        );
        block.read("two", "||bad.com^\n");
        block.finish();
        for (name, wanted) in [
            ("evil.example", true),
            ("bad.com", true),
            ("ads.example", true),
            ("ok.ads.example", false),
        ] {
            assert_eq!(
                block.has(&target(&format!("{name}:80")).host),
                wanted,
                "{name}"
            );
        }
    }

    #[test]
    fn private_networks_are_opened_one_by_one() {
        let only: NetSet = ["10.1.0.0/16".parse().unwrap()].into_iter().collect();
        let policy = |private| ForwardPolicy {
            private,
            ..ForwardPolicy::default()
        };
        let passes = |policy: &ForwardPolicy, ip: &str| {
            policy
                .judge_address(ip.parse().unwrap(), Standing::Welcome)
                .is_ok()
        };
        let only = policy(Private::Only(only));
        assert!(
            passes(&only, "10.1.2.3") && !passes(&only, "10.2.2.3") && !passes(&only, "127.0.0.1")
        );
        let all = policy(Private::Allow);
        assert!(passes(&all, "127.0.0.1") && passes(&all, "192.168.0.1"));
        assert!(
            !passes(&all, "169.254.169.254")
                && !passes(&all, "169.254.42.42")
                && !passes(&all, "fd20:ce::254")
                && !passes(&all, "fe80::1")
                && !passes(&all, "0.0.0.0")
                && !passes(&all, "224.0.0.1")
        );
    }

    #[test]
    fn lists_of_others_have_exceptions_and_places() {
        let mut block = Places::default();
        block.read(
            "ads.txt",
            "! title\n||evil.example^\n@@||good.evil.example^\n||x.example/path\n203.0.113.0/24\n",
        );
        block.finish();
        assert_eq!((block.len(), block.skipped()), (2, 1));
        let policy = ForwardPolicy {
            block,
            ..ForwardPolicy::default()
        };
        let denial = policy.judge(&target("www.evil.example:80")).unwrap_err();
        assert_eq!(
            denial.to_string(),
            "it is blocked by `.evil.example` (line 2 of ads.txt)"
        );
        assert!(policy.judge(&target("a.good.evil.example:80")).is_ok());
    }
}
