//! The hosts file (hosts(5)): names that no server is asked for.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use hickory_resolver::Hosts;
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RecordType};
use ipreconnect_core::names::Security;
use ipreconnect_core::policy::Via;

use super::answer::{Question, Record, RecordKind};
use super::ask::{Answer, Said};

/// The file is looked at again after this.
const TTL: Duration = Duration::from_secs(5);

/// The hosts file, read again when it changes.
#[derive(Debug)]
pub(super) struct HostsFile {
    path: PathBuf,
    read: Mutex<Option<Read>>,
}

#[derive(Debug)]
struct Read {
    changed: Option<SystemTime>,
    hosts: Hosts,
}

impl HostsFile {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            read: Mutex::new(None),
        }
    }

    /// What the file says; `None` if it does not know the name. A name that it knows by one family
    /// has no address of the other.
    pub(super) fn look_up(&self, question: &Question) -> Option<Said> {
        let wanted = match question.kind {
            RecordKind::A => RecordType::A,
            RecordKind::Aaaa => RecordType::AAAA,
            RecordKind::Srv => return None,
        };
        let name = Name::from_ascii(&*question.name).ok()?;
        let (found, known) = self.with(|hosts| {
            let of = |kind| {
                let lookup = hosts.lookup_static_host(&Query::query(name.clone(), kind));
                let answers = lookup.iter().flat_map(|lookup| lookup.answers());
                let addresses = answers.filter_map(|record| record.data.ip_addr());
                addresses.map(Record::Address).collect::<Vec<_>>()
            };
            let known = !of(RecordType::A).is_empty() || !of(RecordType::AAAA).is_empty();
            (of(wanted), known)
        });
        if !found.is_empty() {
            return Some(answer(found));
        }
        if known {
            return Some(Said::nothing(question, Some(TTL)));
        }
        // RFC 6761, section 6.3: no server is asked for these.
        (Via::name(&question.name) == Via::LocalName).then(|| {
            answer(vec![Record::Address(match question.kind {
                RecordKind::Aaaa => Ipv6Addr::LOCALHOST.into(),
                RecordKind::A | RecordKind::Srv => Ipv4Addr::LOCALHOST.into(),
            })])
        })
    }

    fn with<T>(&self, work: impl FnOnce(&Hosts) -> T) -> T {
        let changed = std::fs::metadata(&self.path)
            .and_then(|found| found.modified())
            .ok();
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let known = read.take().filter(|known| known.changed == changed);
        let known = known.unwrap_or_else(|| Read {
            changed,
            hosts: self.parse(),
        });
        let answer = work(&known.hosts);
        *read = Some(known);
        answer
    }

    /// A file that cannot be read knows no names.
    fn parse(&self) -> Hosts {
        let mut hosts = Hosts::default();
        let result = std::fs::File::open(&self.path).and_then(|file| hosts.read_hosts_conf(file));
        if let Err(error) = result {
            tracing::debug!(path = %self.path.display(), %error, "the hosts file cannot be read");
        }
        hosts
    }
}

fn answer(records: Vec<Record>) -> Said {
    Said::Answer(Answer {
        records,
        ttl: TTL,
        security: Security::Unchecked,
    })
}
