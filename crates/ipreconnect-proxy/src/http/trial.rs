//! One sending of a request, to one endpoint.

use std::future::Future;
use std::io::ErrorKind;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use ipreconnect::core::address::EndpointId;
use ipreconnect::core::failure::{Cause, Failure};
use ipreconnect::core::http::{Method, Outcome, Parsed, ResponseBody, ResponseError, ResponseHead};
use ipreconnect::core::origin::Event;
use ipreconnect::sense::tcp::counts_bytes_sent;
use tokio::time::Sleep;

use super::buffer;
use super::h2::Word;
use super::line::Upstream;
use super::pool;
use super::record::Shown;
use super::window::Window;
use super::{Behind, HEAD};

/// An answer with a body no longer than this is told when that has begun to come, or after so long: until then it can
/// be asked for again. Servers send the two apart, and may be killed in between.
const SHORT: u64 = 16 * 1024;
const AWAITED: Duration = Duration::from_millis(20);
/// A connection that was not used for so long may be closed by an origin in good health.
const YOUNG: Duration = Duration::from_secs(1);

/// How the connection of a request was lost before its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// It could not be sent, or was reset.
    Reset,
    /// The origin closed it.
    Closed,
    /// The connection was ended by order.
    Condemned,
    /// Its endpoint fell silent.
    Mute,
    /// What came is no answer.
    Nonsense(ResponseError),
    /// The head of the answer is too long.
    TooLong,
    /// The request cannot be said in the origin's version of HTTP.
    Unsayable,
}

impl Loss {
    /// As traces tell it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Reset => "reset",
            Self::Closed => "closed",
            Self::Condemned => "ended by order",
            Self::Mute => "silent",
            Self::Nonsense(_) | Self::TooLong => "no answer of HTTP",
            Self::Unsayable => "cannot be said",
        }
    }
}

/// Whether what was sent before the request can be told from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Evidence {
    /// It is not needed: the request may be sent twice anyway.
    Needless,
    /// So many bytes had been sent.
    Before(u64),
    /// The connection has none.
    None,
}

/// One sending.
pub(super) struct Trial<'b> {
    behind: &'b Behind,
    /// Gone when the connection was given back, or taken for something else.
    upstream: Option<Upstream>,
    position: u64,
    evidence: Evidence,
    began: Instant,
    /// How long the connection had rested before; `None` of a fresh one.
    rested: Option<Duration>,
    heard: bool,
    head: Option<Box<ResponseHead>>,
    body: Awaited,
}

/// Whether the body of a short answer is awaited before the answer is told.
enum Awaited {
    /// It will be.
    Perhaps,
    /// Its head is here.
    Begun,
    /// That was so long ago that it is told at this time.
    Until(Pin<Box<Sleep>>),
    /// It was, or it need not be.
    No,
}

impl<'b> Trial<'b> {
    /// Begins, unless the origin has closed the connection already.
    ///
    /// What is to be proven later is noted before the first byte, which costs a system call: only where
    /// a request must not be sent twice.
    pub(super) fn new(
        behind: &'b Behind,
        upstream: Upstream,
        now: Instant,
        needs_evidence: bool,
    ) -> Option<Self> {
        let evidence = if needs_evidence {
            match upstream.line().path() {
                None => Evidence::None,
                Some(path) if !path.is_established => {
                    upstream.way.ends();
                    return None;
                }
                Some(path) => path
                    .bytes_sent
                    .filter(|_| counts_bytes_sent())
                    .map_or(Evidence::None, Evidence::Before),
            }
        } else {
            Evidence::Needless
        };
        pool::begin(behind, upstream.line().endpoint());
        Some(Self {
            behind,
            rested: (upstream.served() > 0).then(|| upstream.rested(now)),
            upstream: Some(upstream),
            position: 0,
            evidence,
            began: now,
            heard: false,
            head: Some(buffer::response()),
            body: Awaited::Perhaps,
        })
    }

    pub(super) fn upstream(&mut self) -> Option<&mut Upstream> {
        self.upstream.as_mut()
    }

    /// Its endpoint.
    pub(super) fn endpoint(&self) -> Option<EndpointId> {
        let upstream = self.upstream.as_ref();
        upstream.map(|upstream| upstream.line().endpoint())
    }

    /// Whether the answer has begun, and is told as soon as more of it is here.
    pub(super) fn has_begun_answer(&self) -> bool {
        matches!(self.body, Awaited::Begun | Awaited::Until(_))
    }

    /// When it began.
    pub(super) fn began(&self) -> Instant {
        self.began
    }

    /// The address of its endpoint, as it is told.
    pub(super) fn shown(&self) -> Shown {
        let upstream = self.upstream.as_ref();
        upstream.map_or(Shown::NONE, |upstream| upstream.line().shown())
    }

    /// Takes the connection, for what comes after.
    pub(super) fn take(&mut self) -> Option<Upstream> {
        self.upstream.take()
    }

    /// Sends the head, and what is there of the body.
    pub(super) fn send(&mut self, head: &[u8], window: &Window) -> Result<(), Loss> {
        let Some(upstream) = &mut self.upstream else {
            return Err(Loss::Condemned);
        };
        upstream.asks(self.began);
        self.position = window.end();
        let sent = upstream.way.write_both(head, window.from(0));
        sent.map_err(|error| match error.kind() {
            ErrorKind::InvalidData => Loss::Unsayable,
            _ => Loss::Reset,
        })
    }

    /// Sends more of the body.
    pub(super) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        window: &Window,
        now: impl Fn() -> Instant,
    ) -> Poll<Result<(), Loss>> {
        let Some(upstream) = &mut self.upstream else {
            return Poll::Ready(Err(Loss::Condemned));
        };
        loop {
            if upstream.way.is_blocked() {
                ready!(upstream.way.poll_flush(cx)).map_err(|_| Loss::Reset)?;
            }
            let more = window.from(self.position);
            if more.is_empty() {
                return Poll::Ready(Ok(()));
            }
            upstream.sends(now());
            self.position += more.len() as u64;
            upstream.way.write(more).map_err(|_| Loss::Reset)?;
        }
    }

    /// Whether all that has come of the body was sent.
    pub(super) fn has_sent(&self, window: &Window) -> bool {
        let upstream = self.upstream.as_ref();
        self.position >= window.end() && upstream.is_some_and(|upstream| !upstream.way.is_blocked())
    }

    /// Where it is in the body.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Waits for the answer to a request of this method, and hands every head to `hear`, with all that has come behind
    /// it; the first that it makes something of is the answer.
    pub(super) fn poll_hear<T>(
        &mut self,
        cx: &mut Context<'_>,
        method: Method,
        mut hear: impl FnMut(&ResponseHead, &[u8]) -> Option<T>,
    ) -> Poll<Result<T, Loss>> {
        let (Some(upstream), Some(head)) = (&mut self.upstream, &mut self.head) else {
            return Poll::Ready(Err(Loss::Condemned));
        };
        loop {
            let (way, input) = (&mut upstream.way, &mut upstream.input);
            let heard = &mut self.heard;
            let (mut held, may_wait) = (false, !matches!(self.body, Awaited::No));
            let may_wait = may_wait.then_some(method);
            let taken = way.poll_take(cx, |bytes| {
                if bytes.is_empty() {
                    return Err(Loss::Closed);
                }
                *heard = true;
                if input.is_empty() {
                    let (used, made) = scan(head, bytes, (may_wait, &mut held), &mut hear)
                        .map_err(Loss::Nonsense)?;
                    if made.is_none() {
                        input.extend_from_slice(bytes.get(used..).unwrap_or_default());
                    }
                    return Ok(made);
                }
                input.extend_from_slice(bytes);
                let (used, made) =
                    scan(head, input, (may_wait, &mut held), &mut hear).map_err(Loss::Nonsense)?;
                if made.is_some() {
                    input.clear();
                } else {
                    input.drain(..used);
                }
                Ok(made)
            });
            let Poll::Ready(taken) = taken else {
                if matches!(self.body, Awaited::Begun) {
                    self.body = Awaited::Until(Box::pin(tokio::time::sleep(AWAITED)));
                }
                let Awaited::Until(until) = &mut self.body else {
                    return Poll::Pending;
                };
                ready!(until.as_mut().poll(cx));
                self.body = Awaited::No;
                let told = scan(head, input, (None, &mut held), &mut hear).map_err(Loss::Nonsense);
                let (used, made) = match told {
                    Ok(told) => told,
                    Err(loss) => return Poll::Ready(Err(loss)),
                };
                input.drain(..used);
                match made {
                    Some(made) => return Poll::Ready(Ok(made)),
                    None => continue,
                }
            };
            if held {
                self.body = Awaited::Begun;
            }
            match taken {
                Ok(Ok(Some(made))) => return Poll::Ready(Ok(made)),
                Ok(Ok(None)) if input.len() > HEAD => return Poll::Ready(Err(Loss::TooLong)),
                Ok(Ok(None)) => {}
                Ok(Err(loss)) => return Poll::Ready(Err(loss)),
                Err(_) => return Poll::Ready(Err(Loss::Reset)),
            }
        }
    }

    /// The head of the answer.
    pub(super) fn head(&self) -> Option<&ResponseHead> {
        self.head.as_deref()
    }

    /// What can be said of the request, now that its connection is lost.
    pub(super) fn outcome(&self) -> Outcome {
        if self.heard {
            return Outcome::Unknown;
        }
        if matches!(self.word(), Word::Leaving | Word::Refused) {
            return Outcome::NotProcessed;
        }
        let (Evidence::Before(before), Some(upstream)) = (self.evidence, &self.upstream) else {
            return Outcome::Unknown;
        };
        // What waits in a connection that lives on may still be sent.
        match upstream.line().path() {
            Some(path) if path.is_closed && path.bytes_sent == Some(before) => {
                Outcome::NotProcessed
            }
            _ => Outcome::Unknown,
        }
    }

    /// What the origin has said of a request that it does not answer.
    pub(super) fn word(&self) -> Word {
        let upstream = self.upstream.as_ref();
        upstream.map_or(Word::None, |upstream| upstream.way.word())
    }

    /// Tells the origin's driver what was lost.
    pub(super) fn report(&self, loss: Loss) {
        let cause = match loss {
            Loss::Reset => Some(Cause::Reset),
            Loss::Closed => Some(Cause::Closed),
            Loss::Nonsense(_) | Loss::TooLong => None,
            Loss::Condemned | Loss::Mute | Loss::Unsayable => return,
        };
        // Closing what nobody uses is no failure.
        let is_race = self.rested.is_some_and(|rested| rested >= YOUNG) && !self.heard;
        let (false, Word::None, Some(upstream)) = (is_race, self.word(), &self.upstream) else {
            return;
        };
        upstream.loses();
        if let Some(cause) = cause
            && upstream.way.is_news()
        {
            self.behind.origin().report(Event::LinkLost {
                endpoint: upstream.line().endpoint(),
                failure: Failure::new(cause),
            });
        }
    }
}

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        if let Some(head) = self.head.take() {
            buffer::give_response(head);
        }
        if let Some(upstream) = &self.upstream {
            pool::end(self.behind, upstream.line().endpoint());
        }
    }
}

/// Looks for heads at the beginning of `bytes`. Says how much of it is done with. The head of a short answer to a
/// request of the method that `may_wait` is left where it is while nothing of its body is there.
fn scan<T>(
    head: &mut ResponseHead,
    bytes: &[u8],
    (may_wait, held): (Option<Method>, &mut bool),
    hear: &mut impl FnMut(&ResponseHead, &[u8]) -> Option<T>,
) -> Result<(usize, Option<T>), ResponseError> {
    let mut at = 0;
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        match head.parse(rest)? {
            Parsed::Partial => return Ok((at, None)),
            Parsed::Whole => {
                let is_alone = rest.len() == head.length;
                if is_alone && may_wait.is_some_and(|method| is_short(head, method)) {
                    *held = true;
                    return Ok((at, None));
                }
                at += head.length;
                if let Some(made) = hear(head, rest) {
                    return Ok((at, Some(made)));
                }
            }
        }
    }
}

/// Of a request that changes something the status is worth more than the body.
fn is_short(head: &ResponseHead, method: Method) -> bool {
    method.is_safe()
        && !head.is_informational()
        && matches!(head.body(method), ResponseBody::Length(1..=SHORT))
}
