//! Who an origin's servers were, and what another key or another address means.
//!
//! What does not verify by chain, name or pin never comes here: it is refused before. A key that does
//! verify is compared with those seen earlier at the same entry of the address list.

use std::fmt;
use std::sync::Arc;

use crate::address::Address;
use crate::names::Security;

/// Sightings that are kept of one origin; the one seen least lately gives way.
pub const SIGHTINGS: usize = 128;
/// A sighting that is seen again after this is written again.
const WRITTEN_AGAIN: u64 = 3600;

/// A public key: the SHA-256 of its SubjectPublicKeyInfo (RFC 7469, section 2.4).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub [u8; 32]);

impl fmt::Display for KeyId {
    /// As pins are written: `sha256/` and base64.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LETTERS: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        f.write_str("sha256/")?;
        for three in self.0.chunks(3) {
            let byte = |at: usize| u32::from(three.get(at).copied().unwrap_or(0));
            let bits = (byte(0) << 16) | (byte(1) << 8) | byte(2);
            for at in 0..4 {
                let letter = LETTERS[(bits >> (18 - 6 * at) & 63) as usize];
                let is_there = at <= three.len();
                let letter = if is_there { char::from(letter) } else { '=' };
                fmt::Write::write_char(f, letter)?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is no [`KeyId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyIdError {
    /// It does not begin with `sha256/`.
    Algorithm,
    /// What follows is not base64.
    Base64,
    /// It is not 32 bytes.
    Length,
}

impl fmt::Display for KeyIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Algorithm => "a pin begins with sha256/",
            Self::Base64 => "what follows sha256/ is not base64",
            Self::Length => "a SHA-256 has 32 bytes: 44 letters of base64",
        })
    }
}

impl std::error::Error for KeyIdError {}

impl std::str::FromStr for KeyId {
    type Err = KeyIdError;

    fn from_str(text: &str) -> Result<Self, KeyIdError> {
        let text = text.strip_prefix("sha256/").ok_or(KeyIdError::Algorithm)?;
        let digits = text.trim_end_matches('=');
        let mut bytes = Vec::with_capacity(33);
        let (mut bits, mut count) = (0u32, 0);
        for letter in digits.bytes() {
            let value = match letter {
                b'A'..=b'Z' => letter - b'A',
                b'a'..=b'z' => letter - b'a' + 26,
                b'0'..=b'9' => letter - b'0' + 52,
                b'+' | b'-' => 62,
                b'/' | b'_' => 63,
                _ => return Err(KeyIdError::Base64),
            };
            bits = (bits << 6) | u32::from(value);
            count += 6;
            if count >= 8 {
                count -= 8;
                bytes.push((bits >> count & 0xff) as u8);
            }
            if bytes.len() > 32 {
                return Err(KeyIdError::Length);
            }
        }
        bytes.try_into().map(Self).map_err(|_| KeyIdError::Length)
    }
}

/// What to do about a key that verifies and is another one than before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnKeyChange {
    /// It is an event.
    #[default]
    Verify,
    /// It is used, and people are told until they accept it.
    Alarm,
    /// It is not used until somebody accepts it.
    Refuse,
}

/// What one server showed of itself, verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presented {
    /// The entry of the address list that led to it, as it is written.
    pub entry: Arc<str>,
    /// Where it is.
    pub address: Address,
    /// Its key.
    pub key: KeyId,
    /// Who issued its certificate.
    pub issuer: Arc<str>,
    /// The names of its certificate.
    pub names: Arc<[String]>,
    /// The end of its certificate's time, in seconds since 1970.
    pub not_after: u64,
    /// The version of TLS.
    pub version: &'static str,
    /// How its address was proven.
    pub dnssec: Security,
    /// Whether the key is one of those that are pinned: such a key was accepted beforehand.
    pub pinned: bool,
}

/// Whether a key is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acceptance {
    /// By its chain and name, by a pin, or by a person.
    Accepted,
    /// It is used, and nobody has accepted it.
    Alarming,
    /// It is not used until somebody accepts it.
    Refused,
}

impl fmt::Display for Acceptance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Accepted => "accepted",
            Self::Alarming => "alarming",
            Self::Refused => "refused",
        })
    }
}

/// One key at one address, as the ledger keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// The entry of the address list that led there.
    pub entry: Arc<str>,
    /// Where it was seen, as text.
    pub address: Arc<str>,
    /// The key.
    pub key: KeyId,
    /// Who issued the certificate last seen with it.
    pub issuer: Arc<str>,
    /// The names of that certificate.
    pub names: Arc<[String]>,
    /// The end of that certificate's time, in seconds since 1970.
    pub not_after: u64,
    /// The version of TLS last seen.
    pub version: Arc<str>,
    /// How the address was proven, last.
    pub dnssec: Arc<str>,
    /// In seconds since 1970.
    pub first_seen: u64,
    /// In seconds since 1970; exact to an hour.
    pub last_seen: u64,
    /// Whether it is accepted.
    pub acceptance: Acceptance,
}

/// What a server is to those who knew its entry before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The same key at the same address.
    Known,
    /// The first key that its entry ever had.
    First,
    /// The same key at a new address.
    Moved {
        /// Where it was seen last.
        from: Arc<str>,
    },
    /// Another key, with everything that verifies.
    Rotated {
        /// The key before.
        from: KeyId,
    },
}

/// What follows from a sighting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What it is.
    pub seen: Seen,
    /// Whether the server may be used.
    pub acceptance: Acceptance,
    /// Whether that is told for the first time.
    pub is_news: bool,
    /// Whether the ledger has changed.
    pub changed: bool,
}

/// All that was seen of one origin's servers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History(Vec<Sighting>);

impl History {
    /// What was kept.
    #[must_use]
    pub fn new(mut sightings: Vec<Sighting>) -> Self {
        sightings.truncate(SIGHTINGS);
        Self(sightings)
    }

    /// By the time they were first seen.
    #[must_use]
    pub fn sightings(&self) -> &[Sighting] {
        &self.0
    }

    /// Whether a server is known and accepted, and was written down lately: nothing is to be done.
    #[must_use]
    pub fn knows(&self, presented: &Presented, now: u64) -> bool {
        self.place_of(presented)
            .and_then(|at| self.0.get(at))
            .is_some_and(|known| {
                known.acceptance == Acceptance::Accepted
                    && now.saturating_sub(known.last_seen) < WRITTEN_AGAIN
                    && known.not_after == presented.not_after
            })
    }

    /// Takes a server that verified, at `now` (seconds since 1970), and says what it is.
    pub fn see(&mut self, presented: &Presented, policy: OnKeyChange, now: u64) -> Verdict {
        let (seen, acceptance) = self.judge(presented, policy);
        let Some(known) = self.place_of(presented).and_then(|at| self.0.get_mut(at)) else {
            self.write(presented, acceptance, now);
            return Verdict {
                is_news: true,
                changed: true,
                seen,
                acceptance,
            };
        };
        let changed = known.acceptance != acceptance
            || known.not_after != presented.not_after
            || now.saturating_sub(known.last_seen) >= WRITTEN_AGAIN;
        if changed {
            known.acceptance = acceptance;
            known.last_seen = now;
            known.issuer = Arc::clone(&presented.issuer);
            known.names = Arc::clone(&presented.names);
            known.not_after = presented.not_after;
            known.version = presented.version.into();
            known.dnssec = presented.dnssec.to_string().into();
        }
        Verdict {
            seen,
            acceptance,
            is_news: false,
            changed,
        }
    }

    fn judge(&self, presented: &Presented, policy: OnKeyChange) -> (Seen, Acceptance) {
        let accepted = |known: &&Sighting| known.acceptance == Acceptance::Accepted;
        let same_key = |known: &&Sighting| known.key == presented.key;
        let latest = |one: &&Sighting| one.last_seen;
        let address = presented.address.to_string();
        let with_key = self.0.iter().filter(accepted).filter(same_key);
        if let Some(last) = with_key.clone().max_by_key(latest) {
            let is_here = with_key.clone().any(|known| *known.address == *address);
            let from = Arc::clone(&last.address);
            let seen = if is_here {
                Seen::Known
            } else {
                Seen::Moved { from }
            };
            return (seen, Acceptance::Accepted);
        }
        let of_entry = |known: &&Sighting| known.entry == presented.entry;
        let before = self.0.iter().filter(accepted).filter(of_entry);
        let Some(last) = before.max_by_key(latest) else {
            return (Seen::First, Acceptance::Accepted);
        };
        let acceptance = match policy {
            _ if presented.pinned => Acceptance::Accepted,
            OnKeyChange::Verify => Acceptance::Accepted,
            OnKeyChange::Alarm => Acceptance::Alarming,
            OnKeyChange::Refuse => Acceptance::Refused,
        };
        (Seen::Rotated { from: last.key }, acceptance)
    }

    /// A person accepts one key, or every one that was seen; returns what was not accepted before.
    pub fn accept(&mut self, only: Option<KeyId>) -> Vec<Sighting> {
        let mut accepted = Vec::new();
        for sighting in &mut self.0 {
            let is_meant = only.is_none_or(|key| sighting.key == key);
            if is_meant && sighting.acceptance != Acceptance::Accepted {
                sighting.acceptance = Acceptance::Accepted;
                accepted.push(sighting.clone());
            }
        }
        accepted
    }

    /// Whether a key waits to be accepted.
    #[must_use]
    pub fn is_alarming(&self) -> bool {
        self.0
            .iter()
            .any(|sighting| sighting.acceptance != Acceptance::Accepted)
    }

    fn place_of(&self, presented: &Presented) -> Option<usize> {
        let address = presented.address.to_string();
        self.0.iter().position(|known| {
            known.key == presented.key
                && *known.address == *address
                && known.entry == presented.entry
        })
    }

    fn write(&mut self, presented: &Presented, acceptance: Acceptance, now: u64) {
        if self.0.len() >= SIGHTINGS {
            // What nobody accepted gives way first: an attacker's keys must not displace the origin's.
            let rank =
                |known: &Sighting| (known.acceptance == Acceptance::Accepted, known.last_seen);
            let oldest = (0..self.0.len()).min_by_key(|at| self.0.get(*at).map(rank));
            if let Some(oldest) = oldest {
                self.0.remove(oldest);
            }
        }
        self.0.push(Sighting {
            entry: Arc::clone(&presented.entry),
            address: presented.address.to_string().into(),
            key: presented.key,
            issuer: Arc::clone(&presented.issuer),
            names: Arc::clone(&presented.names),
            not_after: presented.not_after,
            version: presented.version.into(),
            dnssec: presented.dnssec.to_string().into(),
            first_seen: now,
            last_seen: now,
            acceptance,
        });
    }
}

#[cfg(test)]
mod tests;
