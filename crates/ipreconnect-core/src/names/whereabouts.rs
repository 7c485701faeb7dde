//! Where one host is that is visited now and then: looked up when somebody wants to go there, and never else.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::address::{Address, interleave};
use crate::failure::{Cause, Failure};

/// However short their time to live is, addresses hold for so long: those who come at once share one lookup.
const LEAST: Duration = Duration::from_secs(1);
/// However long it is, they hold no longer.
const MOST: Duration = Duration::from_secs(3600);
/// While no resolver answers, addresses are used for so long beyond their time to live.
const BEYOND: Duration = Duration::from_secs(600);
/// That there are none holds for so long.
const NOTHING: Duration = Duration::from_secs(2);
/// Addresses of one host.
const ADDRESSES: usize = 16;

/// What is known of one host.
#[derive(Clone, Debug, Default)]
pub struct Whereabouts {
    /// In the order in which a race dials them.
    ips: Vec<IpAddr>,
    /// Why there is none, or why the last lookup failed.
    failure: Option<Failure>,
    /// Until when no lookup is needed.
    until: Option<Instant>,
    /// Until when the addresses are of use while no resolver answers.
    beyond: Option<Instant>,
    is_fixed: bool,
}

impl Whereabouts {
    /// A host that is an address, which is never looked up.
    #[must_use]
    pub fn fixed(ip: IpAddr) -> Self {
        Self {
            ips: vec![ip],
            is_fixed: true,
            ..Self::default()
        }
    }

    /// Whether the host is to be looked up before anybody goes there.
    #[must_use]
    pub fn is_due(&self, now: Instant) -> bool {
        !self.is_fixed && self.until.is_none_or(|until| now >= until)
    }

    /// A lookup brought addresses and for how long they hold, or why there are none.
    pub fn take(&mut self, now: Instant, found: Result<(Vec<IpAddr>, Duration), Failure>) {
        match found {
            Ok((ips, ttl)) => {
                let until = now + ttl.clamp(LEAST, MOST);
                self.until = Some(until);
                self.beyond = Some(until + BEYOND);
                self.failure = None;
                self.line_up(&ips);
            }
            Err(failure) => {
                // Who cannot answer says nothing about what was answered before.
                let is_kept = failure.cause == Cause::ResolverFailed
                    && self.beyond.is_some_and(|beyond| now < beyond);
                if !is_kept {
                    self.ips.clear();
                }
                self.failure = Some(failure);
                self.until = Some(now + NOTHING);
            }
        }
    }

    /// The families take turns (RFC 8305, section 4); the address that was reached last stays the first.
    fn line_up(&mut self, ips: &[IpAddr]) {
        let last = self.ips.first().filter(|last| ips.contains(last)).copied();
        let ips = last.into_iter().chain(ips.iter().copied());
        let addresses: Vec<_> = ips.map(|ip| Address::Tcp((ip, 0).into())).collect();
        let ips = interleave(&addresses).into_iter().filter_map(|address| {
            let (Address::Tcp(address) | Address::Udp(address)) = address else {
                return None;
            };
            Some(address.ip())
        });
        self.ips = ips.take(ADDRESSES).collect();
    }

    /// This one was reached: the next race begins with it.
    pub fn reached(&mut self, ip: IpAddr) {
        if let Some(at) = self.ips.iter().position(|one| *one == ip) {
            let ip = self.ips.remove(at);
            self.ips.insert(0, ip);
        }
    }

    /// None of them could be reached: whoever comes next looks again where the host is.
    pub fn lost(&mut self, now: Instant) {
        if !self.is_fixed && !self.ips.is_empty() {
            self.until = Some(now);
        }
    }

    /// The addresses, in the order in which they are to be dialled.
    ///
    /// # Errors
    /// Why there are none.
    pub fn ips(&self) -> Result<&[IpAddr], Failure> {
        if self.ips.is_empty() {
            let failure = self.failure.clone();
            return Err(failure.unwrap_or_else(|| Failure::new(Cause::NoSuchName)));
        }
        Ok(&self.ips)
    }
}

#[cfg(test)]
mod tests {

    use super::*;

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn found(texts: &[&str], ttl: u64) -> Result<(Vec<IpAddr>, Duration), Failure> {
        Ok((ips(texts), Duration::from_secs(ttl)))
    }

    #[test]
    fn it_is_looked_up_when_its_time_has_passed_and_not_before() {
        let start = crate::beginning();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut host = Whereabouts::default();
        assert!(host.is_due(start) && host.ips().is_err());
        host.take(start, found(&["192.0.2.1"], 30));
        assert!(!host.is_due(at(29)) && host.is_due(at(30)));
        host.take(at(30), found(&["192.0.2.2"], 0));
        assert!(!host.is_due(at(30)), "those who come at once share it");
        assert!(host.is_due(at(31)));
        host.take(at(31), found(&["192.0.2.2"], 1_000_000));
        assert!(host.is_due(at(31 + 3600)));
        let fixed = Whereabouts::fixed("192.0.2.9".parse().unwrap());
        assert!(!fixed.is_due(at(1_000_000)));
    }

    #[test]
    fn families_take_turns_and_what_was_reached_comes_first() {
        let now = crate::beginning();
        let mut host = Whereabouts::default();
        let all = ["2001:db8::1", "2001:db8::2", "192.0.2.1", "192.0.2.2"];
        host.take(now, found(&all, 1));
        let turns = ["2001:db8::1", "192.0.2.1", "2001:db8::2", "192.0.2.2"];
        assert_eq!(host.ips().unwrap(), ips(&turns));
        host.reached("192.0.2.1".parse().unwrap());
        let reached = ["192.0.2.1", "2001:db8::1", "2001:db8::2", "192.0.2.2"];
        assert_eq!(host.ips().unwrap(), ips(&reached));
        host.take(now, found(&all, 1));
        assert_eq!(host.ips().unwrap().first(), ips(&["192.0.2.1"]).first());
        host.take(now, found(&["192.0.2.7"], 1));
        assert_eq!(host.ips().unwrap(), ips(&["192.0.2.7"]), "it has moved");
    }

    #[test]
    fn a_resolver_that_is_away_takes_nothing_away_and_one_that_says_no_does() {
        let start = crate::beginning();
        let at = |seconds| start + Duration::from_secs(seconds);
        let away = || Err(Failure::new(Cause::ResolverFailed));
        let mut host = Whereabouts::default();
        host.take(start, away());
        assert_eq!(host.ips().unwrap_err().cause, Cause::ResolverFailed);
        host.take(start, found(&["192.0.2.1"], 10));
        host.take(at(10), away());
        assert_eq!(host.ips().unwrap(), ips(&["192.0.2.1"]));
        assert!(
            !host.is_due(at(11)) && host.is_due(at(12)),
            "it is asked again soon"
        );
        host.take(at(609), away());
        assert!(host.ips().is_ok());
        host.take(at(610), away());
        assert!(host.ips().is_err(), "not for ever");
        host.take(at(611), found(&["192.0.2.1"], 10));
        host.take(at(621), Err(Failure::new(Cause::NoSuchName)));
        assert_eq!(host.ips().unwrap_err().cause, Cause::NoSuchName);
    }

    #[test]
    fn what_cannot_be_reached_is_looked_up_again() {
        let now = crate::beginning();
        let mut host = Whereabouts::default();
        host.take(now, found(&["192.0.2.1"], 600));
        assert!(!host.is_due(now));
        host.lost(now);
        assert!(host.is_due(now));
        host.take(now, Err(Failure::new(Cause::NoSuchName)));
        host.lost(now);
        assert!(!host.is_due(now), "there is nothing to reach");
    }
}
