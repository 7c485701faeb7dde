//! The operating system's own resolution: getaddrinfo(3), NSS included.

use std::sync::Arc;
use std::time::Duration;

use dns_lookup::{AddrInfoHints, LookupErrorKind, getaddrinfo};
use ipreconnect_core::failure::{Cause, Failure};
use ipreconnect_core::names::Security;
use tokio::sync::Semaphore;

use super::answer::{Question, Record, RecordKind};
use super::ask::{Answer, Said};
use super::visits::Visit;

/// The system does not say for how long its answers hold; whatever caches them below knows.
pub(super) const TTL: Duration = Duration::from_secs(5);
/// Lookups that may be stuck in the system's resolver at once, over all names.
const STUCK: usize = 64;

/// The system's resolver.
#[derive(Clone, Debug)]
pub(super) struct System {
    slots: Arc<Semaphore>,
}

impl Default for System {
    fn default() -> Self {
        Self {
            slots: Arc::new(Semaphore::new(STUCK)),
        }
    }
}

impl System {
    /// Addresses of one family.
    ///
    /// Cancel safety: a lookup that nobody waits for goes on in its thread, and keeps its slot and the turn.
    pub(super) async fn ask(&self, question: &Question, turn: Option<Arc<Visit>>) -> Said {
        let family = match question.kind {
            RecordKind::A => libc::AF_INET,
            RecordKind::Aaaa => libc::AF_INET6,
            RecordKind::Srv => return Said::failed(question, "the system has no services"),
        };
        let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else {
            return Said::failed(
                question,
                "too many earlier lookups are still stuck in the system's resolver",
            );
        };
        let name = Arc::clone(&question.name);
        let lookup = tokio::task::spawn_blocking(move || {
            let _slot = (slot, turn);
            let hints = AddrInfoHints {
                address: family,
                socktype: libc::SOCK_STREAM,
                ..AddrInfoHints::default()
            };
            getaddrinfo(Some(&name), None, Some(hints)).map(|found| {
                let found = found.flatten().map(|info| info.sockaddr.ip());
                found.map(Record::Address).collect::<Vec<_>>()
            })
        });
        match lookup.await {
            Err(join) => Said::failed(question, &join.to_string()),
            Ok(Ok(records)) if !records.is_empty() => Said::Answer(Answer {
                records,
                ttl: TTL,
                security: Security::Unchecked,
            }),
            Ok(Ok(_)) => Said::nothing(question, None),
            Ok(Err(error)) => match error.kind() {
                LookupErrorKind::NoName | LookupErrorKind::NoData => Said::nothing(question, None),
                LookupErrorKind::Again => {
                    Said::failed(question, "the system's resolvers do not answer")
                }
                _ => {
                    let error = std::io::Error::from(error).to_string();
                    let words = error.rsplit(": ").next().unwrap_or(&error).to_owned();
                    Said::Failed {
                        failure: Failure::with_detail(
                            Cause::ResolverFailed,
                            format!("{}: {words}", question.name),
                        ),
                        is_away: false,
                    }
                }
            },
        }
    }
}
