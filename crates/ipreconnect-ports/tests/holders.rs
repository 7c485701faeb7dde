//! Real sockets, and who holds them.

use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;

use ipreconnect_ports::{connected_from, holders, holders_of_unix};
use socket2::{Domain, Socket, Type};

fn assert_is_me(found: &[ipreconnect_ports::Holder]) {
    let [holder] = found else {
        panic!("one holder is expected: {found:?}");
    };
    let process = holder.process.as_ref().expect("our own process is seen");
    assert_eq!(process.pid, std::process::id());
    let shown = holder.to_string();
    assert!(
        shown.contains(&format!("(pid {}, ", process.pid)),
        "{shown}"
    );
}

#[test]
fn a_tcp_listener_is_held_by_its_process() {
    for bind in ["127.0.0.1:0", "[::1]:0"] {
        let listener = TcpListener::bind(bind).unwrap();
        assert_is_me(&holders(listener.local_addr().unwrap()).unwrap());
    }
}

#[test]
fn a_wildcard_conflicts_both_ways() {
    let wildcard = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = wildcard.local_addr().unwrap().port();
    assert_is_me(&holders(SocketAddr::from(([127, 0, 0, 1], port))).unwrap());
    let specific = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = specific.local_addr().unwrap().port();
    assert_is_me(&holders(SocketAddr::from(([0, 0, 0, 0], port))).unwrap());
    assert_eq!(
        holders(SocketAddr::from(([127, 0, 0, 2], port))).unwrap(),
        []
    );
}

#[test]
fn a_free_port_has_no_holder() {
    // Outside the range from which the kernel gives ports to the other tests (ip(7)).
    let mut ports = (20_000..32_000).map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    let address = ports.find(|address| TcpListener::bind(address).is_ok());
    assert_eq!(holders(address.unwrap()).unwrap(), []);
}

#[test]
fn a_port_that_a_connection_has_is_not_free_and_its_user_is_known() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let connection = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let local = connection.local_addr().unwrap();
    assert!(TcpListener::bind(local).is_err());
    assert_eq!(holders(local).unwrap(), []);
    assert_is_me(&connected_from(local).unwrap());
}

#[test]
fn a_unix_socket_is_held_by_its_process() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let found = holders_of_unix(&path).unwrap();
    assert_is_me(&found);
    assert_eq!(found[0].uid, Some(path.metadata().unwrap().uid()));
    drop(listener);
    assert_eq!(holders_of_unix(&path).unwrap(), []);
}

#[test]
fn an_ipv6_wildcard_takes_ipv4_only_if_it_serves_it() {
    for only_v6 in [false, true] {
        let socket = Socket::new(Domain::IPV6, Type::STREAM, None).unwrap();
        socket.set_only_v6(only_v6).unwrap();
        let any: SocketAddr = "[::]:0".parse().unwrap();
        socket.bind(&any.into()).unwrap();
        socket.listen(1).unwrap();
        let port = socket.local_addr().unwrap().as_socket().unwrap().port();
        let wanted = SocketAddr::from(([127, 0, 0, 1], port));
        assert_eq!(holders(wanted).unwrap().is_empty(), only_v6);
        // The kernel is of the same opinion.
        assert_eq!(TcpListener::bind(wanted).is_ok(), only_v6);
        assert_is_me(&holders(SocketAddr::from((Ipv6Addr::LOCALHOST, port))).unwrap());
    }
}
