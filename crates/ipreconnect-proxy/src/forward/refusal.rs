//! Why a client does not get where it wants to go, for people and for programs.

use std::time::Duration;

use ipreconnect::Error;
use ipreconnect::core::failure::{Cause, Layer};
use ipreconnect::core::forward::socks::Reply;
use ipreconnect::core::forward::{Denial, Over, Target, TargetError};

use super::judge::ITSELF;

/// Why a client does not get there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    /// The error type (RFC 9209, section 2.3).
    pub(crate) error: &'static str,
    /// What clients of SOCKS are told.
    pub(crate) reply: Reply,
    /// What it is, in a clause.
    pub(crate) why: String,
    /// What can be done.
    pub(crate) advice: &'static str,
    /// Where to; empty, if that cannot be read.
    pub(crate) target: String,
    /// A rule says so.
    pub(crate) is_denied: bool,
    /// Whose doing it is.
    pub(crate) whose: Whose,
    /// After how long another try makes sense.
    pub(crate) wait: Option<Duration>,
}

/// Whose doing it is that a client does not get there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// This proxy's.
    Ours,
    /// The other end's, or that of the way there.
    Theirs,
    /// The other end could not prove who it is.
    Proof,
}

const ASK: &str = "Whoever runs this proxy sees by `ipreconnect why` which rule it is.";

impl Refusal {
    fn new(status: u16, error: &'static str, reply: Reply, why: String) -> Self {
        Self {
            status,
            error,
            reply,
            why,
            advice: "",
            target: String::new(),
            is_denied: false,
            whose: Whose::Ours,
            wait: None,
        }
    }

    /// The client has had what it may have.
    pub(crate) fn over(over: Over) -> Self {
        Self {
            wait: over.wait(),
            is_denied: true,
            ..Self::new(429, "http_request_denied", Reply::Denied, over.to_string())
        }
    }

    /// There is no room for one more connection.
    pub(crate) fn full() -> Self {
        let why = "there are as many connections as there may be".to_owned();
        Self {
            advice: "Whoever runs this proxy may raise its limit of open files.",
            ..Self::new(503, "connection_limit_reached", Reply::Failed, why)
        }
    }

    /// The client asks more often than it may.
    pub(crate) fn often(wait: Duration) -> Self {
        let why = "it asks more often than `limits.rate` allows".to_owned();
        Self {
            wait: Some(wait),
            is_denied: true,
            ..Self::new(429, "http_request_denied", Reply::Denied, why)
        }
    }

    /// A rule says so.
    pub(crate) fn denied(target: &Target, denial: &Denial) -> Self {
        Self {
            advice: ASK,
            target: target.to_string(),
            is_denied: true,
            ..Self::new(
                403,
                "http_request_denied",
                Reply::Denied,
                denial.to_string(),
            )
        }
    }

    /// It is no place.
    pub(crate) fn unread(error: TargetError) -> Self {
        Self::new(400, "http_request_error", Reply::Failed, error.to_string())
    }

    /// It leads back to this proxy.
    pub(crate) fn circular(target: &Target, why: &str) -> Self {
        let new = Self::new(508, "proxy_loop_detected", Reply::Denied, why.to_owned());
        Self {
            target: target.to_string(),
            ..new
        }
    }

    /// The request is not one for a proxy.
    pub(crate) fn direct() -> Self {
        Self {
            advice: "Set it as the proxy of your program, by HTTP or SOCKS5.",
            ..Self::new(
                400,
                "http_request_error",
                Reply::Failed,
                "this is a proxy, and the request does not say where it is to go".to_owned(),
            )
        }
    }

    /// There is something about the request that cannot be carried.
    pub(crate) fn uncarried(status: u16, why: &str) -> Self {
        Self::new(status, "http_request_error", Reply::Command, why.to_owned())
    }

    /// It could not be reached.
    pub(crate) fn away(target: &Target, error: &Error) -> Self {
        let failure = error.failure();
        let cause = failure.map_or(Cause::Other, |failure| failure.cause);
        let detail = failure.and_then(|failure| failure.detail.as_deref());
        let words = failure.map_or_else(|| error.to_string(), ToString::to_string);
        let of = |status, kind, reply| Self {
            target: target.to_string(),
            whose: Whose::Theirs,
            ..Self::new(status, kind, reply, words.clone())
        };
        match cause {
            Cause::NotAllowed if detail == Some(ITSELF) => Self::circular(target, ITSELF),
            Cause::NotAllowed => {
                let why = detail.unwrap_or_default().to_owned();
                let own = Self::new(403, "destination_ip_prohibited", Reply::Denied, why);
                Self {
                    advice: ASK,
                    target: target.to_string(),
                    is_denied: true,
                    ..own
                }
            }
            Cause::NoSuchName => Self {
                advice: "Check the spelling.",
                ..of(502, "dns_error", Reply::HostUnreachable)
            },
            _ if failure.is_some_and(|failure| failure.layer() == Layer::Dns) => {
                of(502, "dns_error", Reply::HostUnreachable)
            }
            Cause::Refused => of(502, "connection_refused", Reply::Refused),
            Cause::TimedOut => of(504, "connection_timeout", Reply::Late),
            Cause::Unreachable => of(502, "destination_ip_unroutable", Reply::NetworkUnreachable),
            Cause::NoLocalPort | Cause::NoResources => {
                of(503, "connection_limit_reached", Reply::Failed)
            }
            _ if failure.is_some_and(|one| matches!(one.layer(), Layer::Tls | Layer::Identity)) => {
                Self {
                    whose: Whose::Proof,
                    ..of(502, "tls_certificate_error", Reply::Failed)
                }
            }
            _ => of(502, "destination_unavailable", Reply::Failed),
        }
    }

    /// The proxy by which it is reached cannot be.
    pub(crate) fn behind(target: &Target, proxy: &str, error: &Error) -> Self {
        let away = Self::away(target, error);
        Self {
            why: format!("the proxy {proxy} on the way there: {}", away.why),
            advice: "",
            is_denied: false,
            whose: match away.whose {
                Whose::Proof => Whose::Proof,
                Whose::Ours | Whose::Theirs => Whose::Theirs,
            },
            status: if away.status == 403 { 502 } else { away.status },
            ..away
        }
    }

    /// The proxy by which it is reached does not lead there.
    pub(crate) fn refused_behind(target: &Target, why: String, status: u16) -> Self {
        let reply = match status {
            403 => Reply::Denied,
            _ => Reply::Failed,
        };
        let error = match status {
            403 => "http_request_denied",
            _ => "destination_unavailable",
        };
        Self {
            target: target.to_string(),
            whose: Whose::Theirs,
            ..Self::new(status, error, reply, why)
        }
    }

    /// The rules ask for a name, and the client cannot show one.
    pub(crate) fn unnamed(why: &str) -> Self {
        Self {
            is_denied: true,
            ..Self::new(403, "http_request_denied", Reply::Denied, why.to_owned())
        }
    }

    /// There is none of the ways that it would need.
    pub(crate) fn wayless(target: &Target, why: &str) -> Self {
        Self {
            target: target.to_string(),
            is_denied: true,
            ..Self::new(403, "http_request_denied", Reply::Denied, why.to_owned())
        }
    }

    /// For people.
    pub(crate) fn words(&self) -> String {
        let mut words = match (self.is_denied, self.target.as_str()) {
            (_, "") => format!("The request was refused: {}.", self.why),
            (true, target) => format!("You may not go to {target} from here: {}.", self.why),
            (false, target) => format!("{target} cannot be reached: {}.", self.why),
        };
        if !self.advice.is_empty() {
            words.push(' ');
            words.push_str(self.advice);
        }
        words
    }
}
