//! Whose passwords are known here, and checking them.
//!
//! A file has a name in each line, a colon, and what is kept of the password: as PostgreSQL keeps it
//! (`SCRAM-SHA-256$…`), or hashed by Argon2 (`$argon2id$…`).

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use argon2::password_hash::PasswordVerifier as _;
use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, Params};
use aws_lc_rs::rand;
use tokio::sync::Semaphore;

use super::scram::{Exchange, ITERATIONS, SALT, Verifier, mac};

/// Users of one file.
const USERS: usize = 100_000;
/// The longest name.
const NAME: usize = 255;
/// The longest password that is looked at.
const PASSWORD: usize = 1024;
/// What a hash by Argon2 may cost: memory in KiB, turns, and lanes.
const MEMORY: u32 = 256 * 1024;
const TURNS: u32 = 64;
const LANES: u32 = 16;
/// Right passwords that are remembered, so that each request need not be checked at full cost.
const REMEMBERED: usize = 4096;
/// A password does not wait longer for others to be checked.
const PATIENCE: Duration = Duration::from_secs(10);
/// Passwords that are checked at once, over all workers.
static CHECKS: Semaphore = Semaphore::const_new(2);

/// Whose passwords are known.
pub struct Users {
    known: BTreeMap<Box<str>, Secret>,
    /// What nobody else knows, for marks of right passwords.
    key: [u8; 32],
    /// The same at each reading, for the salts of users that are not there.
    mocks: [u8; 32],
    /// What is asked of those who are not there.
    usual: Usual,
    right: Mutex<BTreeSet<[u8; 32]>>,
}

/// What is kept of a password.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Secret {
    Scram(Verifier),
    Argon2(Arc<str>),
}

/// What most are checked by.
#[derive(Clone, Debug)]
enum Usual {
    Scram(NonZeroU32),
    Argon2(Arc<str>),
}

/// Whether a password is the right one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    Right,
    Wrong,
    /// Too many others are being looked at.
    NotLookedAt,
}

/// What is wrong with a line of a file of users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsersMistake {
    /// The line, from 1.
    pub line: usize,
    /// What it is.
    pub what: &'static str,
}

impl std::fmt::Debug for Users {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // What is kept of passwords is nobody's business.
        write!(f, "{} users", self.known.len())
    }
}

impl PartialEq for Users {
    fn eq(&self, other: &Self) -> bool {
        self.known == other.known
    }
}

impl Users {
    /// Reads a file. From `seed` the salts of users are made that are not there: whoever asks is to see the same
    /// ones each time, as of users that are, and nobody else is to know it.
    ///
    /// # Errors
    /// What is wrong with its lines; or, at line 0, that no random numbers can be had.
    pub fn read(text: &str, seed: &[u8]) -> Result<Self, Vec<UsersMistake>> {
        let (mut known, mut mistakes) = (BTreeMap::new(), Vec::new());
        for (at, line) in text.lines().enumerate() {
            let line = line.trim_end();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let read = user(line).and_then(|(name, secret)| {
                if known.len() >= USERS {
                    return Err("there are more users than can be");
                }
                match known.insert(Box::from(name), secret) {
                    None => Ok(()),
                    Some(_) => Err("the user is there more than once"),
                }
            });
            if let Err(what) = read {
                mistakes.push(UsersMistake { line: at + 1, what });
            }
        }
        let mut key = [0; 32];
        if rand::fill(&mut key).is_err() {
            let what = "no random numbers can be had";
            mistakes.push(UsersMistake { line: 0, what });
        }
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        let usual = match known.values().next() {
            None => Usual::Scram(ITERATIONS),
            Some(Secret::Scram(verifier)) => Usual::Scram(verifier.iterations()),
            Some(Secret::Argon2(hash)) => Usual::Argon2(Arc::clone(hash)),
        };
        Ok(Self {
            known,
            key,
            mocks: mac(b"users that are not there", seed),
            usual,
            right: Mutex::default(),
        })
    }

    /// Users whose password cannot be shown by SCRAM.
    #[must_use]
    pub fn without_scram(&self) -> usize {
        let secrets = self.known.values();
        secrets
            .filter(|secret| matches!(secret, Secret::Argon2(_)))
            .count()
    }

    /// Whether a password has been found to be a user's before.
    pub(crate) fn remembers(&self, user: &[u8], password: &[u8]) -> bool {
        let mark = self.mark(user, password);
        let right = self.right.lock().unwrap_or_else(PoisonError::into_inner);
        right.contains(&mark)
    }

    fn mark(&self, user: &[u8], password: &[u8]) -> [u8; 32] {
        mac(&self.key, &[user, b"\0", password].concat())
    }

    /// Whether a password is a user's. It takes as long for one who is not there.
    ///
    /// Cancel safety: nothing is lost.
    pub(crate) async fn fits(&self, user: &[u8], password: &[u8]) -> Fit {
        if password.len() > PASSWORD {
            return Fit::Wrong;
        }
        if self.remembers(user, password) {
            return Fit::Right;
        }
        let mark = self.mark(user, password);
        let (secret, is_there) = self.secret(user);
        let password = password.to_vec();
        let Ok(Ok(permit)) = tokio::time::timeout(PATIENCE, CHECKS.acquire()).await else {
            return Fit::NotLookedAt;
        };
        let checked = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            match secret {
                Secret::Scram(verifier) => verifier.fits(&password),
                Secret::Argon2(hash) => PasswordHash::new(&hash)
                    .is_ok_and(|hash| Argon2::default().verify_password(&password, &hash).is_ok()),
            }
        });
        let is_right = checked.await.unwrap_or(false) && is_there;
        if is_right {
            let mut right = self.right.lock().unwrap_or_else(PoisonError::into_inner);
            if right.len() >= REMEMBERED {
                right.clear();
            }
            right.insert(mark);
            return Fit::Right;
        }
        Fit::Wrong
    }

    /// An exchange of SCRAM with whoever says to be a user.
    pub(crate) fn exchange(&self, user: &[u8]) -> Exchange {
        match self.known(user) {
            Some(Secret::Scram(verifier)) => Exchange::new(verifier.clone(), false),
            _ => Exchange::new(self.mock(user), true),
        }
    }

    fn known(&self, user: &[u8]) -> Option<&Secret> {
        self.known.get(std::str::from_utf8(user).ok()?)
    }

    /// What a password is checked by, and whether there is such a user.
    fn secret(&self, user: &[u8]) -> (Secret, bool) {
        if let Some(secret) = self.known(user) {
            return (secret.clone(), true);
        }
        let secret = match &self.usual {
            Usual::Scram(_) => Secret::Scram(self.mock(user)),
            Usual::Argon2(hash) => Secret::Argon2(Arc::clone(hash)),
        };
        (secret, false)
    }

    /// The same for the same name, as that of somebody who is there is.
    fn mock(&self, user: &[u8]) -> Verifier {
        let iterations = match &self.usual {
            Usual::Scram(iterations) => *iterations,
            Usual::Argon2(_) => ITERATIONS,
        };
        Verifier::mock(&mac(&self.mocks, user), iterations)
    }
}

fn user(line: &str) -> Result<(&str, Secret), &'static str> {
    let Some((name, secret)) = line.split_once(':') else {
        return Err("a line has a name, a colon, and what is kept of the password");
    };
    if name.is_empty() || name.len() > NAME || name.chars().any(char::is_control) {
        return Err("this is no name of a user");
    }
    if let Some(verifier) = Verifier::read(secret) {
        return Ok((name, Secret::Scram(verifier)));
    }
    if !secret.starts_with("$argon2id$") {
        return Err(
            "what is kept of a password begins with SCRAM-SHA-256$, as PostgreSQL keeps it, or with $argon2id$",
        );
    }
    let hash = PasswordHash::new(secret).map_err(|_| "this is no hash by Argon2")?;
    let params = Params::try_from(&hash).map_err(|_| "this is no hash by Argon2")?;
    if params.m_cost() > MEMORY || params.t_cost() > TURNS || params.p_cost() > LANES {
        return Err(
            "the hash takes more memory or time than is good: at most m=262144, t=64, p=16",
        );
    }
    if hash.hash.is_none() || hash.salt.is_none() {
        return Err("this is no hash by Argon2: its salt or its end is missing");
    }
    Ok((name, Secret::Argon2(secret.into())))
}

/// What is kept of a password, as PostgreSQL keeps it.
///
/// # Errors
/// If no random numbers can be had.
pub fn verifier(password: &[u8]) -> std::io::Result<String> {
    let mut salt = [0; SALT];
    rand::fill(&mut salt).map_err(|_| std::io::Error::other("no random numbers can be had"))?;
    Ok(Verifier::of(password, &salt, ITERATIONS).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `password`, as `argon2` of the reference implementation hashes it.
    const ARGON2: &str = "$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ$xaQIqo7bsHqjbDqvKyZTNA";

    fn line_of(text: &str) -> Vec<(usize, &'static str)> {
        let mistakes = Users::read(text, b"").unwrap_err().into_iter();
        mistakes
            .map(|mistake| (mistake.line, mistake.what))
            .collect()
    }

    #[tokio::test]
    async fn passwords_fit_their_users() {
        let verifier = verifier(b"secret").unwrap();
        let users = Users::read(
            &format!("# staff\nann:{verifier}\n\nbob:{verifier}\r\n"),
            b"",
        )
        .unwrap();
        for _ in 0..2 {
            assert_eq!(users.fits(b"ann", b"secret").await, Fit::Right);
            assert_eq!(users.fits(b"bob", b"secret").await, Fit::Right);
            assert_eq!(users.fits(b"ann", b"Secret").await, Fit::Wrong);
            assert_eq!(users.fits(b"ann", b"").await, Fit::Wrong);
            assert_eq!(users.fits(b"eve", b"secret").await, Fit::Wrong);
            assert_eq!(users.fits(b"\xff", b"secret").await, Fit::Wrong);
        }
        assert_eq!(users.fits(b"ann", &[b'a'; PASSWORD + 1]).await, Fit::Wrong);
        assert_eq!(users.without_scram(), 0);
        assert_eq!(format!("{users:?}"), "2 users");
    }

    #[tokio::test]
    async fn hashes_by_argon2_are_checked() {
        use argon2::password_hash::PasswordHasher as _;
        let params = Params::new(64, 1, 1, None).unwrap();
        let argon2 = Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
        let hash = argon2
            .hash_password_with_salt(b"secret", b"some salt of it")
            .unwrap();
        let users = Users::read(&format!("ann:{hash}\n"), b"").unwrap();
        assert_eq!(users.fits(b"ann", b"secret").await, Fit::Right);
        assert_eq!(users.fits(b"ann", b"other").await, Fit::Wrong);
        // The right password of another one is of no use to who is not there.
        assert_eq!(users.fits(b"eve", b"secret").await, Fit::Wrong);
        assert_eq!(users.without_scram(), 1);
        assert!(Users::read(&format!("ann:{ARGON2}"), b"").is_ok());
    }

    #[test]
    fn mistakes_are_told_with_their_lines() {
        let verifier = verifier(b"secret").unwrap();
        let text = format!("ann:{verifier}\nbob\nann:{verifier}\n:{verifier}\neve:md5abc\n");
        assert_eq!(
            line_of(&text),
            [
                (
                    2,
                    "a line has a name, a colon, and what is kept of the password"
                ),
                (3, "the user is there more than once"),
                (4, "this is no name of a user"),
                (
                    5,
                    "what is kept of a password begins with SCRAM-SHA-256$, as PostgreSQL keeps it, or with $argon2id$"
                ),
            ]
        );
        let dear = ARGON2.replace("m=64", "m=1048576");
        assert_eq!(line_of(&format!("ann:{dear}")).len(), 1);
        assert_eq!(line_of("ann:$argon2id$nonsense").len(), 1);
        assert_eq!(
            line_of("ann:$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ").len(),
            1
        );
    }

    #[test]
    fn who_is_not_there_looks_like_who_is() {
        let verifier = verifier(b"secret").unwrap();
        let users = Users::read(&format!("ann:{verifier}"), b"seed").unwrap();
        let answer = |user: &[u8]| {
            let mut exchange = users.exchange(user);
            let answer = exchange.begin(b"n,,n=,r=abc", &[0; 18]).unwrap();
            String::from_utf8(answer.to_vec()).unwrap()
        };
        let (ann, eve) = (answer(b"ann"), answer(b"eve"));
        assert_eq!(ann.len(), eve.len());
        assert_eq!(eve, answer(b"eve"));
        assert_ne!(eve, answer(b"bob"));
    }
}
