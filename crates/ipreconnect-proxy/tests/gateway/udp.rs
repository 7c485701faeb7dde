//! UDP: sessions, refusals, the hold, segments, and the addresses that answers come from.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::scene::{Scene, listener, until};
use ipreconnect::core::origin::{Health, OnReturn};
use ipreconnect::{OriginSettings, Target, Transport};
use ipreconnect_proxy::{ListenAddress, ListenerSettings, OpenErrorKind, Timeouts};

type Questions = BTreeSet<(SocketAddr, Vec<u8>)>;

/// A server that answers every datagram with its own name and what it was asked.
struct Server {
    address: SocketAddr,
    ends: Arc<AtomicBool>,
    /// Who asked, and what.
    asked: Arc<Mutex<Questions>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    fn start(name: &'static str) -> Self {
        Self::at(([127, 0, 0, 1], 0).into(), name)
    }

    fn at(address: SocketAddr, name: &'static str) -> Self {
        let socket = UdpSocket::bind(address).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(20)))
            .unwrap();
        let address = socket.local_addr().unwrap();
        let ends = Arc::new(AtomicBool::new(false));
        let asked = Arc::new(Mutex::new(Questions::new()));
        let (ending, seen) = (Arc::clone(&ends), Arc::clone(&asked));
        let thread = std::thread::spawn(move || {
            let mut buffer = vec![0; 70_000];
            while !ending.load(Relaxed) {
                let Ok((count, from)) = socket.recv_from(&mut buffer) else {
                    continue;
                };
                // An empty one is a look whether anybody is there.
                if count > 0 && count < 100 {
                    seen.lock()
                        .unwrap()
                        .insert((from, buffer[..count].to_vec()));
                }
                let mut answer = name.as_bytes().to_vec();
                answer.extend(&buffer[..count]);
                // The answer may be too long, or its reader gone.
                let _ = socket.send_to(&answer, from);
            }
        });
        Self {
            address,
            ends,
            asked,
            thread: Some(thread),
        }
    }

    /// How many clients it saw, as far as it can tell them apart.
    fn clients(&self) -> usize {
        let asked = self.asked.lock().unwrap();
        asked
            .iter()
            .map(|(from, _)| from)
            .collect::<BTreeSet<_>>()
            .len()
    }

    fn kill(&mut self) {
        self.ends.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn origin(places: &[SocketAddr]) -> OriginSettings {
    let targets = places.iter().map(|place| Target::from(*place));
    OriginSettings::new(targets.map(|target| target.over(Transport::Udp)))
}

fn free() -> ListenAddress {
    ListenAddress::Udp(([127, 0, 0, 1], 0).into())
}

fn scene(places: &[SocketAddr]) -> Scene {
    Scene::on(free(), origin(places), listener(), 20_000)
}

fn client(scene: &Scene) -> UdpSocket {
    client_at("127.0.0.1:0", scene.address)
}

fn client_at(local: &str, to: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind(local).unwrap();
    socket.connect(to).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    socket
}

fn hear(socket: &UdpSocket) -> Vec<u8> {
    let mut answer = vec![0; 70_000];
    let count = socket.recv(&mut answer).unwrap();
    answer.truncate(count);
    answer
}

fn ask(socket: &UdpSocket, question: &[u8]) -> Vec<u8> {
    socket.send(question).unwrap();
    hear(socket)
}

/// A port that nobody has, outside the range from which the kernel gives ports to the other tests
/// (ip(7)).
fn nobody() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(20_000);
    let mut ports = std::iter::repeat_with(|| NEXT.fetch_add(1, Relaxed)).take(10_000);
    let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let free = ports.find(|port| UdpSocket::bind(at(*port)).is_ok());
    at(free.unwrap())
}

fn totals(scene: &Scene) -> ipreconnect_proxy::Totals {
    scene.gateway.listeners()[0].totals
}

#[test]
fn datagrams_of_every_length_pass_whole() {
    let server = Server::start("");
    let scene = scene(&[server.address]);
    let client = client(&scene);
    for length in [0, 1, 64, 1_472, 9_000, 65_507] {
        let question: Vec<u8> = (0..length).map(|n: u32| (n % 251) as u8).collect();
        assert!(ask(&client, &question) == question, "{length} bytes");
    }
    let totals = totals(&scene);
    assert_eq!(
        (totals.accepted, totals.carrying, totals.dropped),
        (1, 1, 0)
    );
    assert_eq!(totals.to_origin, totals.to_client);
}

#[test]
fn every_client_has_a_session_and_its_own_answers() {
    let server = Server::start("x");
    let scene = scene(&[server.address]);
    let clients: Vec<UdpSocket> = (0..64).map(|_| client(&scene)).collect();
    for round in 0..20 {
        for (number, client) in clients.iter().enumerate() {
            client.send(format!("{number} {round}").as_bytes()).unwrap();
        }
        for (number, client) in clients.iter().enumerate() {
            assert_eq!(hear(client), format!("x{number} {round}").as_bytes());
        }
    }
    assert_eq!(server.clients(), 64);
    assert_eq!(totals(&scene).carrying, 64);
}

#[test]
fn a_refusal_sends_the_same_datagram_to_the_backup() {
    let backup = Server::start("b");
    let scene = scene(&[nobody(), backup.address]);
    for _ in 0..10 {
        assert_eq!(ask(&client(&scene), b"1"), b"b1");
    }
}

#[test]
fn a_server_that_ends_loses_nothing_and_is_used_again() {
    let (mut first, second) = (Server::start("a"), Server::start("b"));
    let scene = scene(&[first.address, second.address]);
    let clients: Vec<UdpSocket> = (0..8).map(|_| client(&scene)).collect();
    for client in &clients {
        assert_eq!(ask(client, b"1"), b"a1");
    }
    first.kill();
    for _ in 0..3 {
        for client in &clients {
            assert_eq!(ask(client, b"2"), b"b2");
        }
    }
    let _revived = Server::at(first.address, "a");
    let deadline = Instant::now() + Duration::from_secs(10);
    while ask(&client(&scene), b"3") != b"a3" {
        assert!(Instant::now() < deadline, "it is never used again");
        std::thread::sleep(Duration::from_millis(50));
    }
    // Sessions stay where they are (`on_return = "keep"`).
    assert_eq!(ask(&clients[0], b"4"), b"b4");
}

#[test]
fn sessions_go_back_when_they_are_told_to() {
    let (mut first, second) = (Server::start("a"), Server::start("b"));
    let mut settings = origin(&[first.address, second.address]);
    settings.supervisor.on_return = OnReturn::Close;
    let scene = Scene::on(free(), settings, listener(), 20_000);
    let client = client(&scene);
    assert_eq!(ask(&client, b"1"), b"a1");
    first.kill();
    assert_eq!(ask(&client, b"2"), b"b2");
    let deadline = Instant::now() + Duration::from_secs(20);
    while scene.origin.status().endpoints[0].health != Health::Down {
        assert!(Instant::now() < deadline, "it is never down");
        std::thread::sleep(Duration::from_millis(5));
    }
    let _revived = Server::at(first.address, "a");
    while ask(&client, b"3") != b"a3" {
        assert!(Instant::now() < deadline, "the session never goes back");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn datagrams_wait_in_the_hold_and_leave_in_order() {
    let place = nobody();
    let scene = scene(&[place]);
    let client = client(&scene);
    for number in 0..5 {
        client.send(format!("{number}").as_bytes()).unwrap();
    }
    std::thread::sleep(Duration::from_millis(700));
    let _server = Server::at(place, "late");
    for number in 0..5 {
        assert_eq!(hear(&client), format!("late{number}").as_bytes());
    }
    assert_eq!(totals(&scene).dropped, 0);
}

#[test]
fn what_is_held_is_bounded_and_newest() {
    let place = nobody();
    let scene = scene(&[place]);
    let client = client(&scene);
    for number in 0..40 {
        client.send(format!("{number}").as_bytes()).unwrap();
    }
    std::thread::sleep(Duration::from_millis(300));
    let _server = Server::at(place, "");
    let first = String::from_utf8(hear(&client)).unwrap();
    assert_eq!(first, "24");
    for number in 25..40 {
        assert_eq!(hear(&client), format!("{number}").as_bytes());
    }
    assert_eq!(totals(&scene).dropped, 24);
}

#[test]
fn without_a_hold_nothing_waits() {
    let place = nobody();
    let mut settings = origin(&[place]);
    settings.hold.patience = Duration::ZERO;
    let scene = Scene::on(free(), settings, listener(), 20_000);
    let client = client(&scene);
    client.send(b"lost").unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let _server = Server::at(place, "");
    client
        .set_read_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    assert_eq!(
        client.recv(&mut [0; 16]).unwrap_err().kind(),
        ErrorKind::WouldBlock
    );
}

#[test]
fn answers_come_from_the_address_that_was_asked() {
    let server = Server::start("x");
    let everywhere = ListenAddress::Udp(([0, 0, 0, 0], 0).into());
    let scene = Scene::on(everywhere, origin(&[server.address]), listener(), 20_000);
    let port = scene.address.port();
    let from = UdpSocket::bind("127.0.0.1:0").unwrap();
    from.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    for last in [1, 2, 77] {
        let asked = SocketAddr::from(([127, 0, 0, last], port));
        from.send_to(b"1", asked).unwrap();
        let mut answer = [0; 16];
        assert_eq!(from.recv_from(&mut answer).unwrap(), (2, asked));
    }
}

#[test]
fn ipv6_exact_and_everywhere() {
    if UdpSocket::bind("[::1]:0").is_err() {
        return ipreconnect_lab::namespace::skipped("ipv6_exact_and_everywhere", "it needs IPv6");
    }
    let server = Server::at("[::1]:0".parse().unwrap(), "x");
    for local in ["[::1]:0", "[::]:0"] {
        let address = ListenAddress::Udp(local.parse().unwrap());
        let scene = Scene::on(address, origin(&[server.address]), listener(), 20_000);
        let asked = SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], scene.address.port()));
        assert_eq!(ask(&client_at("[::1]:0", asked), b"1"), b"x1", "{local}");
    }
}

#[test]
fn a_silent_session_ends_and_its_client_begins_another() {
    let server = Server::start("x");
    let timeouts = Timeouts {
        idle: Duration::from_millis(500),
        stall: Duration::from_secs(30),
    };
    let settings = ListenerSettings {
        timeouts,
        ..listener()
    };
    let scene = Scene::on(free(), origin(&[server.address]), settings, 20_000);
    let client = client(&scene);
    assert_eq!(ask(&client, b"1"), b"x1");
    let deadline = Instant::now() + Duration::from_secs(10);
    while totals(&scene).ended == 0 {
        assert!(Instant::now() < deadline, "the session never ends");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!((totals(&scene).carrying, scene.gateway.clients()), (0, 0));
    assert_eq!(ask(&client, b"2"), b"x2");
    assert_eq!(server.clients(), 2);
}

#[test]
fn many_sources_push_out_the_idle_and_not_the_busy() {
    let server = Server::start("x");
    // Two workers; 17 sessions each.
    let scene = Scene::on(free(), origin(&[server.address]), listener(), 400);
    let busy = client(&scene);
    assert_eq!(ask(&busy, b"1"), b"x1");
    for number in 0..500u32 {
        let [_, _, high, low] = number.to_be_bytes();
        let local = format!("127.9.{high}.{low}:0");
        client_at(&local, scene.address).send(b"!").unwrap();
        if number % 4 == 0 {
            assert_eq!(ask(&busy, b"2"), b"x2");
        }
    }
    assert!(scene.gateway.clients() <= 34, "{}", scene.gateway.clients());
    let asked = server.asked.lock().unwrap();
    let from: BTreeSet<_> = asked
        .iter()
        .filter(|(_, what)| what != b"!")
        .map(|(from, _)| from)
        .collect();
    assert_eq!(from.len(), 1, "the busy client had several sessions");
    assert!(totals(&scene).failed > 400);
}

#[test]
fn segments_stay_the_datagrams_they_are() {
    let server = Server::start("x");
    let scene = scene(&[server.address]);
    let client = client(&scene);
    let Ok(()) = segmented(&client, 100) else {
        return ipreconnect_lab::namespace::skipped(
            "segments_stay_the_datagrams_they_are",
            "it needs UDP_SEGMENT",
        );
    };
    let burst: Vec<u8> = (0..1_050u32).map(|n| (n / 100) as u8).collect();
    for _ in 0..50 {
        client.send(&burst).unwrap();
        for number in 0..11u8 {
            let length = if number < 10 { 100 } else { 50 };
            let mut wanted = b"x".to_vec();
            wanted.extend(vec![number; length]);
            assert_eq!(hear(&client), wanted);
        }
    }
    assert_eq!(totals(&scene).dropped, 0);
}

/// Has the kernel cut what is sent into datagrams of this length (udp(7)).
fn segmented(socket: &UdpSocket, length: libc::c_int) -> std::io::Result<()> {
    use std::os::fd::AsRawFd;
    // SAFETY: the descriptor is open, and the value is an int of the size given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_UDP,
            libc::UDP_SEGMENT,
            (&raw const length).cast(),
            size_of_val(&length) as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error())
    }
}

#[test]
fn an_address_in_use_names_its_holder() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let server = Server::start("x");
    let mut scene = scene(&[server.address]);
    let address = ListenAddress::Udp(taken.local_addr().unwrap());
    let error = scene.gateway.open_more("test", &[address]).unwrap_err();
    let OpenErrorKind::InUse(holders) = error.kind else {
        panic!("{error}");
    };
    let me = std::process::id();
    assert!(
        holders
            .iter()
            .any(|holder| holder.process.as_ref().is_some_and(|one| one.pid == me))
    );
}

#[tokio::test]
async fn a_closed_listener_lets_its_sessions_go() {
    let server = Server::start("x");
    let mut scene = scene(&[server.address]);
    let client = client(&scene);
    assert_eq!(ask(&client, b"1"), b"x1");
    scene.gateway.close("test");
    until("the session has ended", || scene.gateway.clients() == 0).await;
}
