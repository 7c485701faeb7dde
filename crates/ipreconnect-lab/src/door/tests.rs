use super::*;
use socket2::{Domain, Socket, Type};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

fn door() -> Door<TcpSeat> {
    Door::open_on(TcpSeat::on(Ipv4Addr::LOCALHOST.into()).unwrap()).unwrap()
}

fn connects(address: SocketAddr) -> io::Result<TcpStream> {
    TcpStream::connect(address)
}

#[tokio::test]
async fn refuses_while_shut_and_listens_again_on_the_same_port() {
    let door = door();
    let address = door.seat().address();
    for _ in 0..3 {
        let client = connects(address).unwrap();
        let accepted = door.accept().await;
        assert_eq!(accepted.peer_addr().unwrap(), client.local_addr().unwrap());

        door.shut();
        let error = connects(address).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        door.open().unwrap();
    }
}

#[tokio::test]
async fn a_shut_port_is_kept_from_others() {
    let door = door();
    let address = door.seat().address();
    door.shut();
    let stranger = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let error = stranger.bind(&address.into()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
}

#[tokio::test]
async fn shutting_resets_what_nobody_accepted() {
    let door = door();
    let client = connects(door.seat().address()).unwrap();
    door.shut();
    let error = io::Read::read(&mut &client, &mut [0]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn sweeping_resets_what_waits_and_goes_on() {
    let door = door();
    let waiting = connects(door.seat().address()).unwrap();
    door.sweep();
    let error = io::Read::read(&mut &waiting, &mut [0]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);

    let next = connects(door.seat().address()).unwrap();
    let accepted = door.accept().await;
    assert_eq!(accepted.peer_addr().unwrap(), next.local_addr().unwrap());
}

#[tokio::test]
async fn the_door_opens_from_a_thread_without_a_runtime() {
    let door = Arc::new(door());
    door.shut();
    let other = Arc::clone(&door);
    std::thread::spawn(move || other.open().unwrap())
        .join()
        .unwrap();
    let _client = connects(door.seat().address()).unwrap();
    door.accept().await;
}
