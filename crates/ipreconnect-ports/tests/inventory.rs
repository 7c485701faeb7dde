//! The inventory, of sockets that the tests open.

use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use ipreconnect_ports::{Reach, Socket, Transport, inventory};
use socket2::{Domain, Type};

fn at(transport: Transport, address: SocketAddr) -> Vec<Socket> {
    let taken = inventory(Reach::Own).unwrap();
    let sockets = taken.sockets.into_iter();
    sockets
        .filter(|socket| (socket.transport, socket.address) == (transport, address))
        .collect()
}

fn only(transport: Transport, address: SocketAddr) -> Socket {
    let mut found = at(transport, address);
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

fn uid() -> u32 {
    rustix::process::getuid().as_raw()
}

#[test]
fn listening_sockets_are_found_with_their_queues() {
    let listener = socket2::Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    listener.bind(&any.into()).unwrap();
    listener.listen(7).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let found = only(Transport::Tcp, address);
    assert_eq!((found.waiting, found.room, found.uid), (0, Some(7), uid()));
    assert_eq!(found.pids, [std::process::id()]);
    assert!(!found.takes_both && found.interface.is_none());
    let _waiting = [0; 3].map(|_| TcpStream::connect(address).unwrap());
    let began = Instant::now();
    while only(Transport::Tcp, address).waiting != 3 {
        assert!(began.elapsed() < Duration::from_secs(10));
    }
    drop(listener);
    assert!(at(Transport::Tcp, address).is_empty());
}

#[test]
fn what_finds_no_room_is_counted() {
    let listener = socket2::Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    listener.bind(&any.into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let mut kept = Vec::new();
    let began = Instant::now();
    while only(Transport::Tcp, address).dropped == Some(0) {
        let patience = Duration::from_millis(20);
        kept.extend(TcpStream::connect_timeout(&address, patience));
        assert!(began.elapsed() < Duration::from_secs(20));
    }
}

#[test]
fn both_families_and_datagrams_are_found() {
    let dual = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).unwrap();
    let address = dual.local_addr().unwrap();
    assert!(only(Transport::Tcp, address).takes_both);
    let alone = socket2::Socket::new(Domain::IPV6, Type::STREAM, None).unwrap();
    alone.set_only_v6(true).unwrap();
    alone
        .bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)).into())
        .unwrap();
    alone.listen(1).unwrap();
    let address = alone.local_addr().unwrap().as_socket().unwrap();
    assert!(!only(Transport::Tcp, address).takes_both);
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = datagrams.local_addr().unwrap();
    let found = only(Transport::Udp, address);
    assert_eq!((found.room, found.waiting), (None, 0));
    datagrams.send_to(&[7; 1000], address).unwrap();
    assert!(only(Transport::Udp, address).waiting > 0);
    // One that is connected takes nothing from others.
    datagrams.connect(address).unwrap();
    assert!(at(Transport::Udp, address).is_empty());
}

#[test]
fn sockets_that_share_a_port_are_all_found() {
    let bind = |address: SocketAddr| {
        let socket = socket2::Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_reuse_port(true).unwrap();
        socket.bind(&address.into()).unwrap();
        socket.listen(1).unwrap();
        socket
    };
    let first = bind("127.0.0.1:0".parse().unwrap());
    let address = first.local_addr().unwrap().as_socket().unwrap();
    let _second = bind(address);
    assert_eq!(at(Transport::Tcp, address).len(), 2);
}

#[test]
fn whoever_shares_a_socket_is_found_too() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // What is not closed when a program is run is had by both.
    rustix::io::fcntl_setfd(&listener, rustix::io::FdFlags::empty()).unwrap();
    let mut child = Command::new("sleep").arg("60").spawn().unwrap();
    let began = Instant::now();
    loop {
        let taken = inventory(Reach::Own).unwrap();
        let mut sockets = taken.sockets.iter();
        let found = sockets.find(|socket| socket.address == address).unwrap();
        let names = found.pids.iter().filter_map(|pid| taken.programs.get(pid));
        if names.into_iter().any(|program| program.name == "sleep") {
            assert!(found.pids.contains(&child.id()));
            assert!(found.pids.contains(&std::process::id()));
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn other_namespaces_are_looked_into() {
    let name = format!("ports-test-{}", std::process::id());
    let made = Command::new("ip").args(["netns", "add", &name]).output();
    if !made.is_ok_and(|made| made.status.success()) {
        let test = "other_namespaces_are_looked_into";
        ipreconnect_lab::namespace::skipped(test, "it needs root, and ip");
        return;
    }
    let inside = std::fs::File::open(format!("/run/netns/{name}")).unwrap();
    let listener = std::thread::spawn(move || {
        let kind = rustix::thread::LinkNameSpaceType::Network;
        rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&inside), Some(kind))
            .unwrap();
        TcpListener::bind("0.0.0.0:0").unwrap()
    })
    .join()
    .unwrap();
    let address = listener.local_addr().unwrap();
    assert!(
        at(Transport::Tcp, address)
            .iter()
            .all(|socket| socket.pids != [std::process::id()])
    );
    let taken = inventory(Reach::All).unwrap();
    let is_it = |socket: &&Socket| {
        let namespace = &taken.namespaces[socket.namespace];
        socket.address == address && namespace.name.as_deref() == Some(&name)
    };
    let found = taken.sockets.iter().find(is_it).unwrap();
    assert_eq!(found.pids, [std::process::id()]);
    assert!(!taken.namespaces[found.namespace].is_own && taken.namespaces[0].is_own);
    // One that goes away is told, or not there any more.
    drop(listener);
    let gone = Command::new("ip").args(["netns", "del", &name]).status();
    assert!(gone.unwrap().success());
    let taken = inventory(Reach::All).unwrap();
    let mut left = taken.namespaces.iter();
    assert!(left.all(|one| one.name.as_deref() != Some(&name)));
}

#[test]
fn without_privileges_it_still_answers() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let taken = inventory(Reach::All).unwrap();
    let mut sockets = taken.sockets.iter();
    assert!(sockets.any(|socket| socket.address.port() == port));
    // Whatever may not be looked into is named with its reason.
    for (number, why) in &taken.unseen.namespaces {
        assert!(*number < taken.namespaces.len() && !why.is_empty());
    }
}
