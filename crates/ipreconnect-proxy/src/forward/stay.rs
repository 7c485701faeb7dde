//! What one user has of a forward proxy at the moment.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use ipreconnect::clock;
use ipreconnect::core::forward::{Allowance, Allowances, Over, Spent};

/// All users of a listener.
#[derive(Clone, Debug, Default)]
pub(super) struct Users(Arc<Mutex<Allowances>>);

/// A request or a tunnel of a user, until dropped.
#[derive(Debug)]
pub(crate) struct Stay {
    users: Users,
    who: Box<str>,
    spent: Arc<Spent>,
    allowance: Allowance,
}

impl Users {
    /// One more of them begins, if it may.
    pub(super) fn open(&self, who: &str, allowance: Allowance) -> Result<Stay, Over> {
        let now = (clock::since_start(clock::now()), clock::since_unix());
        let opened = self.lock().open(now, who, &allowance);
        Ok(Stay {
            users: self.clone(),
            who: who.into(),
            spent: opened?,
            allowance,
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Allowances> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stay {
    /// Counts bytes; says whether there may be more of them.
    pub(crate) fn counts(&self, bytes: u64) -> bool {
        self.spent.add(bytes, &self.allowance)
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        self.users.lock().close(&self.who);
    }
}

/// Who somebody is of whom nothing is known but his address: of IPv6, a network of 64 bits is one.
pub(crate) fn nameless(from: Option<IpAddr>) -> String {
    match from {
        None => "local".to_owned(),
        Some(IpAddr::V4(ip)) => ip.to_string(),
        Some(IpAddr::V6(ip)) => {
            let network = Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64);
            format!("{network}/64")
        }
    }
}
