//! One server, asked one question.

use std::sync::Arc;
use std::time::Duration;

use ipreconnect_core::failure::{Cause, Failure};
use ipreconnect_core::names::Security;

use super::answer::{Question, Record, RecordKind};
use super::client::{Client, SystemClient};
use super::hosts::HostsFile;
use super::server::DnsServer;
use super::settings::{DnsSettings, Dnssec};
use super::system::System;
use super::visits::Visit;

/// A server that said nothing by then has failed.
const PATIENCE: Duration = Duration::from_secs(4);

/// An answer that may be used.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Answer {
    pub(super) records: Vec<Record>,
    pub(super) ttl: Duration,
    pub(super) security: Security,
}

/// What a server said.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Said {
    Answer(Answer),
    /// That there are no such records.
    Nothing {
        failure: Failure,
        ttl: Option<Duration>,
    },
    Failed {
        failure: Failure,
        /// Whether nothing at all came of it, so that other questions will fare no better.
        is_away: bool,
    },
}

impl Said {
    pub(super) fn nothing(question: &Question, ttl: Option<Duration>) -> Self {
        Self::Nothing {
            failure: Failure::with_detail(Cause::NoSuchName, question.to_string()),
            ttl,
        }
    }

    /// The server is away.
    pub(super) fn failed(question: &Question, words: &str) -> Self {
        Self::Failed {
            failure: Failure::with_detail(
                Cause::ResolverFailed,
                format!("{}: {words}", question.name),
            ),
            is_away: true,
        }
    }
}

/// One entry of `[dns] servers`, ready to be asked.
#[derive(Debug)]
pub(super) struct Server {
    /// How people write it.
    pub(super) label: Arc<str>,
    way: Way,
}

#[derive(Debug)]
enum Way {
    /// The system's own resolution; what that cannot do goes to its name servers.
    System {
        system: System,
        servers: SystemClient,
        dnssec: Dnssec,
    },
    Dns {
        client: Client,
        hosts: Arc<HostsFile>,
    },
}

impl Server {
    /// All servers of the settings.
    pub(super) fn all(settings: &DnsSettings) -> Vec<Arc<Self>> {
        let hosts = Arc::new(HostsFile::new(&settings.hosts));
        let mut servers = settings.servers.clone();
        if servers.is_empty() {
            servers.push(DnsServer::System);
        }
        servers
            .iter()
            .map(|server| {
                let way = match server {
                    DnsServer::System => Way::System {
                        system: System::default(),
                        servers: SystemClient::new(settings),
                        dnssec: settings.dnssec,
                    },
                    other => Way::Dns {
                        client: Client::new(other.clone(), settings),
                        hosts: Arc::clone(&hosts),
                    },
                };
                Arc::new(Self {
                    label: server.to_string().into(),
                    way,
                })
            })
            .collect()
    }

    /// Asks, in somebody's turn if it is not for an origin.
    ///
    /// Cancel safety: dropping the future gives the question up.
    pub(super) async fn ask(&self, question: &Question, turn: Option<Arc<Visit>>) -> Said {
        let asked = async {
            match &self.way {
                Way::System {
                    system,
                    dnssec: Dnssec::Off,
                    ..
                } if question.kind != RecordKind::Srv => system.ask(question, turn).await,
                Way::System { servers, .. } => servers.ask(question).await,
                Way::Dns { client, hosts } => match hosts.look_up(question) {
                    Some(said) => said,
                    None => client.ask(question).await,
                },
            }
        };
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(said) => said,
            Err(_) => {
                self.forget();
                Said::failed(question, &format!("{} did not answer in time", self.label))
            }
        }
    }

    /// Drops every connection and socket: the next question has fresh ones.
    pub(super) fn forget(&self) {
        match &self.way {
            Way::System { servers, .. } => servers.forget(),
            Way::Dns { client, .. } => client.forget(),
        }
    }
}
