//! Who listens, and who has listened since the guard looks.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;

use ipreconnect_ports::Listening;

/// Listeners that are remembered; of more those that are over are forgotten.
const MOST: usize = 16_384;

/// The listeners of this machine.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    now: HashMap<u16, Vec<Listening>>,
    /// Those that are no news: who comes back to an address is the same one as long as the user is.
    known: Option<HashSet<(SocketAddr, u32)>>,
}

impl Listeners {
    /// Takes what listens now, and returns who did not before. At the first time nobody is news.
    pub(super) fn take(&mut self, seen: &[Listening]) -> Vec<Listening> {
        self.now.clear();
        for one in seen {
            let all = self.now.entry(one.address.port()).or_default();
            all.push(*one);
        }
        let of = |one: &Listening| (one.address, one.user);
        let Some(known) = &mut self.known else {
            self.known = Some(seen.iter().map(of).collect());
            return Vec::new();
        };
        let mut fresh = seen.to_vec();
        fresh.retain(|one| known.insert(of(one)));
        if known.len() > MOST {
            *known = seen.iter().map(of).collect();
        }
        fresh
    }

    /// Whether somebody listens at an address.
    pub(super) fn has(&self, here: SocketAddr) -> bool {
        let all = self.now.get(&here.port());
        all.is_some_and(|all| all.iter().any(|one| one.takes(here)))
    }

    /// Whether somebody listens on a port, wherever.
    pub(super) fn has_port(&self, port: u16) -> bool {
        self.now.contains_key(&port)
    }

    /// Forgets them all.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listening(port: u16, user: u32) -> Listening {
        Listening {
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            takes_both: false,
            user,
            inode: 1,
        }
    }

    #[test]
    fn who_comes_back_is_no_news_and_another_user_is() {
        let mut all = Listeners::default();
        assert!(all.take(&[listening(80, 1)]).is_empty());
        assert!(all.has(SocketAddr::from(([127, 0, 0, 1], 80))));
        assert!(!all.has(SocketAddr::from(([127, 0, 0, 2], 80))));
        assert!(all.take(&[]).is_empty());
        assert!(all.take(&[listening(80, 1)]).is_empty());
        let other = listening(80, 2);
        assert_eq!(all.take(&[other]), [other]);
        assert!(all.take(&[other, listening(80, 1)]).is_empty());
    }

    #[test]
    fn they_are_bounded() {
        let mut all = Listeners::default();
        assert!(all.take(&[]).is_empty());
        for user in 0..20_000 {
            let _ = all.take(&[listening(80, user)]);
        }
        assert!(
            all.known
                .as_ref()
                .is_some_and(|known| known.len() <= MOST + 1)
        );
        assert!(all.take(&[listening(80, 19_999)]).is_empty());
        all.forget();
        assert!(all.take(&[listening(80, 7)]).is_empty());
    }
}
