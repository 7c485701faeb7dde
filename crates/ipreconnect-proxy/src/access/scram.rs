//! SCRAM-SHA-256 (RFC 5802, RFC 7677), as PostgreSQL speaks it, and what it keeps of a password.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac::{self, HMAC_SHA256};
use aws_lc_rs::pbkdf2::{self, PBKDF2_HMAC_SHA256};
use data_encoding::BASE64;
use std::num::NonZeroU32;

/// Iterations of PostgreSQL's own verifiers (`scram_iterations`).
pub(super) const ITERATIONS: NonZeroU32 = NonZeroU32::new(4096).unwrap();
/// More than this nobody asks for.
const MOST: u32 = 10_000_000;
/// Bytes of a salt that we make.
pub(super) const SALT: usize = 16;
/// The longest salt that is read.
const LONGEST_SALT: usize = 1024;

/// What is kept of a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verifier {
    iterations: NonZeroU32,
    salt: Vec<u8>,
    stored: [u8; 32],
    server: [u8; 32],
}

impl Verifier {
    /// As `pg_authid.rolpassword` has it: `SCRAM-SHA-256$iterations:salt$stored:server`.
    pub(super) fn read(text: &str) -> Option<Self> {
        let (numbers, keys) = text.strip_prefix("SCRAM-SHA-256$")?.split_once('$')?;
        let (iterations, salt) = numbers.split_once(':')?;
        let (stored, server) = keys.split_once(':')?;
        let iterations: NonZeroU32 = iterations.parse().ok()?;
        let salt = BASE64.decode(salt.as_bytes()).ok()?;
        let key = |text: &str| BASE64.decode(text.as_bytes()).ok()?.try_into().ok();
        if iterations.get() > MOST || salt.is_empty() || salt.len() > LONGEST_SALT {
            return None;
        }
        Some(Self {
            iterations,
            salt,
            stored: key(stored)?,
            server: key(server)?,
        })
    }

    /// Of a password.
    pub(super) fn of(password: &[u8], salt: &[u8], iterations: NonZeroU32) -> Self {
        let salted = salted(password, salt, iterations);
        Self {
            iterations,
            salt: salt.to_vec(),
            stored: hash(&mac(&salted, b"Client Key")),
            server: mac(&salted, b"Server Key"),
        }
    }

    /// One that no password fits, with the salt that always goes with this seed.
    pub(super) fn mock(seed: &[u8; 32], iterations: NonZeroU32) -> Self {
        Self {
            iterations,
            salt: seed.iter().copied().take(SALT).collect(),
            stored: [0; 32],
            server: [0; 32],
        }
    }

    pub(super) fn iterations(&self) -> NonZeroU32 {
        self.iterations
    }

    /// Whether it is of this password.
    pub(super) fn fits(&self, password: &[u8]) -> bool {
        let salted = salted(password, &self.salt, self.iterations);
        let stored = hash(&mac(&salted, b"Client Key"));
        verify_slices_are_equal(&stored, &self.stored).is_ok()
    }
}

impl std::fmt::Display for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [salt, stored, server] =
            [&self.salt[..], &self.stored, &self.server].map(|bytes| BASE64.encode(bytes));
        write!(
            f,
            "SCRAM-SHA-256${}:{salt}${stored}:{server}",
            self.iterations
        )
    }
}

/// A password as it is hashed (RFC 4013), or as it is where it cannot be so.
fn prepared(password: &[u8]) -> Vec<u8> {
    match std::str::from_utf8(password).map(stringprep::saslprep) {
        Ok(Ok(text)) if !text.is_empty() => text.as_bytes().to_vec(),
        _ => password.to_vec(),
    }
}

fn salted(password: &[u8], salt: &[u8], iterations: NonZeroU32) -> [u8; 32] {
    let mut out = [0; 32];
    pbkdf2::derive(
        PBKDF2_HMAC_SHA256,
        iterations,
        salt,
        &prepared(password),
        &mut out,
    );
    out
}

pub(super) fn mac(key: &[u8], bytes: &[u8]) -> [u8; 32] {
    let key = hmac::Key::new(HMAC_SHA256, key);
    let mut out = [0; 32];
    out.copy_from_slice(hmac::sign(&key, bytes).as_ref());
    out
}

fn hash(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}

/// The server's side of one exchange: what the client says first, what it says then, and whether it knows the
/// password.
#[derive(Debug)]
pub(crate) struct Exchange {
    verifier: Verifier,
    /// No password fits: nobody has that name.
    is_mock: bool,
    /// The header of the client's first message, and the rest of it.
    header: Vec<u8>,
    first: Vec<u8>,
    nonce: Vec<u8>,
    answer: Vec<u8>,
}

impl Exchange {
    pub(super) fn new(verifier: Verifier, is_mock: bool) -> Self {
        Self {
            verifier,
            is_mock,
            header: Vec::new(),
            first: Vec::new(),
            nonce: Vec::new(),
            answer: Vec::new(),
        }
    }

    /// Takes the client's first message; the answer goes back. `None` if it is none.
    pub(crate) fn begin(&mut self, message: &[u8], nonce: &[u8; 18]) -> Option<&[u8]> {
        // Who wants channel binding, where it was not offered, is misled by somebody.
        let header: &[u8] = [&b"n,,"[..], b"y,,"]
            .into_iter()
            .find(|header| message.starts_with(header))?;
        let first = message.get(header.len()..)?;
        let mut parts = first.split(|byte| *byte == b',');
        // The name is the one that was said before.
        parts.next()?.strip_prefix(b"n=")?;
        let theirs = parts.next()?.strip_prefix(b"r=")?;
        let is_printable = |byte: &u8| (0x21..=0x7e).contains(byte);
        if theirs.is_empty() || !theirs.iter().all(is_printable) {
            return None;
        }
        self.header = header.to_vec();
        self.first = first.to_vec();
        self.nonce = [theirs, BASE64.encode(nonce).as_bytes()].concat();
        let salt = BASE64.encode(&self.verifier.salt);
        let rest = format!(",s={salt},i={}", self.verifier.iterations);
        self.answer = [b"r=", self.nonce.as_slice(), rest.as_bytes()].concat();
        Some(&self.answer)
    }

    /// Takes the client's last message: `Some` if it knows the password, and then the answer.
    pub(crate) fn end(&self, message: &[u8]) -> Option<Vec<u8>> {
        let at = message.windows(3).rposition(|window| window == b",p=")?;
        let (without, proof) = message.split_at_checked(at)?;
        let proof: [u8; 32] = BASE64.decode(proof.get(3..)?).ok()?.try_into().ok()?;
        let mut parts = without.split(|byte| *byte == b',');
        let binding = BASE64.decode(parts.next()?.strip_prefix(b"c=")?).ok()?;
        let nonce = parts.next()?.strip_prefix(b"r=")?;
        if binding != self.header || nonce != self.nonce || self.nonce.is_empty() {
            return None;
        }
        let all = [&self.first[..], b",", &self.answer, b",", without].concat();
        let signature = mac(&self.verifier.stored, &all);
        let mut key = [0; 32];
        for ((key, proof), signature) in key.iter_mut().zip(proof).zip(signature) {
            *key = proof ^ signature;
        }
        let is_right = verify_slices_are_equal(&hash(&key), &self.verifier.stored).is_ok();
        let answer = BASE64.encode(&mac(&self.verifier.server, &all));
        (is_right && !self.is_mock).then(|| format!("v={answer}").into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7677, section 3.
    #[test]
    fn the_exchange_of_the_rfc() {
        let salt = BASE64.decode(b"W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let verifier = Verifier::of(b"pencil", &salt, ITERATIONS);
        let mut exchange = Exchange::new(verifier, false);
        exchange
            .begin(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO", &[0; 18])
            .unwrap();
        // The nonce of the RFC is no base64, and so it is put in place of ours.
        let nonce = b"rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        exchange.nonce = nonce.to_vec();
        exchange.answer = [b"r=", &nonce[..], b",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"].concat();
        let last = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        assert_eq!(
            exchange.end(last).unwrap(),
            b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
        );
        let mut wrong = last.to_vec();
        wrong[last.len() - 5] ^= 1;
        assert_eq!(exchange.end(&wrong), None);
    }

    #[test]
    fn verifiers_are_read_as_they_are_written() {
        let verifier = Verifier::of("pässword".as_bytes(), &[7; SALT], ITERATIONS);
        let text = verifier.to_string();
        assert_eq!(Verifier::read(&text), Some(verifier.clone()));
        assert!(verifier.fits("pässword".as_bytes()));
        assert!(!verifier.fits(b"password"));
        for wrong in [
            "SCRAM-SHA-256$0:c2FsdA==$YQ==:YQ==",
            "SCRAM-SHA-256$4096:c2FsdA==$YQ==:YQ==",
            "SCRAM-SHA-256$4096:$YQ==:YQ==",
            "SCRAM-SHA-256$99999999999:c2FsdA==$YQ==:YQ==",
            "md5abc",
            "",
        ] {
            assert_eq!(Verifier::read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_not_offered_is_not_taken() {
        let verifier = Verifier::of(b"pencil", &[7; SALT], ITERATIONS);
        let mut exchange = Exchange::new(verifier, false);
        for wrong in [
            &b"p=tls-server-end-point,,n=,r=abc"[..],
            b"n,a=other,n=,r=abc",
            b"n,,m=ext,n=,r=abc",
            b"n,,n=,r=",
            b"n,,n=,r=a b",
            b"n,,n=",
            b"",
        ] {
            assert!(exchange.begin(wrong, &[0; 18]).is_none());
        }
        assert!(exchange.end(b"c=biws,r=,p=AAAA").is_none());
        exchange.begin(b"y,,n=,r=abc", &[0; 18]).unwrap();
        // The header is the one that was sent.
        assert!(
            exchange
                .end(b"c=biws,r=abcAAAAAAAAAAAAAAAAAAAAAAAA,p=AAAA")
                .is_none()
        );
    }
}
