//! Having a client show that it knows the password of its name.

use std::time::Duration;

use aws_lc_rs::rand;
use ipreconnect::core::access::Source;
use ipreconnect::core::postgres::{self, Answer, Asked, LONGEST_ANSWER, Refusal, StartUp, code};
use ipreconnect::socket::Socket;
use tokio::io::Interest;

use super::talk::{Guess, Talk, Turned};
use crate::access::{self, Fit, Users, Way};

/// For the answers to what is asked.
const ANSWERS: Duration = Duration::from_secs(30);

/// Has a client show that it knows the password of its name.
///
/// Cancel safety: the connection is of no use afterwards.
pub(crate) async fn authenticate(
    talk: &mut Talk<'_>,
    (source, start_up): (Source, &StartUp),
    way: Way,
    users: &Users,
) -> Result<(), Turned> {
    let wrong = || Refusal {
        code: code::INVALID_PASSWORD,
        message: format!(
            "password authentication failed for user \"{}\"",
            String::from_utf8_lossy(&start_up.user)
        ),
    };
    if way == Way::ClearText && talk.tls.is_none() && source != Source::Local {
        return Err(Refusal {
            code: code::INVALID_AUTHORIZATION,
            message: "a password in clear text is taken over TLS only".to_owned(),
        }
        .into());
    }
    let user = &start_up.user;
    let asked = async {
        match way {
            Way::ClearText => clear_text(talk).await.map(Shown::ClearText),
            Way::Scram => scram(talk, user, users).await,
        }
    };
    let shown = match tokio::time::timeout(ANSWERS, asked).await {
        Ok(shown) => shown?,
        Err(_) => {
            let why = format!("it was asked for a password, and did not answer within {ANSWERS:?}");
            return Err(Turned::Gone(why));
        }
    };
    let is_known = || match &shown {
        Shown::ClearText(password) => users.remembers(user, password),
        Shown::Proof(..) => false,
    };
    if is_known() {
        return Ok(());
    }
    let not_looked_at = || Turned::Guessed(wrong(), Guess::NotLookedAt);
    let Some(attempt) = access::attempt(source, user, is_known).await else {
        return Err(not_looked_at());
    };
    let proof = match &shown {
        // An empty one is none, as for a server.
        Shown::ClearText(password) if password.is_empty() => None,
        Shown::ClearText(password) => match users.fits(user, password).await {
            Fit::Right => Some(Vec::new()),
            Fit::Wrong => None,
            Fit::NotLookedAt => return Err(not_looked_at()),
        },
        Shown::Proof(exchange, last) => exchange.end(last),
    };
    let Some(proof) = proof else {
        let due = attempt.failed();
        // Who does not wait for the answer need not be kept.
        tokio::select! {
            () = tokio::time::sleep_until(due.into()) => {}
            () = gone(talk.client) => {}
        }
        return Err(Turned::Guessed(wrong(), Guess::Wrong));
    };
    drop(attempt);
    if let Shown::Proof(..) = shown {
        talk.say(&postgres::authentication(Asked::SaslFinal(&proof)))
            .await?;
    }
    Ok(())
}

/// What a client has shown.
enum Shown {
    ClearText(Vec<u8>),
    /// The last message of an exchange.
    Proof(Box<access::Exchange>, Vec<u8>),
}

/// Waits until a client leaves.
async fn gone(client: &Socket) {
    loop {
        let Ok(mut guard) = client.ready(Interest::READABLE | Interest::ERROR).await else {
            return;
        };
        if guard.ready().is_read_closed() || guard.ready().is_error() {
            return;
        }
        guard.clear_ready();
    }
}

async fn ask(talk: &mut Talk<'_>, asked: Asked<'_>) -> Result<Vec<u8>, Turned> {
    talk.say(&postgres::authentication(asked)).await?;
    let (_, answer) = talk
        .whole(LONGEST_ANSWER, |bytes| match postgres::answer(bytes) {
            Answer::More => None,
            Answer::Whole(length, inside) => Some((length, Some(inside))),
            Answer::Broken => Some((0, None)),
        })
        .await?;
    answer.ok_or_else(|| {
        Turned::Away(Refusal {
            code: code::PROTOCOL_VIOLATION,
            message: "expected password response".to_owned(),
        })
    })
}

async fn clear_text(talk: &mut Talk<'_>) -> Result<Vec<u8>, Turned> {
    let answer = ask(talk, Asked::ClearText).await?;
    match postgres::password(&answer) {
        Some(password) => Ok(password.to_vec()),
        None => Err(malformed("invalid password packet size")),
    }
}

async fn scram(talk: &mut Talk<'_>, user: &[u8], users: &Users) -> Result<Shown, Turned> {
    const NAME: &str = "SCRAM-SHA-256";
    let answer = ask(talk, Asked::Sasl(&[NAME])).await?;
    let first = match postgres::sasl_initial(&answer) {
        Some((way, first)) if way == NAME.as_bytes() => first,
        Some(_) => {
            return Err(malformed(
                "client selected an invalid SASL authentication mechanism",
            ));
        }
        None => return Err(malformed("malformed SCRAM message")),
    };
    let mut nonce = [0; 18];
    if rand::fill(&mut nonce).is_err() {
        return Err(Turned::Gone("no random numbers can be had".to_owned()));
    }
    let mut exchange = users.exchange(user);
    let Some(answer) = exchange.begin(first, &nonce) else {
        return Err(malformed("malformed SCRAM message"));
    };
    let answer = answer.to_vec();
    let last = ask(talk, Asked::SaslContinue(&answer)).await?;
    Ok(Shown::Proof(Box::new(exchange), last))
}

fn malformed(what: &str) -> Turned {
    Turned::Away(Refusal {
        code: code::PROTOCOL_VIOLATION,
        message: what.to_owned(),
    })
}
