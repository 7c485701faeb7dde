//! What a client of PostgreSQL says before it is asked who it is, and what it is told then.
//!
//! (PostgreSQL, "Frontend/Backend Protocol": "Message Flow, Start-up" and "Message Formats";
//! `backend_startup.c`.) What could be read in two ways, by us and by a server behind us, is broken.

use std::fmt;

/// The longest start-up packet (`MAX_STARTUP_PACKET_LENGTH`).
pub const LONGEST: usize = 10_000;
/// A client asks for TLS.
const SSL_REQUEST: u32 = 80_877_103;
/// A client asks for encryption by GSSAPI.
const GSSENC_REQUEST: u32 = 80_877_104;
/// A client wants a query of another connection to be ended.
const CANCEL_REQUEST: u32 = 80_877_102;
/// A request to cancel has a process id and a key of at most so many bytes (protocol 3.2).
const LONGEST_KEY: usize = 256;
/// The bytes of a name that a server looks at (`NAMEDATALEN`, without its end).
const LONGEST_NAME: usize = 63;
/// What TLS begins with: the record type of a handshake.
const TLS: u8 = 22;

/// What a connection begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opening {
    /// More bytes are needed.
    More,
    /// TLS, without having asked for it (PostgreSQL 17 and later).
    Tls,
    /// A packet of so many bytes.
    Packet(usize, Packet),
    /// What no client of PostgreSQL says.
    Broken(Refusal),
}

/// The first packet of a client, or one that follows a refused request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// TLS is asked for.
    Ssl,
    /// Encryption by GSSAPI is asked for.
    Gss,
    /// A query of another connection is to be ended.
    Cancel,
    /// A session is to begin.
    StartUp(StartUp),
}

/// Whose session begins, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartUp {
    /// Who says to come.
    pub user: Box<[u8]>,
    /// The database that is asked for; the user's name if none is.
    pub database: Box<[u8]>,
    /// It is a connection for physical replication. One for logical replication has a database.
    pub is_replication: bool,
}

/// What a client is told that is sent away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Its SQLSTATE.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Codes of PostgreSQL ("PostgreSQL Error Codes").
pub mod code {
    /// `protocol_violation`.
    pub const PROTOCOL_VIOLATION: &str = "08P01";
    /// `feature_not_supported`.
    pub const FEATURE_NOT_SUPPORTED: &str = "0A000";
    /// `invalid_parameter_value`.
    pub const INVALID_PARAMETER_VALUE: &str = "22023";
    /// `invalid_authorization_specification`.
    pub const INVALID_AUTHORIZATION: &str = "28000";
    /// `invalid_password`.
    pub const INVALID_PASSWORD: &str = "28P01";
    /// `name_too_long`.
    pub const NAME_TOO_LONG: &str = "42622";
    /// `too_many_connections`.
    pub const TOO_MANY_CONNECTIONS: &str = "53300";
    /// `cannot_connect_now`: a client that knows several hosts tries the next one.
    pub const CANNOT_CONNECT_NOW: &str = "57P03";
}

/// Reads what has come.
#[must_use]
pub fn read(bytes: &[u8]) -> Opening {
    let Some((head, body)) = bytes.split_first_chunk::<4>() else {
        return match bytes.first() {
            Some(&TLS) => Opening::Tls,
            _ => Opening::More,
        };
    };
    if head.first() == Some(&TLS) {
        return Opening::Tls;
    }
    let length = u32::from_be_bytes(*head) as usize;
    if !(8..=LONGEST).contains(&length) {
        return broken("invalid length of startup packet");
    }
    let Some((code, _)) = body.split_first_chunk::<4>() else {
        return Opening::More;
    };
    let code = u32::from_be_bytes(*code);
    let is_whole = match code {
        SSL_REQUEST | GSSENC_REQUEST => length == 8,
        CANCEL_REQUEST => (12..=12 + LONGEST_KEY).contains(&length),
        _ => true,
    };
    if !is_whole {
        return broken("invalid length of startup packet");
    }
    let Some(packet) = bytes.get(8..length) else {
        return Opening::More;
    };
    let packet = match code {
        SSL_REQUEST => Ok(Packet::Ssl),
        GSSENC_REQUEST => Ok(Packet::Gss),
        CANCEL_REQUEST => Ok(Packet::Cancel),
        _ => start_up(code, packet).map(Packet::StartUp),
    };
    match packet {
        Ok(packet) => Opening::Packet(length, packet),
        Err(refusal) => Opening::Broken(refusal),
    }
}

fn broken(what: &str) -> Opening {
    Opening::Broken(refusal(code::PROTOCOL_VIOLATION, what))
}

fn refusal(code: &'static str, message: impl Into<String>) -> Refusal {
    let message = message.into();
    Refusal { code, message }
}

fn start_up(version: u32, mut rest: &[u8]) -> Result<StartUp, Refusal> {
    let (major, minor) = (version >> 16, version & 0xffff);
    if major != 3 {
        let what = format!(
            "unsupported frontend protocol {major}.{minor}: server supports 3.0 and later 3.x"
        );
        return Err(refusal(code::FEATURE_NOT_SUPPORTED, what));
    }
    let layout = || {
        let what = "invalid startup packet layout: expected terminator as last byte";
        refusal(code::PROTOCOL_VIOLATION, what)
    };
    let (mut user, mut database, mut replication) = (None, None, None);
    loop {
        let (name, after) = word(rest).ok_or_else(layout)?;
        if name.is_empty() {
            if !after.is_empty() {
                return Err(layout());
            }
            break;
        }
        let (value, after) = word(after).ok_or_else(layout)?;
        rest = after;
        let slot = match name {
            b"user" => &mut user,
            b"database" => &mut database,
            b"replication" => &mut replication,
            _ => continue,
        };
        // A server behind us may take the other one.
        if slot.replace(value).is_some() {
            let name = String::from_utf8_lossy(name);
            let what = format!("startup parameter \"{name}\" is there more than once");
            return Err(refusal(code::PROTOCOL_VIOLATION, what));
        }
    }
    let Some(user) = user.filter(|user| !user.is_empty()) else {
        let what = "no PostgreSQL user name specified in startup packet";
        return Err(refusal(code::INVALID_AUTHORIZATION, what));
    };
    let database = database
        .filter(|database| !database.is_empty())
        .unwrap_or(user);
    // What is longer a server cuts off, and so it may be another name to it than it is to a rule.
    for (what, name) in [("user", user), ("database", database)] {
        if name.len() > LONGEST_NAME {
            let what = format!("the {what} name has more than {LONGEST_NAME} bytes");
            return Err(refusal(code::NAME_TOO_LONG, what));
        }
    }
    Ok(StartUp {
        user: user.into(),
        database: database.into(),
        is_replication: match replication {
            None => false,
            // Logical: it has a database, and rules are for that.
            Some(b"database") => false,
            Some(value) => boolean(value).ok_or_else(|| {
                let value = String::from_utf8_lossy(value);
                let what = format!("invalid value for parameter \"replication\": \"{value}\"");
                refusal(code::INVALID_PARAMETER_VALUE, what)
            })?,
        },
    })
}

/// A text up to its NUL, and what is behind it.
fn word(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(0, bytes)?;
    Some((bytes.get(..end)?, bytes.get(end + 1..)?))
}

/// `bool.c`: `parse_bool_with_len`.
fn boolean(value: &[u8]) -> Option<bool> {
    let value = value.to_ascii_lowercase();
    let begins = |word: &[u8], least: usize| value.len() >= least && word.starts_with(&value);
    if begins(b"true", 1) || begins(b"yes", 1) || value == b"on" || value == b"1" {
        return Some(true);
    }
    let is_false = begins(b"false", 1) || begins(b"no", 1) || begins(b"off", 2) || value == b"0";
    is_false.then_some(false)
}

/// An `ErrorResponse` that ends the connection.
#[must_use]
pub fn error_response(refusal: &Refusal) -> Vec<u8> {
    let mut fields = Vec::new();
    let all = [
        (b'S', "FATAL"),
        (b'V', "FATAL"),
        (b'C', refusal.code),
        (b'M', refusal.message.as_str()),
    ];
    for (field, text) in all {
        fields.push(field);
        // A NUL would end it.
        fields.extend(text.bytes().filter(|byte| *byte != 0));
        fields.push(0);
    }
    fields.push(0);
    message(b'E', &fields)
}

/// A request for a proof of who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked<'a> {
    /// Its password, in clear text.
    ClearText,
    /// One of these ways of SASL.
    Sasl(&'a [&'a str]),
    /// A step of SASL.
    SaslContinue(&'a [u8]),
    /// The last step of SASL.
    SaslFinal(&'a [u8]),
}

/// An `Authentication…` message.
#[must_use]
pub fn authentication(asked: Asked<'_>) -> Vec<u8> {
    let (kind, rest): (u32, Vec<u8>) = match asked {
        Asked::ClearText => (3, Vec::new()),
        Asked::Sasl(ways) => {
            let each = ways.iter().flat_map(|way| [way.as_bytes(), b"\0"].concat());
            (10, each.chain([0]).collect())
        }
        Asked::SaslContinue(data) => (11, data.to_vec()),
        Asked::SaslFinal(data) => (12, data.to_vec()),
    };
    message(b'R', &[&kind.to_be_bytes()[..], &rest].concat())
}

/// Whether a server's first words ask the client who it is, or refuse it; `None` while that is not known. One
/// that is content says `AuthenticationOk`.
#[must_use]
pub fn asks(mut bytes: &[u8]) -> Option<bool> {
    loop {
        let (kind, rest) = bytes.split_first()?;
        let length = u32::from_be_bytes(*rest.first_chunk::<4>()?) as usize;
        match kind {
            // `NegotiateProtocolVersion`, and notices, come before.
            b'v' | b'N' => bytes = bytes.get(length.max(4) + 1..)?,
            b'R' => return Some(*rest.get(4..)?.first_chunk::<4>()? != [0; 4]),
            kind => return Some(*kind == b'E'),
        }
    }
}

/// What a client says when it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// More bytes are needed.
    More,
    /// A message of so many bytes: this is inside.
    Whole(usize, Vec<u8>),
    /// It is none.
    Broken,
}

/// The longest answer (`PG_MAX_AUTH_TOKEN_LENGTH`).
pub const LONGEST_ANSWER: usize = 65_535;

/// Reads the answer to a request for a proof: a message of type `p`.
#[must_use]
pub fn answer(bytes: &[u8]) -> Answer {
    match bytes.first() {
        None => return Answer::More,
        Some(b'p') => {}
        Some(_) => return Answer::Broken,
    }
    let Some(length) = bytes.get(1..5).and_then(|length| length.try_into().ok()) else {
        return Answer::More;
    };
    let length = u32::from_be_bytes(length) as usize;
    if !(4..=LONGEST_ANSWER).contains(&length) {
        return Answer::Broken;
    }
    match bytes.get(5..=length) {
        Some(inside) => Answer::Whole(length + 1, inside.to_vec()),
        None => Answer::More,
    }
}

/// The password in an answer to [`Asked::ClearText`].
#[must_use]
pub fn password(answer: &[u8]) -> Option<&[u8]> {
    let password = answer.strip_suffix(&[0])?;
    (!password.contains(&0)).then_some(password)
}

/// The way that was chosen, and the first message, in the first answer to [`Asked::Sasl`].
#[must_use]
pub fn sasl_initial(answer: &[u8]) -> Option<(&[u8], &[u8])> {
    let (way, rest) = word(answer)?;
    let (length, data) = rest.split_first_chunk::<4>()?;
    let length = u32::from_be_bytes(*length) as usize;
    (length == data.len()).then_some((way, data))
}

fn message(kind: u8, inside: &[u8]) -> Vec<u8> {
    let length = u32::try_from(inside.len() + 4).unwrap_or(u32::MAX);
    [&[kind][..], &length.to_be_bytes(), inside].concat()
}

#[cfg(test)]
mod tests;
