//! Connections that the tests open.

use std::collections::HashSet;
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use ipreconnect_ports::{Connection, State, connections, owners};

fn all() -> Vec<Connection> {
    let mut all = Vec::new();
    connections(|one| all.push(one)).unwrap();
    all
}

#[test]
fn both_ends_are_found_with_their_owner() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (far, _) = listener.accept().unwrap();
    let (local, remote) = (near.local_addr().unwrap(), near.peer_addr().unwrap());
    let find = |from, to| {
        let found = all()
            .into_iter()
            .find(|one| (one.local, one.remote) == (from, to));
        found.unwrap()
    };
    let (one, other) = (find(local, remote), find(remote, local));
    assert_eq!(
        (one.state, other.state),
        (State::Established, State::Established)
    );
    assert_eq!(one.uid, Some(rustix::process::getuid().as_raw()));
    let inodes: HashSet<u64> = [one, other].iter().filter_map(|one| one.inode).collect();
    let owners = owners(&inodes).programs;
    assert_eq!(owners.len(), 2);
    assert!(
        owners
            .values()
            .all(|program| program.pid == std::process::id())
    );
    // What is over has its port, and nobody has it.
    drop(near);
    let began = Instant::now();
    while find(remote, local).state != State::CloseWait {
        assert!(began.elapsed() < Duration::from_secs(10));
    }
    drop(far);
    let began = Instant::now();
    loop {
        let left = all()
            .into_iter()
            .find(|one| (one.local, one.remote) == (local, remote));
        match left {
            Some(one) if one.state != State::TimeWait => {
                assert!(began.elapsed() < Duration::from_secs(10));
            }
            Some(one) => break assert_eq!((one.inode, one.uid), (None, None)),
            None => break,
        }
    }
}

#[test]
fn a_port_that_is_only_bound_has_no_connection() {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let any: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
    socket.bind(&any.into()).unwrap();
    let at = socket.local_addr().unwrap().as_socket().unwrap();
    assert!(all().iter().all(|one| one.local != at));
}
