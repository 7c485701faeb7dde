//! More sockets than anybody has.

use std::net::{Ipv4Addr, SocketAddr};

use ipreconnect_ports::{Reach, inventory};
use socket2::{Domain, Type};

/// As many as a process may have here, and no more than a hundred thousand.
#[test]
fn very_many_sockets_are_all_found() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let most = limit.maximum.unwrap_or(100_000).min(100_000);
    let raised = rustix::process::Rlimit {
        current: Some(most),
        maximum: limit.maximum,
    };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, raised).unwrap();
    let count = usize::try_from(most.saturating_sub(64))
        .unwrap()
        .min(20_000);
    let first = std::net::TcpListener::bind("127.78.0.1:0").unwrap();
    let port = first.local_addr().unwrap().port();
    let listeners: Vec<_> = (0..count)
        .map_while(|number| {
            // One port of many addresses: the ports would not do.
            let bytes = u32::try_from(number).unwrap().to_be_bytes();
            let ip = Ipv4Addr::new(127, 77, bytes[2], bytes[3]);
            let socket = socket2::Socket::new(Domain::IPV4, Type::STREAM, None).ok()?;
            socket.bind(&SocketAddr::from((ip, port)).into()).ok()?;
            socket.listen(1).ok()?;
            Some(socket)
        })
        .collect();
    assert!(listeners.len() > 500, "{}", listeners.len());
    let taken = inventory(Reach::Own).unwrap();
    let own = taken
        .sockets
        .iter()
        .filter(|socket| socket.address.port() == port && socket.pids == [std::process::id()]);
    assert_eq!(own.count(), listeners.len() + 1);
}
