//! The question: a whole connection, proven as a client's is, over which the endpoint is asked how it is.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use h2::client::Builder;
use http::Request;
use http::header::{ACCEPT, USER_AGENT};
use ipreconnect_core::address::{Address, EndpointId, EntryId};
use ipreconnect_core::failure::{Cause, Failure};
use ipreconnect_core::origin::Check;
use ipreconnect_core::question::{AGENT, ANSWER, HttpQuestion, Judgement, Question, unhealthy};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{open, proof};
use crate::clock;
use crate::dial::{self, Dialer};
use crate::link::Link;
use crate::meter::{Meter, Usage};
use crate::shared::Shared;
use crate::tls;

/// How long a server may take to end a connection of its own accord, so that its log has no reset.
const FAREWELL: Duration = Duration::from_millis(50);
/// What is read of the rest of an answer.
const REST: u64 = 64 * 1024;

/// Asks the endpoint what the settings say. Returns how long it took until it could be asked.
///
/// Cancel safety: dropping the future ends the probe.
pub(crate) async fn question(
    shared: &Shared,
    dialer: Dialer,
    (endpoint, entry): (EndpointId, EntryId),
    address: &Address,
    patience: Duration,
) -> Result<Duration, Failure> {
    let settings = shared.settings.load_full();
    let Check::Question(question) = &settings.supervisor.check else {
        return proof(shared, dialer, entry, address, patience).await;
    };
    let began = clock::now();
    let mut took = None;
    let asked = async {
        let (socket, session) = open(shared, dialer, entry, address).await?;
        took = Some(began.elapsed());
        // Nothing is counted of it: it is no client's.
        let usage = Usage::begin(&Arc::<Meter>::default());
        let mut link = Link::new(socket, session, endpoint, address.clone(), usage);
        match question {
            Question::Http(question) if question.is_h2 => ask_in_h2(link, question).await,
            question => {
                ask(&mut link, question).await?;
                let (mut rest, mut nowhere) = ((&mut link).take(REST), tokio::io::sink());
                let rest = tokio::io::copy(&mut rest, &mut nowhere);
                // How it ends says nothing more.
                let _ = tokio::time::timeout(FAREWELL, rest).await;
                Ok(())
            }
        }
    };
    let verdict = tokio::time::timeout(patience, asked).await;
    match (verdict, took) {
        (Ok(Ok(())), took) => Ok(took.unwrap_or_default()),
        (Ok(Err(failure)), _) => Err(failure),
        (Err(_), Some(_)) => Err(unhealthy(&format!("was not answered within {patience:?}"))),
        (Err(_), None) => Err(Failure::new(Cause::TimedOut)),
    }
}

async fn ask(link: &mut Link, question: &Question) -> Result<(), Failure> {
    let bytes = question.bytes(link.address());
    let sent = async {
        link.write_all(&bytes).await?;
        link.flush().await
    };
    sent.await.map_err(lost)?;
    let mut answer = Vec::new();
    loop {
        match question.judge(&answer) {
            Judgement::Good => return Ok(()),
            Judgement::Bad(failure) => return Err(failure),
            Judgement::Open => {}
        }
        let room = ANSWER.saturating_sub(answer.len()) as u64;
        match link.take(room).read_buf(&mut answer).await {
            Ok(0) => return Err(question.judge_end(&answer)),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(question.judge_end(&answer));
            }
            Err(error) => return Err(lost(error)),
        }
    }
}

async fn ask_in_h2(link: Link, question: &HttpQuestion) -> Result<(), Failure> {
    let scheme = match link.tls().map(|tls| tls.alpn() == Some(b"h2")) {
        Some(false) => {
            let why = "the origin did not agree to HTTP/2 (ALPN)";
            return Err(Failure::with_detail(Cause::Handshake, why));
        }
        Some(true) => "https",
        None => "http",
    };
    let host = question.host_at(link.address());
    let request = Request::get(format!("{scheme}://{host}{}", question.path))
        .header(USER_AGENT, AGENT)
        .header(ACCEPT, "*/*")
        .body(())
        .map_err(|error| unhealthy(&format!("cannot be asked: {error}")))?;
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        .max_header_list_size(u32::try_from(ANSWER).unwrap_or(u32::MAX));
    let opened = builder.handshake::<_, &'static [u8]>(link).await;
    let (sender, mut connection) = opened.map_err(lost_in_h2)?;
    let talk = async {
        let (answer, _) = sender.ready().await?.send_request(request, true)?;
        Ok(answer.await?.status().as_u16())
    };
    let status = tokio::select! {
        biased;
        status = talk => status.map_err(lost_in_h2)?,
        ended = &mut connection => return Err(match ended {
            Ok(()) => unhealthy("was not answered: the server closed the connection"),
            Err(error) => lost_in_h2(error),
        }),
    };
    // With nothing left to ask, it is ended in order.
    let _ = tokio::time::timeout(FAREWELL, connection).await;
    match question.judge(status) {
        Judgement::Bad(failure) => Err(failure),
        Judgement::Good | Judgement::Open => Ok(()),
    }
}

fn lost_in_h2(error: h2::Error) -> Failure {
    let said = error.to_string();
    match error.into_io() {
        Some(error) => lost(error),
        None => unhealthy(&format!("was not answered: {said}")),
    }
}

/// The connection is lost before the answer. A server that refuses our certificate says so this late.
fn lost(error: io::Error) -> Failure {
    match error.downcast::<rustls::Error>() {
        Ok(error) => tls::failure_of(&error),
        Err(error) => unhealthy(&format!("was not answered: {}", dial::failure(&error))),
    }
}
