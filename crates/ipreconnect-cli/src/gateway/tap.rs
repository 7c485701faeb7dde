//! Taps: what passes through a listener, made readable for an operator who looks for the cause of trouble.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ipreconnect::clock;
use ipreconnect::core::tap::{Reader, Side, hex, masked};
use ipreconnect_admin::moment::{millis, rfc3339};
use ipreconnect_admin::{Denial, Tapped};
use ipreconnect_proxy::{Asking, ListenAddress, Seen, Tap, TapSink, Towards, What};
use tokio::sync::mpsc::{self, Receiver, Sender};

use super::board::Board;
use crate::admin::view::{TapQuestion, TapView};

/// Taps that may be open at once.
const MOST: usize = 4;
/// How long one is open, and how long it may be.
const LASTS: u64 = 300;
const LONGEST: u64 = 3600;
/// What waits to be made readable, and the bytes of it.
const WAITING: usize = 1024;
const BYTES: usize = 4 * 1024 * 1024;
/// What waits to be taken by whoever looks.
const SHOWN: usize = 256;
/// Bytes of one piece that are shown in hexadecimal.
const HEX: usize = 512;
/// Connections whose messages are followed.
const CONNECTIONS: usize = 256;

/// The taps that are open. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Taps(Arc<Mutex<Vec<Tap>>>);

/// What was seen, and is to be made readable.
struct Piece {
    at: Duration,
    connection: usize,
    client: Option<SocketAddr>,
    what: Kept,
}

enum Kept {
    Opened,
    Closed(String),
    /// As much of the bytes as is looked at, and how many there were.
    Bytes(Towards, Vec<u8>, usize),
    Head(Towards, Vec<u8>),
    Answered {
        request: Vec<u8>,
        words: String,
    },
}

/// Takes what workers see, as much of it as there is room for.
#[derive(Debug)]
struct Funnel {
    pieces: Sender<Piece>,
    /// Bytes that wait.
    bytes: Arc<AtomicUsize>,
    lost: Arc<AtomicU64>,
    /// Of one piece.
    most: usize,
}

impl TapSink for Funnel {
    fn take(&self, seen: Seen<'_>) {
        // As much as comes at once, and not more than there is room for.
        let room = BYTES.saturating_sub(self.bytes.load(Relaxed));
        if room < seen.what.size().min(self.most) {
            self.lost.fetch_add(1, Relaxed);
            return;
        }
        let cut = |bytes: &[u8], most: usize| bytes.get(..most).unwrap_or(bytes).to_vec();
        let what = match seen.what {
            What::Opened => Kept::Opened,
            What::Closed(why) => Kept::Closed(why.to_owned()),
            What::Bytes(towards, bytes) => Kept::Bytes(towards, cut(bytes, self.most), bytes.len()),
            What::Head(towards, head) => Kept::Head(towards, head.to_vec()),
            What::Answered {
                request,
                status,
                bytes,
                after,
                sent,
                end,
            } => {
                let after = after.as_secs_f64() * 1000.0;
                let again = if sent > 1 {
                    format!(", sent {sent} times")
                } else {
                    String::new()
                };
                Kept::Answered {
                    request: cut(request, 512),
                    words: format!("{status}, {bytes} bytes, {after:.1} ms{again}, {end}"),
                }
            }
        };
        let size = what.size();
        if self.bytes.fetch_add(size, Relaxed) + size > BYTES {
            self.bytes.fetch_sub(size, Relaxed);
            self.lost.fetch_add(1, Relaxed);
            return;
        }
        let piece = Piece {
            at: seen.at,
            connection: seen.connection,
            client: seen.client,
            what,
        };
        if self.pieces.try_send(piece).is_err() {
            self.bytes.fetch_sub(size, Relaxed);
            self.lost.fetch_add(1, Relaxed);
        }
    }
}

impl Kept {
    fn size(&self) -> usize {
        match self {
            Self::Opened => 0,
            Self::Closed(text) => text.len(),
            Self::Bytes(_, bytes, _) | Self::Head(_, bytes) => bytes.len(),
            Self::Answered { request, words } => request.len() + words.len(),
        }
    }
}

/// Opens a tap. It is closed when nobody takes what it shows any more, or its time is over.
pub(crate) fn open(
    board: &Arc<Board>,
    taps: &Taps,
    listener: &str,
    question: &TapQuestion,
) -> Result<Tapped, Denial> {
    let unknown = || Denial::Unknown(format!("there is no listener {listener:?}"));
    let access = board.access(listener).ok_or_else(unknown)?;
    let wrong = |why: String| Denial::Wrong(vec![why]);
    let is_udp = |address: &ListenAddress| matches!(address, ListenAddress::Udp(_));
    let addresses = board.addresses(listener);
    if addresses.iter().any(is_udp) {
        return Err(wrong("datagrams are not shown".to_owned()));
    }
    let client = question.client.as_ref().map(|text| {
        let address = text.parse::<IpAddr>();
        address
            .map(|address| address.to_canonical())
            .map_err(|_| wrong(format!("this is no address: {text:?}")))
    });
    let client = client.transpose()?;
    let lasts = question.seconds.unwrap_or(LASTS);
    if !(1..=LONGEST).contains(&lasts) {
        return Err(wrong(format!("a tap is open for 1 to {LONGEST} seconds")));
    }
    let speaks_postgres = access.asking() == Asking::Postgres;
    let (pieces, seen) = mpsc::channel(WAITING);
    let (bytes, lost) = (Arc::default(), Arc::default());
    let funnel = Arc::new(Funnel {
        pieces,
        bytes: Arc::clone(&bytes),
        lost: Arc::clone(&lost),
        most: match (speaks_postgres, question.hex) {
            (true, _) => usize::MAX,
            (false, true) => HEX,
            (false, false) => 0,
        },
    });
    let tap = Tap {
        listener: listener.into(),
        client,
        sink: funnel,
    };
    let opened = taps
        .add(board, tap)
        .ok_or_else(|| Denial::Unable(format!("{MOST} taps are open already")))?;
    tracing::warn!(
        listener,
        client = question.client.as_deref().unwrap_or("all"),
        hex = question.hex,
        "tap opened: what passes here is shown to an operator"
    );
    let (out, tapped) = mpsc::channel(SHOWN);
    let show = Show {
        seen,
        bytes,
        lost,
        out,
        readers: speaks_postgres.then(BTreeMap::new),
        shows_hex: question.hex,
        has_hinted: false,
    };
    let name = listener.to_owned();
    tokio::spawn(async move {
        let deadline = clock::now() + Duration::from_secs(lasts);
        // Either way it is over.
        let _ = tokio::time::timeout_at(deadline.into(), show.run()).await;
        drop(opened);
        tracing::info!(listener = name, "tap closed");
    });
    Ok(tapped)
}

impl Taps {
    fn add(&self, board: &Arc<Board>, tap: Tap) -> Option<Opened> {
        let mut taps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if taps.len() >= MOST {
            return None;
        }
        let sink = Arc::clone(&tap.sink);
        taps.push(tap);
        board.with_gateway(|gateway| gateway.tap(&taps));
        Some(Opened {
            taps: self.clone(),
            board: Arc::clone(board),
            sink,
        })
    }
}

/// A tap that is open; closes it when it is dropped.
struct Opened {
    taps: Taps,
    board: Arc<Board>,
    sink: Arc<dyn TapSink>,
}

impl Drop for Opened {
    fn drop(&mut self) {
        let mut taps = self.taps.0.lock().unwrap_or_else(PoisonError::into_inner);
        taps.retain(|tap| !Arc::ptr_eq(&tap.sink, &self.sink));
        self.board.with_gateway(|gateway| gateway.tap(&taps));
    }
}

/// Makes what was seen readable.
struct Show {
    seen: Receiver<Piece>,
    bytes: Arc<AtomicUsize>,
    lost: Arc<AtomicU64>,
    out: Sender<TapView>,
    /// Of a listener for PostgreSQL: who reads each direction of each connection.
    readers: Option<BTreeMap<(usize, bool), Reader>>,
    shows_hex: bool,
    has_hinted: bool,
}

impl Show {
    /// Until nobody takes it any more.
    async fn run(mut self) {
        loop {
            let piece = tokio::select! {
                biased;
                () = self.out.closed() => return,
                piece = self.seen.recv() => piece,
            };
            let Some(piece) = piece else { return };
            self.bytes.fetch_sub(piece.what.size(), Relaxed);
            let lost = self.lost.swap(0, Relaxed);
            if lost > 0 {
                for reader in self.readers.iter_mut().flatten() {
                    reader.1.loses_step();
                }
                let text = format!("{lost} things were not shown: there were too many at once");
                let view = view(piece.at, None, "lost", None, vec![text]);
                if self.out.send(view).await.is_err() {
                    return;
                }
            }
            if let Some(view) = self.show(piece)
                && self.out.send(view).await.is_err()
            {
                return;
            }
        }
    }

    fn show(&mut self, piece: Piece) -> Option<TapView> {
        let Piece {
            at,
            connection,
            client,
            what,
        } = piece;
        Some(match what {
            Kept::Opened => view(at, client, "opened", None, Vec::new()),
            Kept::Closed(why) => {
                if let Some(readers) = &mut self.readers {
                    readers.remove(&(connection, true));
                    readers.remove(&(connection, false));
                }
                view(at, client, "closed", None, vec![why])
            }
            Kept::Head(towards, head) => view(at, client, "head", Some(towards), masked(&head)),
            Kept::Answered { request, words } => {
                let request = masked(&request).into_iter().next().unwrap_or_default();
                view(
                    at,
                    client,
                    "answered",
                    None,
                    vec![format!("{request}: {words}")],
                )
            }
            Kept::Bytes(towards, bytes, total) => {
                let lines = match &mut self.readers {
                    Some(readers) => {
                        let is_up = towards == Towards::Origin;
                        if readers.len() >= CONNECTIONS
                            && !readers.contains_key(&(connection, is_up))
                        {
                            readers.clear();
                        }
                        let side = if is_up { Side::Frontend } else { Side::Backend };
                        let reader = readers.entry((connection, is_up));
                        let reader = reader.or_insert_with(|| Reader::new(side));
                        let lines = reader.read(&bytes);
                        if lines.is_empty() {
                            return None;
                        }
                        return Some(view(at, client, "messages", Some(towards), lines));
                    }
                    None => self.bytes_of(&bytes, total),
                };
                view(at, client, "bytes", Some(towards), lines)
            }
        })
    }

    fn bytes_of(&mut self, bytes: &[u8], total: usize) -> Vec<String> {
        let mut lines = vec![format!("{total} bytes")];
        if self.shows_hex {
            lines.extend(hex(bytes));
            if total > bytes.len() {
                lines.push(format!("… and {} more", total - bytes.len()));
            }
        } else if !std::mem::replace(&mut self.has_hinted, true) {
            lines.push("what they are is shown with --hex: nothing in them is masked".to_owned());
        }
        lines
    }
}

fn view(
    at: Duration,
    client: Option<SocketAddr>,
    kind: &str,
    towards: Option<Towards>,
    lines: Vec<String>,
) -> TapView {
    TapView {
        time: rfc3339(millis(at)),
        client: client.map(|client| match client.port() {
            0 => client.ip().to_string(),
            _ => client.to_string(),
        }),
        kind: kind.to_owned(),
        towards: towards.map(|towards| {
            match towards {
                Towards::Origin => "origin",
                Towards::Client => "client",
            }
            .to_owned()
        }),
        lines,
    }
}
