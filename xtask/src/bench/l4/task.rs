//! What is measured, and in which figures.

use serde::{Deserialize, Serialize};

use crate::bench::wish::Subject;

/// One kind of work for a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Task {
    Bulk,
    BulkUnpaced,
    Exchange,
    Connections,
    Crowd,
    Datagrams,
    Bursts,
    Idle,
}

impl Subject for Task {
    const ALL: &'static [Self] = &[
        Self::Bulk,
        Self::BulkUnpaced,
        Self::Exchange,
        Self::Connections,
        Self::Crowd,
        Self::Datagrams,
        Self::Bursts,
        Self::Idle,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Bulk => "bulk",
            Self::BulkUnpaced => "bulk-unpaced",
            Self::Exchange => "exchange",
            Self::Connections => "connections",
            Self::Crowd => "crowd",
            Self::Datagrams => "datagrams",
            Self::Bursts => "bursts",
            Self::Idle => "idle",
        }
    }
}

impl Task {
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Bulk => "One long stream",
            Self::BulkUnpaced => "One long stream, and nobody paces",
            Self::Exchange => "One byte and its answer, on 64 long connections",
            Self::Connections => "New connections",
            Self::Crowd => "4,000 connections at once",
            Self::Datagrams => "UDP, one by one",
            Self::Bursts => "UDP, in bursts",
            Self::Idle => "Idle connections",
        }
    }

    /// What happens.
    pub(crate) fn story(self) -> &'static str {
        match self {
            Self::Bulk => {
                "The origin sends as fast as it can for 5 s on one connection; the client receives into one \
                 buffer."
            }
            Self::BulkUnpaced => {
                "The same with `net.ipv4.tcp_congestion_control = reno` for all. BBR paces what it sends by \
                 timers; where it is the system's default, ipreconnect does without it between programs of \
                 one machine, and this section shows what remains where it is not."
            }
            Self::Exchange => {
                "Each of 64 connections sends one byte every 8 ms (8,000 a second together) for 5 s, whatever became \
                 of the earlier ones, and the origin sends it back. Latency counts from the scheduled moment."
            }
            Self::Connections => {
                "32 clients open a connection, ask one line, read the answer to its end, and begin again, for 5 s."
            }
            Self::Crowd => {
                "4,000 connections are opened in one instant, each asks one line; the time until the last one is \
                 answered."
            }
            Self::Datagrams => {
                "64 clients send a datagram of 64 bytes, wait for the origin to send it back, and begin again, for 5 s. \
                 What is not answered within 100 ms is lost. Datagrams are counted in both directions."
            }
            Self::Bursts => {
                "The same, but each client sends 8 datagrams at once, as QUIC does: clients and origin have the kernel \
                 cut what they send (`UDP_SEGMENT`) and put together what comes (`UDP_GRO`)."
            }
            Self::Idle => {
                "8,000 connections exchange one byte and then rest for a minute. Memory: what the proxy's processes \
                 hold more than before (resident, private), for each connection. Then all are closed at once."
            }
        }
    }

    /// Datagrams that a client sends at once.
    pub(crate) fn burst(self) -> usize {
        match self {
            Self::Bursts => 8,
            _ => 1,
        }
    }

    /// The figures of a row: name, and what to do with it.
    pub(crate) fn figures(self) -> &'static [&'static str] {
        match self {
            Self::Bulk | Self::BulkUnpaced => &["CPU s/GB", "Gbit/s"],
            Self::Exchange => &["CPU µs an exchange", "p50 µs", "p99 µs", "answered, %"],
            Self::Connections => &["CPU µs a connection", "connections a second", "failed"],
            Self::Crowd => &["last answered, ms", "CPU µs a connection", "failed"],
            Self::Datagrams | Self::Bursts => {
                &["datagrams a CPU second", "datagrams a second", "lost"]
            }
            Self::Idle => &[
                "bytes a connection",
                "CPU ms in that minute",
                "closed after ms",
            ],
        }
    }
}
