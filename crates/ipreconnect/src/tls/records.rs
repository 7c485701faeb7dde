//! The states of an unbuffered connection of rustls, taken one by one.

use std::io;

use rustls::Error;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};

/// What one status of a connection was.
pub(super) enum Step {
    /// Ask again.
    More,
    /// The peer closed its direction; ask again.
    PeerClosed,
    /// Nothing more can be done with what is there.
    Rest,
}

/// Takes one status of a connection; returns what is to be discarded, and what it was.
pub(super) fn step<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    outgoing: &mut Vec<u8>,
    deliver: &mut dyn FnMut(&[u8]),
) -> (usize, Result<Step, Error>) {
    let mut discard = status.discard;
    let state = match status.state {
        Ok(state) => state,
        Err(error) => return (discard, Err(error)),
    };
    let step = match state {
        ConnectionState::ReadTraffic(mut traffic) => loop {
            match traffic.next_record() {
                None => break Ok(Step::More),
                Some(Err(error)) => break Err(error),
                Some(Ok(record)) => {
                    discard += record.discard;
                    deliver(record.payload);
                }
            }
        },
        ConnectionState::EncodeTlsData(mut data) => {
            let begin = outgoing.len();
            if let Err(EncodeError::InsufficientSize(needed)) = data.encode(&mut []) {
                outgoing.resize(begin + needed.required_size, 0);
                let room = outgoing.get_mut(begin..).unwrap_or_default();
                let _ = data.encode(room);
            }
            Ok(Step::More)
        }
        ConnectionState::TransmitTlsData(data) => {
            data.done();
            Ok(Step::More)
        }
        ConnectionState::PeerClosed => Ok(Step::PeerClosed),
        // Early data is never offered and never accepted; whatever else there may be one day waits.
        _ => Ok(Step::Rest),
    };
    (discard, step)
}

/// What may be written to an open connection.
pub(super) trait Writer {
    fn encrypt(&mut self, bytes: &[u8], into: &mut [u8]) -> Result<usize, EncryptError>;
    fn queue_close_notify(&mut self, into: &mut [u8]) -> Result<usize, EncryptError>;
}

impl<Data> Writer for rustls::unbuffered::WriteTraffic<'_, Data> {
    fn encrypt(&mut self, bytes: &[u8], into: &mut [u8]) -> Result<usize, EncryptError> {
        Self::encrypt(self, bytes, into)
    }

    fn queue_close_notify(&mut self, into: &mut [u8]) -> Result<usize, EncryptError> {
        Self::queue_close_notify(self, into)
    }
}

/// Writes, if the connection is open for it; `None` says that something came before it. Returns also
/// what is to be discarded.
pub(super) fn write<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    outgoing: &mut Vec<u8>,
    work: &mut dyn FnMut(&mut dyn Writer) -> Result<usize, EncryptError>,
) -> (usize, io::Result<Option<usize>>) {
    let discard = status.discard;
    match status.state {
        Ok(ConnectionState::WriteTraffic(mut traffic)) => {
            let written = work(&mut traffic).map(Some).map_err(io::Error::other);
            (discard, written)
        }
        Ok(ConnectionState::Closed | ConnectionState::BlockedHandshake) => {
            (discard, Err(io::ErrorKind::NotConnected.into()))
        }
        state => {
            let status = UnbufferedStatus { discard, state };
            let (discard, step) = step(status, outgoing, &mut |_| {});
            let written = match step {
                Ok(Step::More | Step::PeerClosed) => Ok(None),
                Ok(Step::Rest) => Err(io::ErrorKind::NotConnected.into()),
                Err(error) => Err(io::Error::other(error)),
            };
            (discard, written)
        }
    }
}
