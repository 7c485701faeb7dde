//! What a client is told that does not come in, in PostgreSQL's words where it has some.

use std::net::IpAddr;

use ipreconnect::Error;
use ipreconnect::core::access::{Method, Source};
use ipreconnect::core::postgres::{Refusal, StartUp, code};

use crate::access;

/// What PostgreSQL would tell a client that its rules do not let in.
pub(crate) fn refusal(
    refusal: &access::Refusal,
    source: Source,
    is_tls: bool,
    start_up: &StartUp,
) -> Refusal {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let user = text(&start_up.user);
    let from = match source {
        Source::Local => "[local]".to_owned(),
        Source::Ip(address) => address.to_string(),
    };
    let encryption = if is_tls {
        "SSL encryption"
    } else {
        "no encryption"
    };
    let whom = match start_up.is_replication {
        true => format!("host \"{from}\", user \"{user}\", {encryption}"),
        false => {
            let database = text(&start_up.database);
            format!("host \"{from}\", user \"{user}\", database \"{database}\", {encryption}")
        }
    };
    let kind = match start_up.is_replication {
        true => "replication connection",
        false => "connection",
    };
    let message = match refusal {
        access::Refusal::NoRule if start_up.is_replication => {
            format!("no pg_hba.conf entry for replication connection from {whom}")
        }
        access::Refusal::NoRule => format!("no pg_hba.conf entry for {whom}"),
        access::Refusal::Header(why) => format!("not let in: {why}"),
        access::Refusal::Password(user) | access::Refusal::Guesses(user) => {
            format!("password authentication failed for user \"{user}\"")
        }
        access::Refusal::Rule { why, .. } if *why == access::NO_CERTIFICATE => {
            "connection requires a valid client certificate".to_owned()
        }
        access::Refusal::Rule { method, .. } => match method {
            Method::Reject => {
                format!("pg_hba.conf rejects {kind} for {whom}")
            }
            Method::Peer => format!("Peer authentication failed for user \"{user}\""),
            Method::Password | Method::ScramSha256 => {
                format!("password authentication failed for user \"{user}\"")
            }
            Method::Trust => format!("\"trust\" authentication failed for user \"{user}\""),
            Method::Cert | Method::Other(_) => {
                format!("certificate authentication failed for user \"{user}\"")
            }
        },
    };
    let is_password = message.starts_with("password ");
    let code = match is_password {
        true => code::INVALID_PASSWORD,
        false => code::INVALID_AUTHORIZATION,
    };
    Refusal { code, message }
}

/// What a client is told whose origin is away. Who is elsewhere, and has perhaps shown nothing yet, need not know
/// which one that is, and since when.
pub(crate) fn away(error: &Error, source: Option<IpAddr>) -> Refusal {
    let is_here = source.is_none_or(|source| source.is_loopback());
    Refusal {
        code: code::CANNOT_CONNECT_NOW,
        message: match is_here {
            true => error.to_string(),
            false => {
                "the database server cannot be reached at the moment; please try again".to_owned()
            }
        },
    }
}

/// What a client is told whose server was lost before it said anything.
pub(crate) fn lost() -> Refusal {
    Refusal {
        code: code::CANNOT_CONNECT_NOW,
        message: "the database server was lost before it answered; please try again".to_owned(),
    }
}

/// What a client is told that its server lets in without asking, where a rule wants it to be asked.
pub(crate) fn unasked(place: &str) -> Refusal {
    Refusal {
        code: code::INVALID_AUTHORIZATION,
        message: format!(
            "the server lets everybody in who comes from here, and the rule at {place} wants them to be asked who they are"
        ),
    }
}

/// What a client is told that asks for no name, where names decide on where it goes.
pub(crate) fn nameless() -> Refusal {
    Refusal {
        code: code::INVALID_AUTHORIZATION,
        message: "clients say inside TLS which server they want: connect with sslmode=require"
            .to_owned(),
    }
}
