use super::*;
use crate::patience::{Talker, soon, until};
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

fn named(name: &str) -> Script {
    Script::Answer { name: name.into() }
}

fn refused(address: SocketAddr) -> bool {
    let connect = std::net::TcpStream::connect(address);
    connect.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

/// A path that no other test has.
fn path(test: &str) -> PathBuf {
    std::env::temp_dir().join(format!("lab-{test}-{}.sock", std::process::id()))
}

#[tokio::test]
async fn answers_each_line_until_the_client_closes() {
    let origin = ScriptedOrigin::start(named("blue")).unwrap();
    let mut client = Talker::to(origin.address()).await;
    assert_eq!(client.ask("one").await, "blue one");
    client.say("two\nthree").await;
    assert_eq!(client.hear().await.unwrap(), "blue two");
    assert_eq!(client.hear().await.unwrap(), "blue three");
    assert_eq!((origin.accepted(), origin.open()), (1, 1));
    until(|| origin.answered() == 3).await;
    client.close().await;
    assert_eq!(client.rest().await, b"");
    until(|| origin.open() == 0).await;
}

#[tokio::test]
async fn closes_on_an_end_before_any_request() {
    for script in [named("blue"), Script::Silent, Script::Echo] {
        let origin = ScriptedOrigin::start(script).unwrap();
        let mut client = Talker::to(origin.address()).await;
        client.close().await;
        assert_eq!(client.rest().await, b"");
        assert_eq!(origin.answered(), 0);
    }
}

#[tokio::test]
async fn an_endless_line_ends_the_connection() {
    let origin = ScriptedOrigin::start(named("blue")).unwrap();
    let mut client = Talker::to(origin.address()).await;
    let line = vec![b'x'; 200_000];
    // The origin may hang up while the client still writes.
    let _ = soon(client.0.write_all(&line)).await;
    until(|| origin.accepted() == 1 && origin.open() == 0).await;
    assert_eq!(origin.answered(), 0);
}

#[tokio::test]
async fn once_answers_once() {
    let script = Script::Once {
        name: "blue".into(),
    };
    let origin = ScriptedOrigin::start(script).unwrap();
    let mut client = Talker::to(origin.address()).await;
    client.say("one").await;
    assert_eq!(client.rest().await, b"blue one\n");
}

#[tokio::test]
async fn echo_returns_everything_after_a_half_close() {
    let origin = ScriptedOrigin::start(Script::Echo).unwrap();
    let mut client = Talker::to(origin.address()).await;
    client.say("no line").await;
    client.close().await;
    assert_eq!(client.rest().await, b"no line\n");
}

#[tokio::test]
async fn greeting_speaks_first() {
    let script = Script::Greeting {
        name: "blue".into(),
    };
    let origin = ScriptedOrigin::start(script).unwrap();
    let mut client = Talker::to(origin.address()).await;
    assert_eq!(client.hear().await.unwrap(), "blue ready");
    assert_eq!(origin.answered(), 0);
    assert_eq!(client.ask("one").await, "blue one");
}

#[tokio::test]
async fn silent_never_answers() {
    let origin = ScriptedOrigin::start(Script::Silent).unwrap();
    let mut client = Talker::to(origin.address()).await;
    client.say("anybody there?").await;
    client.hears_nothing().await;
    assert_eq!((origin.accepted(), origin.answered()), (1, 0));
}

#[tokio::test]
async fn a_waiter_answers_when_released() {
    let script = Script::Waiter {
        name: "blue".into(),
    };
    let origin = ScriptedOrigin::start(script).unwrap();
    let mut client = Talker::to(origin.address()).await;
    assert_eq!(client.ask("one").await, "blue one");
    client.say("WAIT for me\nnext").await;
    until(|| origin.waiting() == 1).await;
    client.hears_nothing().await;
    origin.release();
    assert_eq!(client.hear().await.unwrap(), "blue WAIT for me");
    assert_eq!(client.hear().await.unwrap(), "blue next");

    client.say("WAIT again").await;
    until(|| origin.waiting() == 1).await;
    drop(client);
    until(|| origin.waiting() == 0 && origin.open() == 0).await;
}

#[tokio::test]
async fn sink_counts_and_source_pours() {
    let sink = ScriptedOrigin::start(Script::Sink).unwrap();
    let mut client = Talker::to(sink.address()).await;
    soon(client.0.write_all(&vec![0; 1_000_000])).await.unwrap();
    client.close().await;
    assert_eq!(client.rest().await, b"1000000\n");

    let source = ScriptedOrigin::start(Script::Source { bytes: 1_000_000 }).unwrap();
    let mut client = Talker::to(source.address()).await;
    client.say("is ignored").await;
    assert_eq!(client.rest().await.len(), 1_000_000);
    assert_eq!(source.open(), 1, "the client's way is still open");
    client.close().await;
    until(|| source.open() == 0).await;
}

#[tokio::test]
async fn killed_it_resets_and_refuses_and_revived_it_serves_again() {
    let origin = ScriptedOrigin::start(named("blue")).unwrap();
    for round in 1..4 {
        let mut client = Talker::to(origin.address()).await;
        assert_eq!(client.ask("one").await, "blue one");
        let mut unaccepted = Talker::to(origin.address()).await;

        origin.kill();
        assert!(refused(origin.address()));
        client.hears_reset().await;
        unaccepted.hears_reset().await;
        until(|| origin.open() == 0).await;
        origin.kill();

        origin.revive().unwrap();
        origin.revive().unwrap();
        let mut client = Talker::to(origin.address()).await;
        assert_eq!(client.ask("two").await, "blue two");
        assert_eq!(origin.answered(), 2 * round);
    }
}

#[tokio::test]
async fn frozen_it_only_has_its_kernel_accept() {
    let origin = ScriptedOrigin::start(named("blue")).unwrap();
    let mut client = Talker::to(origin.address()).await;
    client.ask("one").await;
    origin.freeze();
    client.say("two").await;
    let mut newcomer = Talker::to(origin.address()).await;
    newcomer.say("three").await;
    client.hears_nothing().await;
    newcomer.hears_nothing().await;
    assert_eq!((origin.accepted(), origin.answered()), (1, 1));

    origin.thaw();
    assert_eq!(client.hear().await.unwrap(), "blue two");
    assert_eq!(newcomer.hear().await.unwrap(), "blue three");
}

#[tokio::test]
async fn frozen_it_finishes_no_answer() {
    let origin = ScriptedOrigin::start(named("blue")).unwrap();
    origin.slow(Duration::from_millis(20));
    let mut client = Talker::to(origin.address()).await;
    client.say("one").await;
    until(|| origin.open() == 1).await;
    origin.freeze();
    client.hears_nothing().await;
    origin.thaw();
    assert_eq!(client.hear().await.unwrap(), "blue one");
}

#[tokio::test]
async fn it_can_be_killed_while_frozen() {
    let origin = ScriptedOrigin::start(named("blue")).unwrap();
    let mut client = Talker::to(origin.address()).await;
    client.ask("one").await;
    origin.freeze();
    let mut queued = Talker::to(origin.address()).await;
    origin.kill();
    client.hears_reset().await;
    queued.hears_reset().await;
    origin.revive().unwrap();
    let mut client = Talker::to(origin.address()).await;
    assert_eq!(client.ask("two").await, "blue two");
}

#[tokio::test]
async fn slow_it_answers_later() {
    let by = Duration::from_millis(60);
    let origin = ScriptedOrigin::start(named("blue")).unwrap();
    origin.slow(by);
    let mut client = Talker::to(origin.address()).await;
    let before = Instant::now();
    assert_eq!(client.ask("one").await, "blue one");
    assert!(before.elapsed() >= by);
    origin.slow(Duration::ZERO);
    assert_eq!(client.ask("two").await, "blue two");
}

#[tokio::test]
async fn dropped_it_is_gone() {
    let origin = ScriptedOrigin::start(named("blue")).unwrap();
    let address = origin.address();
    let mut client = Talker::to(address).await;
    client.ask("one").await;
    drop(origin);
    assert!(refused(address));
    client.hears_reset().await;
}

#[tokio::test]
async fn it_listens_on_ipv6() {
    let origin = ScriptedOrigin::start_ipv6(named("blue")).unwrap();
    let mut client = Talker::to(origin.address()).await;
    assert_eq!(client.ask("six").await, "blue six");
    origin.kill();
    assert!(refused(origin.address()));
    origin.revive().unwrap();
    let mut client = Talker::to(origin.address()).await;
    assert_eq!(client.ask("six").await, "blue six");
}

async fn ask_unix(path: &Path) -> io::Result<String> {
    let mut client = BufReader::new(UnixStream::connect(path).await?);
    client.write_all(b"one\n").await?;
    client.shutdown().await?;
    let mut answer = String::new();
    soon(client.read_to_string(&mut answer)).await?;
    Ok(answer)
}

#[tokio::test]
async fn it_lives_and_dies_on_a_unix_socket() {
    let origin = ScriptedOrigin::start_unix(path("life"), named("blue")).unwrap();
    let path = origin.path().to_owned();
    assert_eq!(ask_unix(&path).await.unwrap(), "blue one\n");
    let mut open = UnixStream::connect(&path).await.unwrap();
    until(|| origin.open() == 1).await;

    origin.kill();
    let error = ask_unix(&path).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    assert_eq!(soon(open.read(&mut [0])).await.unwrap(), 0);

    origin.revive().unwrap();
    assert_eq!(ask_unix(&path).await.unwrap(), "blue one\n");
    drop(origin);
    until(|| !path.exists()).await;
}

#[tokio::test]
async fn a_living_unix_socket_is_not_replaced() {
    let origin = ScriptedOrigin::start_unix(path("taken"), named("blue")).unwrap();
    let second = ScriptedOrigin::start_unix(origin.path(), named("green"));
    let error = second.err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    assert_eq!(ask_unix(origin.path()).await.unwrap(), "blue one\n");
}

#[tokio::test]
async fn a_stale_unix_socket_is_replaced() {
    let path = path("stale");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let origin = ScriptedOrigin::start_unix(&path, named("blue")).unwrap();
    assert_eq!(ask_unix(origin.path()).await.unwrap(), "blue one\n");
}
