//! Connections to ports of this machine, as they are, end, and are closed.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use ipreconnect_lab::namespace::skipped;
use ipreconnect_ports::{Endings, Heard, Scope, Talk, close, look};
use socket2::{Domain, Socket, Type};

fn talk_to(port: u16) -> Option<Talk> {
    let talks = look(Scope::Loopback).unwrap().talks;
    talks.into_iter().find(|talk| talk.here.port() == port)
}

fn inode(file: impl AsFd) -> u64 {
    rustix::fs::fstat(file).unwrap().st_ino
}

#[test]
fn who_talks_to_a_port_is_seen_with_what_was_carried() {
    for host in ["127.0.0.1:0", "[::1]:0", "[::ffff:127.0.0.1]:0"] {
        let listener = TcpListener::bind(host).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(talk_to(port), None);
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        client.write_all(b"hello").unwrap();
        server.read_exact(&mut [0; 5]).unwrap();
        server.write_all(b"more to say").unwrap();
        client.read_exact(&mut [0; 11]).unwrap();
        let deadline = Instant::now() + Duration::from_secs(5);
        let talk = loop {
            let talk = talk_to(port).unwrap();
            if talk.taken >= 11 || Instant::now() > deadline {
                break talk;
            }
        };
        assert_eq!((talk.given, talk.taken), (5, 11), "{host}");
        assert_eq!(talk.user, Some(rustix::process::getuid().as_raw()));
        assert_eq!(talk.peer_inode, Some(inode(&client)));
        assert_eq!(talk.inode, Some(inode(&server)));
        assert_eq!(talk.owner, talk.user);
        assert!(!talk.is_either);
        assert_eq!(talk.peer.port(), client.local_addr().unwrap().port());
        let listening = look(Scope::All).unwrap().listening;
        assert!(listening.iter().any(|one| one.inode == inode(&listener)));
    }
}

#[test]
fn what_ends_is_told_with_what_it_has_carried() {
    let mut endings = Endings::open().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    for _ in 0..50 {
        let mut client = TcpStream::connect(address).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        client.write_all(b"abc").unwrap();
        server.read_exact(&mut [0; 3]).unwrap();
    }
    let mut ended = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(10);
    while ended.len() < 50 && Instant::now() < deadline {
        let heard = endings.drain(|one| {
            if one.here == address {
                ended.push(one);
            }
        });
        assert_eq!(heard.unwrap(), Heard::All);
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(ended.len(), 50);
    // The end itself counts as a byte where it has come.
    assert!(
        ended.iter().all(|one| (3..=4).contains(&one.given)),
        "{ended:?}"
    );
    let mut ids: Vec<u64> = ended.iter().map(ipreconnect_ports::Ending::id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 50);
}

#[test]
fn a_connection_is_closed_and_no_other_one() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut client = TcpStream::connect(address).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    let talk = talk_to(address.port()).unwrap();
    let mut other = TcpStream::connect(address).unwrap();
    let (mut other_server, _) = listener.accept().unwrap();
    if let Err(error) = close(&talk) {
        skipped(
            "a_connection_is_closed_and_no_other_one",
            &format!("the kernel does not close: {error}"),
        );
        return;
    }
    server
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    client
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    let gone = |read: std::io::Result<usize>| match read {
        Ok(count) => count == 0,
        Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
    };
    assert!(gone(client.read(&mut [0; 1])));
    assert!(gone(server.read(&mut [0; 1])));
    other.write_all(b"x").unwrap();
    other_server.read_exact(&mut [0; 1]).unwrap();
    // It is that connection that was meant, and not whoever has its addresses now.
    assert!(close(&talk).is_err());
}

#[test]
fn who_listens_at_its_own_end_is_seen_from_both_sides() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let at = |own: SocketAddr| {
        let one = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        one.set_reuse_port(true).unwrap();
        one.bind(&own.into()).unwrap();
        one
    };
    let waits = at("127.0.0.1:0".parse().unwrap());
    waits.listen(1).unwrap();
    let own = TcpListener::from(waits);
    let client = at(own.local_addr().unwrap());
    client.connect(&address.into()).unwrap();
    let (_server, _) = listener.accept().unwrap();
    let talk = talk_to(address.port()).unwrap();
    assert!(talk.is_either);
    assert_eq!(talk.peer, own.local_addr().unwrap());
    assert_eq!(talk.peer_inode, Some(inode(&client)));
    let other = talk_to(talk.peer.port()).unwrap();
    assert!(other.is_either);
    assert_eq!((other.here, other.peer), (talk.peer, talk.here));
}

#[test]
fn an_end_that_is_bound_to_an_interface_is_closed_too() {
    let test = "an_end_that_is_bound_to_an_interface_is_closed_too";
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = {
        let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        if let Err(error) = client.bind_device(Some(b"lo")) {
            skipped(test, &format!("it cannot be bound: {error}"));
            return;
        }
        client
            .connect(&listener.local_addr().unwrap().into())
            .unwrap();
        TcpStream::from(client)
    };
    let (mut server, _) = listener.accept().unwrap();
    let talk = talk_to(listener.local_addr().unwrap().port()).unwrap();
    if let Err(error) = close(&talk) {
        assert_ne!(error.kind(), std::io::ErrorKind::NotFound);
        skipped(test, &format!("the kernel does not close: {error}"));
        return;
    }
    server
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    let read = server.read(&mut [0; 1]);
    assert!(read.is_err_and(|error| error.kind() != std::io::ErrorKind::WouldBlock));
    drop(client);
}

#[test]
fn who_listens_in_one_family_alone_is_none_of_the_other() {
    let listening = |address: &str, takes_both| ipreconnect_ports::Listening {
        address: address.parse().unwrap(),
        takes_both,
        user: 0,
        inode: 1,
    };
    for (at, both, here, wanted) in [
        ("[::]:80", false, "127.0.0.1:80", false),
        ("[::]:80", true, "127.0.0.1:80", true),
        ("[::]:80", false, "[::1]:80", true),
        ("0.0.0.0:80", false, "[::1]:80", false),
        ("0.0.0.0:80", false, "127.0.0.1:80", true),
        ("0.0.0.0:80", false, "[::ffff:127.0.0.1]:80", true),
        ("127.0.0.1:80", false, "127.0.0.1:80", true),
        ("127.0.0.1:80", false, "127.0.0.1:81", false),
        ("127.0.0.2:80", false, "127.0.0.1:80", false),
    ] {
        assert_eq!(
            listening(at, both).takes(here.parse().unwrap()),
            wanted,
            "{at} {here}"
        );
    }
    // As the kernel tells it.
    let at = |is_only| {
        let one = Socket::new(Domain::IPV6, Type::STREAM, None).unwrap();
        one.set_only_v6(is_only).unwrap();
        one.bind(&"[::]:0".parse::<SocketAddr>().unwrap().into())
            .unwrap();
        one.listen(1).unwrap();
        TcpListener::from(one)
    };
    for is_only in [true, false] {
        let one = at(is_only);
        let port = one.local_addr().unwrap().port();
        let listening = look(Scope::Loopback).unwrap().listening;
        let found = listening
            .iter()
            .find(|one| one.address.port() == port)
            .unwrap();
        assert_eq!(found.takes_both, !is_only);
    }
}
