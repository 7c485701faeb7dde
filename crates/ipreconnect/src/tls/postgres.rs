//! PostgreSQL's way into TLS: one question, one letter (PostgreSQL, "Frontend/Backend Protocol",
//! sections on the message flow and on SSL session encryption).

use std::io;

use ipreconnect_core::failure::{Cause, Failure};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use tokio::io::Interest;

use crate::dial;
use crate::socket::Socket;

/// Its length and its code: 1234 and 5679.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// Asks the server for TLS. Nothing but its one letter is read: bytes that are already behind it would
/// come from somebody in between (CVE-2021-23222), and are left for TLS to refuse.
///
/// Cancel safety: the connection is of no use afterwards.
pub(super) async fn ask(socket: &Socket) -> Result<(), Failure> {
    let sent = on_ready(socket, Interest::WRITABLE, || {
        send(socket.get_ref(), &SSL_REQUEST, SendFlags::NOSIGNAL)
    });
    if sent.await.map_err(|error| dial::failure(&error))? < SSL_REQUEST.len() {
        // A fresh socket has room for eight bytes.
        return Err(Failure::new(Cause::NoResources));
    }
    let mut letter = [0; 1];
    let read = on_ready(socket, Interest::READABLE, || {
        recv(socket.get_ref(), &mut letter, RecvFlags::empty()).map(|(_, count)| count)
    });
    match read.await.map_err(|error| dial::failure(&error))? {
        0 => Err(Failure::with_detail(
            Cause::Closed,
            "after PostgreSQL's SSLRequest",
        )),
        _ => granted(letter[0]),
    }
}

fn granted(letter: u8) -> Result<(), Failure> {
    match letter {
        b'S' => Ok(()),
        b'N' => Err(Failure::with_detail(
            Cause::NoTls,
            "PostgreSQL refused the SSLRequest: it has `ssl = off`",
        )),
        b'E' => Err(Failure::with_detail(
            Cause::NoTls,
            "PostgreSQL answered the SSLRequest with an error",
        )),
        other => Err(Failure::with_detail(
            Cause::NoTls,
            format!("an answer to PostgreSQL's SSLRequest begins with S or N, not {other:#04x}"),
        )),
    }
}

async fn on_ready(
    socket: &Socket,
    interest: Interest,
    mut work: impl FnMut() -> Result<usize, Errno>,
) -> io::Result<usize> {
    loop {
        let mut guard = socket.ready(interest).await?;
        match work() {
            Err(Errno::AGAIN) => guard.clear_ready(),
            Err(Errno::INTR) => {}
            result => return Ok(result?),
        }
    }
}
