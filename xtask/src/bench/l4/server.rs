//! The origin of these measurements: the first byte of a connection says what is wanted.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::bench::origin::{BACKLOG, READY, for_ever};

/// Send without end.
pub(in crate::bench) const POUR: u8 = b'P';
/// Send every byte back.
pub(super) const ECHO: u8 = b'E';
/// Send one line, and close.
pub(in crate::bench) const LINE: u8 = b'L';

/// What is poured in one write.
const PIECE: usize = 256 * 1024;

/// Serves for ever.
pub(crate) fn run(port: &str, burst: &str) -> ExitCode {
    let (Ok(port), Ok(burst)) = (port.parse(), burst.parse()) else {
        eprintln!("error: {port} is no port, or {burst} no number");
        return ExitCode::from(2);
    };
    // On a thread of its own: datagrams come with a queue of their own.
    std::thread::spawn(move || {
        if let Err(error) = super::datagrams::answer(port, burst) {
            eprintln!("error: the UDP origin on port {port} ended: {error}");
        }
    });
    for_ever(format_args!("port {port}"), serve(port))
}

async fn serve(port: u16) -> io::Result<()> {
    let listener = listen(port)?;
    println!("{READY}");
    loop {
        let (stream, _) = listener.accept().await?;
        // What becomes of one client is that client's affair.
        tokio::spawn(answer(stream));
    }
}

fn listen(port: u16) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    socket.listen(BACKLOG)
}

async fn answer(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    match stream.read_u8().await? {
        POUR => {
            let piece = vec![b'.'; PIECE];
            loop {
                stream.write_all(&piece).await?;
            }
        }
        LINE => {
            stream.write_all(b"a line of an answer\n").await?;
            stream.shutdown().await
        }
        _ => {
            let mut bytes = [0; 64];
            loop {
                match stream.read(&mut bytes).await? {
                    0 => return stream.shutdown().await,
                    count => stream.write_all(&bytes[..count]).await?,
                }
            }
        }
    }
}
