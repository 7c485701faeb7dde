//! The origin of a benchmark: a small server, as a process that can be killed and stopped.

use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpSocket};
use tokio_rustls::TlsAcceptor;

use super::papers;

/// What an origin prints when it listens.
pub(crate) const READY: &str = "ready";

/// Longer than the load of a whole run: a stopped origin whose queue is full looks like a silent path
/// instead, and that is another scenario.
pub(super) const BACKLOG: u32 = 32_768;

/// Answers `NAME line` to the line of each connection, and closes it; for ever.
/// Inside TLS, if the papers for it are in a directory.
pub(crate) fn run(address: &str, name: &str, papers: Option<&str>) -> ExitCode {
    let Ok(address) = address.parse() else {
        eprintln!("error: {address} is no address");
        return ExitCode::from(2);
    };
    let acceptor = match papers.map(|papers| papers::server(Path::new(papers))) {
        Some(Ok(config)) => Some(TlsAcceptor::from(config)),
        Some(Err(error)) => {
            eprintln!("error: the papers of the origin on {address}: {error}");
            return ExitCode::FAILURE;
        }
        None => None,
    };
    for_ever(address, serve(address, name, acceptor))
}

/// The process of an origin, which ends only if it fails.
pub(super) fn for_ever(
    place: impl Display,
    serve: impl Future<Output = io::Result<()>>,
) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    match runtime.and_then(|runtime| runtime.block_on(serve)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: the origin on {place} ended: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(address: SocketAddr, name: &str, acceptor: Option<TlsAcceptor>) -> io::Result<()> {
    let listener = listen(address)?;
    println!("{READY}");
    let name: std::sync::Arc<str> = name.into();
    loop {
        let (stream, _) = listener.accept().await?;
        let (name, acceptor) = (std::sync::Arc::clone(&name), acceptor.clone());
        // What becomes of one client is that client's affair.
        tokio::spawn(async move {
            match acceptor {
                Some(acceptor) => answer(acceptor.accept(stream).await?, &name).await,
                None => answer(stream, &name).await,
            }
        });
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

async fn answer(stream: impl AsyncRead + AsyncWrite + Unpin, name: &str) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    if stream.read_line(&mut line).await? > 0 {
        stream
            .write_all(format!("{name} {line}").as_bytes())
            .await?;
    }
    stream.shutdown().await
}
