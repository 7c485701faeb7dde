//! What passes through a listener, made readable for whoever looks for the cause of trouble. Secrets are masked here,
//! before anything leaves the process.

mod head;
mod postgres;

use crate::escape::escaped;

pub use head::masked;
pub use postgres::{Reader, Side};

/// Bytes in a line of [`hex`].
const LINE: usize = 16;
/// What stands for a secret.
const MASK: &str = "•••";
/// Names of fields, parameters and columns that have these in them have secrets.
const SECRET: [&str; 14] = [
    "auth",
    "jwt",
    "bearer",
    "cookie",
    "token",
    "secret",
    "password",
    "passwd",
    "api-key",
    "apikey",
    "api_key",
    "credential",
    "session",
    "signature",
];

/// And so have those of exactly these names.
const SECRETS: [&str; 8] = [
    "key",
    "sig",
    "code",
    "pwd",
    "pass",
    "otp",
    "pin",
    "sec-websocket-protocol",
];

/// Whether something of this name is a secret.
fn is_secret(name: &str) -> bool {
    let name = name.trim().to_ascii_lowercase();
    SECRET.iter().any(|secret| name.contains(secret)) || SECRETS.contains(&name.as_str())
}

/// Bytes as people read them: lines of sixteen in hexadecimal, and what of them is text.
#[must_use]
pub fn hex(bytes: &[u8]) -> Vec<String> {
    let lines = bytes.chunks(LINE).zip(0..);
    lines
        .map(|(line, number)| {
            let digits: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
            let text = line.iter().map(|byte| match byte {
                b' '..=b'~' => char::from(*byte),
                _ => '.',
            });
            let width = LINE * 3 - 1;
            let at = number * LINE;
            format!(
                "{at:04x}  {:width$}  {}",
                digits.join(" "),
                text.collect::<String>()
            )
        })
        .collect()
}

/// Text of others, in which nothing moves the cursor.
fn plain(bytes: &[u8]) -> String {
    escaped(&String::from_utf8_lossy(bytes)).into_owned()
}

#[cfg(test)]
mod tests;
