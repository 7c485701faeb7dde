//! An origin that writes down what it does, so that it is known even of one that was killed.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::bench::origin::{BACKLOG, READY, for_ever};

/// What an answer takes.
const WORK: Duration = Duration::from_millis(2);

/// Serves for ever; writes the paths of what is posted into the file.
pub(crate) fn run(port: &str, book: &str) -> ExitCode {
    let Ok(port) = port.parse() else {
        eprintln!("error: {port} is no port");
        return ExitCode::from(2);
    };
    for_ever(format_args!("port {port}"), serve(port, book.into()))
}

async fn serve(port: u16, book: PathBuf) -> io::Result<()> {
    let book = OpenOptions::new().create(true).append(true).open(book)?;
    let book = Arc::new(book);
    let listener = listen(port)?;
    println!("{READY}");
    loop {
        let (stream, _) = listener.accept().await?;
        // What becomes of one client is that client's affair.
        tokio::spawn(answer(stream, Arc::clone(&book)));
    }
}

fn listen(port: u16) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    socket.listen(BACKLOG)
}

async fn answer(stream: TcpStream, book: Arc<File>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    loop {
        let mut first = String::new();
        if stream.read_line(&mut first).await? == 0 {
            return Ok(());
        }
        let mut length = 0;
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).await?;
            if line.trim().is_empty() {
                break;
            }
            let lower = line.to_ascii_lowercase();
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse().map_err(io::Error::other)?;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        if first.starts_with("POST") {
            // One write of a whole line, so that lines of several processes do not mix.
            (&*book).write_all(first.as_bytes())?;
        }
        tokio::time::sleep(WORK).await;
        let answer = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\nok\n";
        stream.get_mut().write_all(answer.as_bytes()).await?;
    }
}
