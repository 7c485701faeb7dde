use super::*;
use crate::link::{Direction, Way};
use crate::patience::soon;
use std::num::NonZeroU64;
use std::time::{Duration, Instant};
use tokio::net::UdpSocket;
use tokio::time::timeout;

const STEP: Duration = Duration::from_millis(40);
const NEVER: Duration = Duration::from_secs(3600);
const SILENCE: Duration = Duration::from_millis(60);

/// The test is both ends: a client, and the origin behind the link.
struct Ends {
    link: UdpLink,
    client: UdpSocket,
    origin: UdpSocket,
}

impl Ends {
    async fn new() -> Self {
        let origin = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let link = UdpLink::to(origin.local_addr().unwrap()).unwrap();
        let client = client_of(&link).await;
        Self {
            link,
            client,
            origin,
        }
    }

    async fn ask(&self, word: &str) {
        self.client.send(word.as_bytes()).await.unwrap();
    }

    /// The origin's next datagram, and whom to answer.
    async fn asked(&self) -> (String, SocketAddr) {
        let mut buffer = [0; 100];
        let (length, from) = soon(self.origin.recv_from(&mut buffer)).await.unwrap();
        (word(&buffer[..length]), from)
    }

    async fn answer(&self, word: &str, to: SocketAddr) {
        self.origin.send_to(word.as_bytes(), to).await.unwrap();
    }

    async fn answered(&self) -> String {
        heard(&self.client).await
    }

    /// A round trip.
    async fn exchange(&self, word: &str) -> SocketAddr {
        self.ask(word).await;
        let (asked, from) = self.asked().await;
        assert_eq!(asked, word);
        self.answer(word, from).await;
        assert_eq!(self.answered().await, word);
        from
    }
}

async fn client_of(link: &UdpLink) -> UdpSocket {
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.connect(link.address()).await.unwrap();
    client
}

fn word(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

async fn heard(socket: &UdpSocket) -> String {
    let mut buffer = [0; 100];
    let length = soon(socket.recv(&mut buffer)).await.unwrap();
    word(&buffer[..length])
}

async fn hears_nothing(socket: &UdpSocket) {
    let heard = timeout(SILENCE, socket.recv(&mut [0; 100])).await;
    assert!(heard.is_err(), "something came: {heard:?}");
}

#[tokio::test]
async fn carries_both_ways_and_counts() {
    let ends = Ends::new().await;
    ends.exchange("one").await;
    ends.exchange("three").await;
    assert_eq!(ends.link.open(), 1);
    let carried = Carried {
        to_origin: 8,
        to_client: 8,
    };
    assert_eq!(ends.link.carried(), carried);
}

#[tokio::test]
async fn answers_find_their_client() {
    let ends = Ends::new().await;
    let other = client_of(&ends.link).await;
    ends.ask("first").await;
    let (_, first) = ends.asked().await;
    other.send(b"second").await.unwrap();
    let (_, second) = ends.asked().await;
    ends.answer("to the second", second).await;
    ends.answer("to the first", first).await;
    assert_eq!(ends.answered().await, "to the first");
    assert_eq!(heard(&other).await, "to the second");
    assert_eq!(ends.link.open(), 2);
}

#[tokio::test]
async fn latency_delays_each_way() {
    let ends = Ends::new().await;
    ends.link.set(Fault::Latency(STEP)).unwrap();
    let before = Instant::now();
    ends.exchange("slow").await;
    assert!(before.elapsed() >= 2 * STEP);
}

#[tokio::test]
async fn jitter_loses_nothing() {
    let ends = Ends::new().await;
    let fault = Fault::Jitter {
        up_to: STEP,
        seed: 5,
    };
    ends.link.set(fault).unwrap();
    let mut sent: Vec<String> = (10..40).map(|number| number.to_string()).collect();
    for word in &sent {
        ends.ask(word).await;
    }
    let mut received = Vec::new();
    for _ in &sent {
        received.push(ends.asked().await.0);
    }
    assert_ne!(received, sent, "datagrams overtake each other");
    received.sort();
    sent.sort();
    assert_eq!(received, sent);
}

#[tokio::test]
async fn bandwidth_bounds_the_rate() {
    let ends = Ends::new().await;
    let rate = NonZeroU64::new(10_000).unwrap();
    let fault = Fault::Bandwidth {
        bytes_per_second: rate,
    };
    ends.link.set(fault).unwrap();
    let before = Instant::now();
    for _ in 0..20 {
        ends.client.send(&[b'.'; 100]).await.unwrap();
    }
    for _ in 0..20 {
        ends.asked().await;
    }
    // 200 ms for all of it, less what the full bucket gives at once.
    assert!(before.elapsed() >= Duration::from_millis(170));
}

/// Which of a hundred datagrams survive.
async fn survivors(seed: u64) -> Vec<String> {
    let ends = Ends::new().await;
    ends.link.set(Fault::Loss { percent: 50, seed }).unwrap();
    for number in 0..100 {
        ends.ask(&number.to_string()).await;
    }
    // One of them survives, whatever the seed.
    for _ in 0..64 {
        ends.ask("end").await;
    }
    let mut survivors = Vec::new();
    loop {
        match ends.asked().await.0 {
            word if word == "end" => return survivors,
            word => survivors.push(word),
        }
    }
}

#[tokio::test]
async fn loss_drops_what_its_seed_decides() {
    let first = survivors(11).await;
    assert!((20..80).contains(&first.len()));
    assert_eq!(first, survivors(11).await);
    assert_ne!(first, survivors(12).await);
}

#[tokio::test]
async fn loss_of_everything_is_silence() {
    let ends = Ends::new().await;
    let fault = Fault::Loss {
        percent: 100,
        seed: 1,
    };
    ends.link.set(fault).unwrap();
    ends.ask("lost").await;
    hears_nothing(&ends.origin).await;
}

#[tokio::test]
async fn a_blackhole_swallows_one_direction() {
    let ends = Ends::new().await;
    let client = ends.exchange("one").await;
    ends.link
        .set(Fault::Blackhole(Direction::ToClient))
        .unwrap();
    ends.ask("two").await;
    assert_eq!(ends.asked().await.0, "two");
    ends.answer("two", client).await;
    hears_nothing(&ends.client).await;
    ends.link.clear().unwrap();
    ends.exchange("three").await;
}

#[tokio::test]
async fn a_blackhole_swallows_what_is_on_its_way() {
    let ends = Ends::new().await;
    ends.exchange("one").await;
    ends.link.set(Fault::Latency(NEVER)).unwrap();
    ends.ask("two").await;
    hears_nothing(&ends.origin).await;
    ends.link.set(Fault::Blackhole(Direction::Both)).unwrap();
    ends.link.lift(Kind::Latency).unwrap();
    hears_nothing(&ends.origin).await;
    ends.link.clear().unwrap();
    ends.exchange("three").await;
}

#[tokio::test]
async fn half_open_cuts_one_way() {
    let ends = Ends::new().await;
    let client = ends.exchange("one").await;
    ends.link.set(Fault::HalfOpen(Way::ToOrigin)).unwrap();
    ends.ask("lost").await;
    ends.answer("heard", client).await;
    assert_eq!(ends.answered().await, "heard");
    hears_nothing(&ends.origin).await;
}

#[tokio::test]
async fn a_freeze_keeps_what_the_socket_holds() {
    let ends = Ends::new().await;
    let client = ends.exchange("one").await;
    ends.link.set(Fault::Freeze).unwrap();
    ends.ask("two").await;
    ends.answer("three", client).await;
    hears_nothing(&ends.origin).await;
    hears_nothing(&ends.client).await;
    ends.link.clear().unwrap();
    assert_eq!(ends.asked().await.0, "two");
    assert_eq!(ends.answered().await, "three");
}

#[tokio::test]
async fn lifting_a_delay_lets_go_what_it_held() {
    let ends = Ends::new().await;
    ends.link.set(Fault::Latency(NEVER)).unwrap();
    ends.ask("held").await;
    hears_nothing(&ends.origin).await;
    ends.link.lift(Kind::Latency).unwrap();
    assert_eq!(ends.asked().await.0, "held");
}

#[tokio::test]
async fn refuse_closes_the_port_and_keeps_it() {
    let ends = Ends::new().await;
    ends.exchange("one").await;
    for _ in 0..3 {
        ends.link.set(Fault::Refuse).unwrap();
        ends.ask("anybody there?").await;
        let refused = soon(ends.client.recv(&mut [0; 100])).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        ends.link.clear().unwrap();
        ends.exchange("again").await;
    }
}

#[tokio::test]
async fn dropping_the_link_closes_its_port() {
    let ends = Ends::new().await;
    ends.exchange("one").await;
    drop(ends.link);
    let refused = soon(async {
        loop {
            let sent = ends.client.send(b"anybody there?").await;
            if let Err(error) = sent {
                return error;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
}
