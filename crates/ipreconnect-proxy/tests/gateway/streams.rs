//! Streams as they pass: half-close, resets, bulk, slow readers, Unix sockets, held clients.

use std::net::SocketAddr;
use std::time::Duration;

use crate::scene::{Scene, listener, settings, until, within};
use ipreconnect_lab::origin::{Script, ScriptedOrigin};
use ipreconnect_proxy::{Door, HalfClose, ListenerSettings, Plane, Timeouts};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

async fn dial(scene: &Scene) -> TcpStream {
    TcpStream::connect(scene.address).await.unwrap()
}

async fn ask(stream: &mut TcpStream, line: &str) -> String {
    stream.write_all(line.as_bytes()).await.unwrap();
    let mut answer = vec![0; 1024];
    let count = within(10, stream.read(&mut answer)).await.unwrap();
    String::from_utf8(answer[..count].to_vec()).unwrap()
}

#[tokio::test]
async fn a_half_close_is_carried_and_the_answer_still_comes() {
    let origin = ScriptedOrigin::start(Script::Sink).unwrap();
    let scene = Scene::new(&[origin.address()]);
    scene.up().await;
    let mut client = dial(&scene).await;
    let bytes = vec![7u8; 3_000_000];
    client.write_all(&bytes).await.unwrap();
    client.shutdown().await.unwrap();
    let mut answer = String::new();
    within(10, client.read_to_string(&mut answer))
        .await
        .unwrap();
    assert_eq!(answer.trim(), "3000000");
}

#[tokio::test]
async fn bulk_arrives_whole_and_ends_in_order() {
    const BYTES: u64 = 64 * 1024 * 1024;
    let origin = ScriptedOrigin::start(Script::Source { bytes: BYTES }).unwrap();
    let scene = Scene::new(&[origin.address()]);
    scene.up().await;
    let mut client = dial(&scene).await;
    let copied = within(30, tokio::io::copy(&mut client, &mut tokio::io::sink())).await;
    assert_eq!(copied.unwrap(), BYTES);
}

#[tokio::test]
async fn what_is_echoed_is_what_was_sent() {
    let origin = ScriptedOrigin::start(Script::Echo).unwrap();
    let scene = Scene::new(&[origin.address()]);
    scene.up().await;
    let (mut read, mut write) = dial(&scene).await.into_split();
    let sent: Vec<u8> = (0..5_000_000u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let copy = sent.clone();
    let writer = tokio::spawn(async move {
        // Odd sizes cross the borders of buffers and pipes.
        for chunk in copy.chunks(70_001) {
            write.write_all(chunk).await.unwrap();
        }
        write.shutdown().await.unwrap();
    });
    let mut received = Vec::new();
    within(30, read.read_to_end(&mut received)).await.unwrap();
    writer.await.unwrap();
    assert!(
        received == sent,
        "{} bytes of {}",
        received.len(),
        sent.len()
    );
}

#[tokio::test]
async fn a_reset_of_the_origin_is_a_reset_for_the_client() {
    let origin = ScriptedOrigin::start(Script::Silent).unwrap();
    let scene = Scene::new(&[origin.address()]);
    scene.up().await;
    let mut client = dial(&scene).await;
    client.write_all(b"hello\n").await.unwrap();
    until("the origin has it", || origin.open() == 1).await;
    origin.kill();
    let error = within(10, client.read(&mut [0; 16])).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_client_that_says_nothing_or_resets_disturbs_nobody() {
    let origin = ScriptedOrigin::start(Script::Answer { name: "a".into() }).unwrap();
    let scene = Scene::new(&[origin.address()]);
    scene.up().await;
    let _silent: Vec<TcpStream> = {
        let mut silent = Vec::new();
        for _ in 0..50 {
            silent.push(dial(&scene).await);
        }
        silent
    };
    for _ in 0..50 {
        let rude = dial(&scene).await;
        rude.set_zero_linger().unwrap();
        drop(rude);
    }
    let mut client = dial(&scene).await;
    assert_eq!(ask(&mut client, "hello\n").await, "a hello\n");
}

#[tokio::test]
async fn a_held_client_that_leaves_is_let_go_and_one_that_half_closes_may_wait() {
    for (half_close, served) in [(HalfClose::Leaves, false), (HalfClose::Waits, true)] {
        let origin = ScriptedOrigin::start(Script::Once { name: "a".into() }).unwrap();
        origin.kill();
        let settings = settings(&[origin.address()]);
        let listener = ListenerSettings {
            half_close,
            ..listener()
        };
        let scene = Scene::with(settings, listener);
        let mut client = dial(&scene).await;
        client.write_all(b"hello\n").await.unwrap();
        until("it is held", || scene.origin.status().waiting == 1).await;
        client.shutdown().await.unwrap();
        if !served {
            until("it is let go", || scene.origin.status().waiting == 0).await;
        }
        origin.revive().unwrap();
        let mut answer = String::new();
        within(10, client.read_to_string(&mut answer))
            .await
            .unwrap();
        assert_eq!(answer, if served { "a hello\n" } else { "" });
    }
}

#[tokio::test]
async fn a_held_client_is_not_read_from() {
    let origin = ScriptedOrigin::start(Script::Sink).unwrap();
    origin.kill();
    let scene = Scene::new(&[origin.address()]);
    let client = dial(&scene).await;
    until("it is held", || scene.origin.status().waiting == 1).await;
    // The kernel's own buffers fill; beyond them nothing is taken.
    let chunk = vec![0u8; 1 << 20];
    let mut written = 0usize;
    loop {
        let ready = tokio::time::timeout(Duration::from_millis(300), client.writable()).await;
        if ready.is_err() {
            break;
        }
        written += client.try_write(&chunk).unwrap_or(0);
        assert!(
            written < 64 << 20,
            "{written} bytes were taken from a held client"
        );
    }
}

#[tokio::test]
async fn the_hold_ends_with_patience() {
    let origin = ScriptedOrigin::start(Script::Sink).unwrap();
    origin.kill();
    let mut settings = settings(&[origin.address()]);
    settings.hold.patience = Duration::from_millis(300);
    let scene = Scene::with(settings, listener());
    let mut client = dial(&scene).await;
    let count = within(5, client.read(&mut [0; 16])).await.unwrap();
    assert_eq!(count, 0);
}

#[tokio::test]
async fn a_slow_reader_is_kept_and_buffers_stay_bounded() {
    let listener_socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: SocketAddr = listener_socket.local_addr().unwrap();
    let written = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = std::sync::Arc::clone(&written);
    let server = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener_socket.accept().await.unwrap();
            let counted = std::sync::Arc::clone(&counted);
            tokio::spawn(async move {
                let chunk = vec![1u8; 65_536];
                while let Ok(count) = stream.write(&chunk).await {
                    counted.fetch_add(count, std::sync::atomic::Ordering::Relaxed);
                }
            });
        }
    });
    let stall = Timeouts {
        stall: Duration::from_secs(1),
        idle: Duration::from_secs(3600),
    };
    let scene = Scene::with(
        settings(&[address]),
        ListenerSettings {
            timeouts: stall,
            ..listener()
        },
    );
    scene.up().await;
    let mut client = dial(&scene).await;
    let mut byte = [0; 1];
    client.read_exact(&mut byte).await.unwrap();
    // The client closes its window by not reading; its kernel answers the probes, so that it is
    // spared however long it takes.
    tokio::time::sleep(Duration::from_secs(8)).await;
    let taken = written.load(std::sync::atomic::Ordering::Relaxed);
    assert!(
        taken < 64 << 20,
        "{taken} bytes were buffered for a client that does not read"
    );
    let mut more = vec![0; taken / 2];
    within(10, client.read_exact(&mut more)).await.unwrap();
    server.abort();
}

#[tokio::test]
async fn links_are_closed_by_order_when_their_endpoint_is_down() {
    use ipreconnect::core::origin::OnDown;
    let (a, b) = (
        ScriptedOrigin::start(Script::Waiter { name: "a".into() }).unwrap(),
        ScriptedOrigin::start(Script::Waiter { name: "b".into() }).unwrap(),
    );
    let mut settings = settings(&[a.address(), b.address()]);
    settings.supervisor.on_down = OnDown::Close;
    let scene = Scene::with(settings, listener());
    scene.up().await;
    let mut old = dial(&scene).await;
    assert_eq!(ask(&mut old, "one\n").await, "a one\n");
    for _ in 0..40 {
        let mut client = dial(&scene).await;
        ask(&mut client, "two\n").await;
    }
    // Meanwhile the gateway learns how this server ends half-closed connections: one more of them.
    until("it has learned", || a.accepted() >= 42 && a.open() == 1).await;
    a.freeze();
    // Witnesses: clients whose requests stay unanswered.
    let mut waiting = Vec::new();
    for _ in 0..6 {
        let mut client = dial(&scene).await;
        client.write_all(b"three\n").await.unwrap();
        waiting.push(client);
    }
    let error = within(10, old.read(&mut [0; 16])).await;
    assert!(error.is_err() || error.is_ok_and(|count| count == 0));
}

#[tokio::test]
async fn clients_that_all_asked_before_the_last_answer_are_left_with_nobody() {
    use ipreconnect::core::origin::Health;
    let (a, b) = (
        ScriptedOrigin::start(Script::Waiter { name: "a".into() }).unwrap(),
        ScriptedOrigin::start(Script::Waiter { name: "b".into() }).unwrap(),
    );
    let scene = Scene::new(&[a.address(), b.address()]);
    scene.up().await;
    for _ in 0..40 {
        let mut client = dial(&scene).await;
        ask(&mut client, "quick\n").await;
    }
    until("it has learned", || a.accepted() >= 41 && a.open() == 0).await;
    let mut waiting = Vec::new();
    for _ in 0..6 {
        let mut client = dial(&scene).await;
        client.write_all(b"WAIT\n").await.unwrap();
        waiting.push(client);
    }
    let mut last = dial(&scene).await;
    assert_eq!(ask(&mut last, "last\n").await, "a last\n");
    let health = || scene.origin.status().endpoints[0].health;
    // A process that lets them wait on purpose passes the check.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(health(), Health::Up);
    assert_eq!(ask(&mut last, "again\n").await, "a again\n");
    a.freeze();
    until("it is found frozen", || health() == Health::Down).await;
}

#[tokio::test]
async fn clients_that_wait_on_purpose_are_no_frozen_origin() {
    let (a, b) = (
        ScriptedOrigin::start(Script::Waiter { name: "a".into() }).unwrap(),
        ScriptedOrigin::start(Script::Waiter { name: "b".into() }).unwrap(),
    );
    let scene = Scene::new(&[a.address(), b.address()]);
    scene.up().await;
    for _ in 0..60 {
        let mut client = dial(&scene).await;
        assert_eq!(ask(&mut client, "quick\n").await, "a quick\n");
    }
    let mut waiting = Vec::new();
    for _ in 0..20 {
        let mut client = dial(&scene).await;
        client.write_all(b"WAIT\n").await.unwrap();
        waiting.push(client);
    }
    until("they wait", || a.waiting() == 20).await;
    // Far longer than any verdict takes.
    for _ in 0..40 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(scene.origin.status().endpoints[0].health.to_string(), "up");
    }
    a.release();
    for client in &mut waiting {
        let mut answer = [0; 7];
        within(10, client.read_exact(&mut answer)).await.unwrap();
        assert_eq!(&answer, b"a WAIT\n");
    }
}

#[tokio::test]
async fn unix_sockets_on_both_sides() {
    use ipreconnect_proxy::ListenAddress;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("origin.sock");
    let script = Script::Answer {
        name: "unix".into(),
    };
    let origin = ScriptedOrigin::start_unix(&path, script).unwrap();
    let target = format!("unix:{}", path.display()).parse().unwrap();
    let mut scene = Scene::with(ipreconnect::OriginSettings::new([target]), listener());
    let front = directory.path().join("front.sock");
    let address = ListenAddress::Unix(front.clone());
    scene
        .gateway
        .listen(
            "unix",
            &[address],
            scene.origin.clone(),
            listener(),
            Door::default(),
            Plane::Stream,
        )
        .unwrap();
    scene.up().await;
    let mut client = tokio::net::UnixStream::connect(&front).await.unwrap();
    client.write_all(b"hello\n").await.unwrap();
    let mut answer = vec![0; 64];
    let count = within(10, client.read(&mut answer)).await.unwrap();
    assert_eq!(&answer[..count], b"unix hello\n");
    assert!(origin.answered() >= 1);
    scene.gateway.close("unix");
    assert!(!front.exists());
}
