//! What these tests share.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ipreconnect::core::address::Address;
use ipreconnect::{Link, Origin, OriginSettings, Surroundings, Target};
use ipreconnect_lab::origin::{Script, ScriptedOrigin};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Handle;

/// A server that answers each line with its name.
pub(crate) fn server(name: &str) -> ScriptedOrigin {
    ScriptedOrigin::start(Script::Answer { name: name.into() }).unwrap()
}

/// The first address is preferred, the others are backups.
pub(crate) fn origin(addresses: &[SocketAddr]) -> Origin {
    with(settings(addresses))
}

pub(crate) fn settings(addresses: &[SocketAddr]) -> OriginSettings {
    OriginSettings::new(addresses.iter().map(|address| Target::from(*address)))
}

pub(crate) fn with(settings: OriginSettings) -> Origin {
    let runtime = Handle::current();
    Origin::start("test", settings, &Surroundings::watch(&runtime), &runtime)
}

pub(crate) fn leads_to(link: &Link, server: &ScriptedOrigin) -> bool {
    *link.address() == Address::Tcp(server.address())
}

/// Asks one line, and returns who answered.
pub(crate) async fn ask(link: &mut Link) -> std::io::Result<String> {
    link.write_all(b"hello\n").await?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\n") {
        let mut byte = [0];
        link.read_exact(&mut byte).await?;
        answer.push(byte[0]);
    }
    let text = String::from_utf8_lossy(&answer).into_owned();
    Ok(text.trim_end().trim_end_matches(" hello").to_owned())
}

/// Fails the test if it takes longer.
pub(crate) async fn within<T>(seconds: u64, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(seconds), future)
        .await
        .expect("it takes too long")
}

/// Waits until a fact holds.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "never came true: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
