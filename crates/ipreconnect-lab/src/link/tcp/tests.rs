use super::*;
use crate::link::{Direction, Way};
use crate::origin::{Script, ScriptedOrigin};
use crate::patience::{Talker, soon, until};
use std::num::NonZeroU64;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const STEP: Duration = Duration::from_millis(40);
const NEVER: Duration = Duration::from_secs(3600);

fn answering() -> Script {
    Script::Answer {
        name: "blue".into(),
    }
}

fn linked(script: Script) -> (ScriptedOrigin, TcpLink) {
    let origin = ScriptedOrigin::start(script).unwrap();
    let link = TcpLink::to(origin.address()).unwrap();
    (origin, link)
}

/// An origin that the test plays itself, and a connection to it through the link.
async fn by_hand() -> (TcpLink, Talker, Talker) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let link = TcpLink::to(listener.local_addr().unwrap()).unwrap();
    let client = Talker::to(link.address()).await;
    let (origin, _) = soon(listener.accept()).await.unwrap();
    (link, client, Talker(tokio::io::BufReader::new(origin)))
}

fn refused(address: SocketAddr) -> bool {
    let connect = std::net::TcpStream::connect(address);
    connect.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

#[tokio::test]
async fn carries_both_ways_and_counts() {
    let (_origin, link) = linked(answering());
    let mut client = Talker::to(link.address()).await;
    assert_eq!(client.ask("one").await, "blue one");
    assert_eq!(client.ask("two").await, "blue two");
    assert_eq!(link.open(), 1);
    let carried = Carried {
        to_origin: 8,
        to_client: 18,
    };
    assert_eq!(link.carried(), carried);
    drop(client);
    until(|| link.open() == 0).await;
}

#[tokio::test]
async fn carries_many_bytes_unchanged_whatever_their_delays() {
    let (_origin, link) = linked(Script::Echo);
    link.set(Fault::Jitter {
        up_to: Duration::from_millis(3),
        seed: 1,
    })
    .unwrap();
    let sent: Vec<u8> = (0..600_000_u32).map(|n| (n % 251) as u8).collect();
    let client = soon(TcpStream::connect(link.address())).await.unwrap();
    let (mut read, mut write) = client.into_split();
    let copy = sent.clone();
    tokio::spawn(async move { write.write_all(&copy).await });
    let mut received = vec![0; sent.len()];
    soon(read.read_exact(&mut received)).await.unwrap();
    assert!(sent == received);
}

#[tokio::test]
async fn the_clients_end_lets_the_origin_finish() {
    let (_origin, link) = linked(Script::Sink);
    let mut client = Talker::to(link.address()).await;
    client.say("12345").await;
    client.close().await;
    assert_eq!(client.rest().await, b"6\n");
    until(|| link.open() == 0).await;
}

#[tokio::test]
async fn the_origins_end_lets_the_client_finish() {
    let (link, mut client, mut origin) = by_hand().await;
    origin.close().await;
    assert_eq!(client.rest().await, b"");
    client.say("still here").await;
    client.close().await;
    assert_eq!(origin.rest().await, b"still here\n");
    until(|| link.open() == 0).await;
}

#[tokio::test]
async fn a_reset_passes_as_a_reset() {
    let (link, mut client, origin) = by_hand().await;
    origin.0.get_ref().set_zero_linger().unwrap();
    drop(origin);
    client.hears_reset().await;
    until(|| link.open() == 0).await;

    let (_link, client, mut origin) = by_hand().await;
    client.0.get_ref().set_zero_linger().unwrap();
    drop(client);
    origin.hears_reset().await;
}

#[tokio::test]
async fn an_origin_that_refuses_resets_the_client() {
    let (origin, link) = linked(answering());
    origin.kill();
    Talker::to(link.address()).await.hears_reset().await;
    until(|| link.open() == 0).await;
}

#[tokio::test]
async fn latency_delays_each_way() {
    let (_origin, link) = linked(answering());
    let mut client = Talker::to(link.address()).await;
    client.ask("quick").await;
    link.set(Fault::Latency(STEP)).unwrap();
    let before = Instant::now();
    assert_eq!(client.ask("slow").await, "blue slow");
    assert!(before.elapsed() >= 2 * STEP);
}

#[tokio::test]
async fn lifting_a_delay_lets_go_what_it_held() {
    let (_origin, link) = linked(answering());
    let mut client = Talker::to(link.address()).await;
    client.ask("quick").await;
    link.set(Fault::Latency(NEVER)).unwrap();
    client.say("held").await;
    client.hears_nothing().await;
    link.lift(Kind::Latency).unwrap();
    assert_eq!(client.hear().await.unwrap(), "blue held");
}

#[tokio::test]
async fn bandwidth_bounds_the_rate() {
    let (_origin, link) = linked(Script::Source { bytes: 60_000 });
    link.set(Fault::Bandwidth {
        bytes_per_second: NonZeroU64::new(200_000).unwrap(),
    })
    .unwrap();
    let before = Instant::now();
    let mut client = Talker::to(link.address()).await;
    assert_eq!(client.rest().await.len(), 60_000);
    // 300 ms for all of it, less what the full bucket gives at once.
    assert!(before.elapsed() >= Duration::from_millis(270));
}

#[tokio::test]
async fn loss_costs_a_stream_a_retransmission() {
    let (_origin, link) = linked(answering());
    let fault = Fault::Loss {
        percent: 100,
        seed: 1,
    };
    link.set(fault).unwrap();
    let before = Instant::now();
    let mut client = Talker::to(link.address()).await;
    assert_eq!(client.ask("again").await, "blue again");
    assert!(before.elapsed() >= Duration::from_millis(400));
}

#[tokio::test]
async fn reset_hits_open_and_new_connections() {
    let (link, mut client, mut origin) = by_hand().await;
    link.set(Fault::Reset).unwrap();
    client.hears_reset().await;
    origin.hears_reset().await;
    Talker::to(link.address()).await.hears_reset().await;
    until(|| link.open() == 0).await;
}

#[tokio::test]
async fn reset_all_spares_who_comes_later() {
    let (_origin, link) = linked(answering());
    let mut first = Talker::to(link.address()).await;
    first.ask("one").await;
    let mut unaccepted = Talker::to(link.address()).await;
    link.reset_all();
    let mut later = Talker::to(link.address()).await;
    first.hears_reset().await;
    unaccepted.hears_reset().await;
    assert_eq!(later.ask("two").await, "blue two");
}

#[tokio::test]
async fn a_blackhole_swallows_and_tells_nobody() {
    let (link, mut client, mut origin) = by_hand().await;
    link.set(Fault::Blackhole(Direction::Both)).unwrap();
    // More than any socket buffer holds: the link takes it.
    let much = vec![0; 16 << 20];
    soon(client.0.write_all(&much)).await.unwrap();
    origin.say("unheard").await;
    client.hears_nothing().await;
    origin.hears_nothing().await;
    assert_eq!(link.carried().total(), 0);
    assert_eq!(link.open(), 1);

    // There is a hole in the stream for good.
    link.clear().unwrap();
    client.say("too late").await;
    origin.hears_nothing().await;
    drop(client);
    drop(origin);
    until(|| link.open() == 0).await;
}

#[tokio::test]
async fn a_blackhole_swallows_one_direction() {
    let (origin, link) = linked(answering());
    let mut client = Talker::to(link.address()).await;
    client.ask("one").await;
    link.set(Fault::Blackhole(Direction::ToClient)).unwrap();
    client.say("two").await;
    until(|| origin.answered() == 2).await;
    client.hears_nothing().await;
}

#[tokio::test]
async fn what_comes_in_a_blackhole_waits_for_its_end() {
    let (origin, link) = linked(answering());
    link.set(Fault::Blackhole(Direction::ToOrigin)).unwrap();
    let mut client = Talker::to(link.address()).await;
    client.say("hello").await;
    until(|| link.open() == 1).await;
    client.hears_nothing().await;
    assert_eq!(origin.accepted(), 0);
    link.clear().unwrap();
    assert_eq!(client.hear().await.unwrap(), "blue hello");
}

#[tokio::test]
async fn a_quiet_connection_survives_a_blackhole() {
    let (_origin, link) = linked(answering());
    let mut client = Talker::to(link.address()).await;
    client.ask("before").await;
    link.set(Fault::Blackhole(Direction::Both)).unwrap();
    client.hears_nothing().await;
    link.clear().unwrap();
    assert_eq!(client.ask("after").await, "blue after");
}

#[tokio::test]
async fn a_freeze_loses_nothing() {
    let (origin, link) = linked(answering());
    let mut client = Talker::to(link.address()).await;
    client.ask("one").await;
    link.set(Fault::Freeze).unwrap();
    client.say("two").await;
    let mut other = Talker::to(link.address()).await;
    other.say("three").await;
    client.hears_nothing().await;
    other.hears_nothing().await;
    assert_eq!((origin.accepted(), origin.answered()), (1, 1));

    link.clear().unwrap();
    assert_eq!(client.hear().await.unwrap(), "blue two");
    assert_eq!(other.hear().await.unwrap(), "blue three");
}

#[tokio::test]
async fn refuse_closes_the_port_and_nothing_else() {
    let (_origin, link) = linked(answering());
    let mut client = Talker::to(link.address()).await;
    client.ask("one").await;
    for _ in 0..3 {
        link.set(Fault::Refuse).unwrap();
        assert!(refused(link.address()));
        assert_eq!(client.ask("two").await, "blue two");
        link.lift(Kind::Refuse).unwrap();
        let mut other = Talker::to(link.address()).await;
        assert_eq!(other.ask("three").await, "blue three");
    }
}

#[tokio::test]
async fn half_open_hides_the_death_of_the_origin() {
    let (origin, link) = linked(answering());
    let mut client = Talker::to(link.address()).await;
    client.ask("one").await;
    link.set(Fault::HalfOpen(Way::ToClient)).unwrap();
    origin.kill();
    until(|| origin.open() == 0).await;
    for _ in 0..3 {
        client.say("anybody there?").await;
        client.hears_nothing().await;
    }
    assert_eq!(link.open(), 1);
}

#[tokio::test]
async fn half_open_hides_the_leaving_of_the_client() {
    let (origin, link) = linked(answering());
    link.set(Fault::HalfOpen(Way::ToOrigin)).unwrap();
    let mut client = Talker::to(link.address()).await;
    until(|| origin.open() == 1).await;
    client.close().await;
    client.hears_nothing().await;
    assert_eq!(origin.open(), 1);
}

#[tokio::test]
async fn half_open_leaves_the_other_way_alone() {
    let (link, mut client, mut origin) = by_hand().await;
    link.set(Fault::HalfOpen(Way::ToOrigin)).unwrap();
    client.say("lost").await;
    origin.say("heard").await;
    assert_eq!(client.hear().await.unwrap(), "heard");
    origin.hears_nothing().await;
}

#[tokio::test]
async fn a_slow_close_holds_back_the_end_only() {
    let (_origin, link) = linked(Script::Once {
        name: "blue".into(),
    });
    link.set(Fault::SlowClose(STEP)).unwrap();
    let mut client = Talker::to(link.address()).await;
    assert_eq!(client.ask("one").await, "blue one");
    link.set(Fault::SlowClose(NEVER)).unwrap();
    let mut other = Talker::to(link.address()).await;
    assert_eq!(other.ask("two").await, "blue two");
    assert_eq!(client.rest().await, b"");
    other.hears_nothing().await;
    link.clear().unwrap();
    assert_eq!(other.rest().await, b"");
}

#[tokio::test]
async fn faults_work_together_and_replace_their_kind() {
    let (_origin, link) = linked(answering());
    link.set(Fault::Latency(NEVER)).unwrap();
    link.set(Fault::Latency(STEP)).unwrap();
    link.set(Fault::Jitter {
        up_to: STEP,
        seed: 3,
    })
    .unwrap();
    let before = Instant::now();
    let mut client = Talker::to(link.address()).await;
    assert_eq!(client.ask("one").await, "blue one");
    assert!(before.elapsed() >= 2 * STEP);
}

#[tokio::test]
async fn dropping_the_link_ends_everything() {
    let (link, mut client, mut origin) = by_hand().await;
    let address = link.address();
    drop(link);
    assert!(refused(address));
    client.hears_reset().await;
    origin.hears_reset().await;
}

#[tokio::test]
async fn links_over_ipv6() {
    let origin = ScriptedOrigin::start_ipv6(answering()).unwrap();
    let link = TcpLink::to(origin.address()).unwrap();
    assert!(link.address().is_ipv6());
    let mut client = Talker::to(link.address()).await;
    assert_eq!(client.ask("six").await, "blue six");
}
