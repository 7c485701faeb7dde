//! An origin whose one page may be kept.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::origin::{READY, for_ever};

/// Bytes of the page.
pub(crate) const PAGE: usize = 1024;

/// Serves for ever.
pub(crate) fn run(port: &str) -> ExitCode {
    let Ok(port) = port.parse() else {
        eprintln!("error: {port} is no port");
        return ExitCode::from(2);
    };
    for_ever(format_args!("port {port}"), serve(port))
}

async fn serve(port: u16) -> io::Result<()> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listener = TcpListener::bind(address).await?;
    println!("{READY}");
    loop {
        let (stream, _) = listener.accept().await?;
        // What becomes of one client is that client's affair.
        tokio::spawn(answer(stream));
    }
}

async fn answer(mut stream: TcpStream) -> io::Result<()> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\nCache-Control: public, max-age=86400000\r\nETag: \"1\"\r\nContent-Type: text/plain\r\nContent-Length: {PAGE}\r\n\r\n"
    );
    let answer = [head.as_bytes(), &[b'x'; PAGE]].concat();
    let mut heard = Vec::with_capacity(4096);
    loop {
        heard.clear();
        while !heard.ends_with(b"\r\n\r\n") {
            if stream.read_buf(&mut heard).await? == 0 {
                return Ok(());
            }
        }
        stream.write_all(&answer).await?;
    }
}
