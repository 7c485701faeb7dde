//! Who is at the other end, and where this machine is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};

use ipreconnect_ports::{interfaces, owner, user};

#[test]
fn the_owner_of_a_connection_is_known_while_somebody_has_it() {
    for bind in ["127.0.0.1:0", "[::1]:0"] {
        let listener = TcpListener::bind(bind).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, peer) = listener.accept().unwrap();
        let here = server.local_addr().unwrap();
        let me = rustix::process::getuid().as_raw();
        assert_eq!(owner(peer, here).unwrap(), Some(me), "{bind}");
        // What is closed in TIME_WAIT belongs to nobody, and not to root.
        drop(client);
        drop(server);
        assert_eq!(owner(peer, here).unwrap(), None, "{bind}");
        let nobody = SocketAddr::new(peer.ip(), 1);
        assert_eq!(owner(nobody, here).unwrap(), None, "{bind}");
    }
    assert_eq!(user(0), "root");
    assert_eq!(user(4_000_000_001), "uid:4000000001");
}

#[test]
fn a_socket_that_was_closed_with_data_in_it_belongs_to_nobody() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, peer) = listener.accept().unwrap();
    // FIN_WAIT: the kernel has it alone.
    drop(client);
    assert_eq!(owner(peer, server.local_addr().unwrap()).unwrap(), None);
}

#[test]
fn this_machine_is_where_its_interfaces_are() {
    let all = interfaces().unwrap();
    let lo = all
        .iter()
        .find(|one| one.address == IpAddr::V4(Ipv4Addr::LOCALHOST))
        .unwrap();
    assert_eq!((lo.name.as_str(), lo.prefix), ("lo", 8));
    assert!(lo.is_in_network("127.9.9.9".parse().unwrap()));
    assert!(!lo.is_in_network("128.0.0.1".parse().unwrap()));
    assert!(!lo.is_in_network(IpAddr::V6(Ipv6Addr::LOCALHOST)));
}
