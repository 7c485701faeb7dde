//! Waiting in tests: for a fact, and never for ever.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// How long a fact may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long nothing has to happen to count as nothing.
const SILENCE: Duration = Duration::from_millis(60);

/// The output of something that comes about.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("it comes about")
}

/// Waits until the fact holds.
pub(crate) async fn until(fact: impl Fn() -> bool) {
    soon(async {
        while !fact() {
            sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

/// A client that talks in lines.
pub(crate) struct Talker(pub(crate) BufReader<TcpStream>);

impl Talker {
    pub(crate) async fn to(address: SocketAddr) -> Self {
        Self(BufReader::new(
            soon(TcpStream::connect(address)).await.unwrap(),
        ))
    }

    pub(crate) async fn say(&mut self, line: &str) {
        let line = format!("{line}\n");
        soon(self.0.write_all(line.as_bytes())).await.unwrap();
    }

    /// The next line, or an error; empty at end of file.
    pub(crate) async fn hear(&mut self) -> io::Result<String> {
        let mut line = String::new();
        soon(self.0.read_line(&mut line)).await?;
        Ok(line.trim_end().to_owned())
    }

    pub(crate) async fn ask(&mut self, line: &str) -> String {
        self.say(line).await;
        self.hear().await.unwrap()
    }

    /// Everything that comes until end of file.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        soon(self.0.read_to_end(&mut rest)).await.unwrap();
        rest
    }

    /// Asserts that the connection ends with a reset.
    pub(crate) async fn hears_reset(&mut self) {
        let error = self.hear().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }

    /// Asserts that neither bytes nor an end come.
    pub(crate) async fn hears_nothing(&mut self) {
        let heard = timeout(SILENCE, self.0.fill_buf()).await;
        assert!(heard.is_err(), "something came: {heard:?}");
    }

    /// Closes this way of the connection.
    pub(crate) async fn close(&mut self) {
        soon(self.0.shutdown()).await.unwrap();
    }
}
