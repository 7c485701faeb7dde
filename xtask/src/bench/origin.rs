//! A small origin as a process of its own, to be killed and stopped for real.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// Serves until it is killed: reads one line, answers `NAME line`, closes.
pub(crate) fn run(address: &str, name: &str) -> std::io::Result<()> {
    let address: SocketAddr = address.parse().map_err(std::io::Error::other)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let listener = socket.listen(4096)?;
        loop {
            let (stream, _) = listener.accept().await?;
            // One client's trouble is its own.
            tokio::spawn(answer(stream, name.to_owned()));
        }
    })
}

async fn answer(mut stream: TcpStream, name: String) -> std::io::Result<()> {
    let mut line = Vec::new();
    while !line.ends_with(b"\n") && line.len() < 4096 {
        if stream.read_buf(&mut line).await? == 0 {
            return Ok(());
        }
    }
    stream.write_all(format!("{name} {}", String::from_utf8_lossy(&line)).as_bytes()).await?;
    stream.shutdown().await
}
