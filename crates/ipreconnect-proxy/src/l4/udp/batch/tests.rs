use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use super::{Batch, Received, SLOTS, Senders, put_together, tell_destination};

fn socket() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket
        .set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// What is there, to its end.
fn drain(socket: &UdpSocket) -> Vec<Vec<u8>> {
    let mut datagrams = Vec::new();
    let mut buffer = vec![0; 70_000];
    while let Ok(count) = socket.recv(&mut buffer) {
        datagrams.push(buffer[..count].to_vec());
    }
    datagrams
}

#[test]
fn what_came_is_named_and_whole() {
    let (gateway, address) = socket();
    let (one, first) = socket();
    let (two, second) = socket();
    one.send_to(b"", address).unwrap();
    two.send_to(&[7; 65_507], address).unwrap();
    let mut batch = Batch::new();
    let slots = batch.receive(&gateway, Senders::Named, SLOTS).unwrap();
    assert_eq!(slots, 0..2);
    let seen: Vec<_> = slots.map(|slot| batch.received(slot)).collect();
    let received = |from, length| Received {
        from: Some(from),
        length,
        ..Received::default()
    };
    assert_eq!(seen, [received(first, 0), received(second, 65_507)]);
    assert_eq!(batch.datagrams(0).collect::<Vec<_>>(), [b""]);
    assert_eq!(batch.datagrams(1).map(<[u8]>::len).sum::<usize>(), 65_507);
}

#[test]
fn a_wildcard_socket_tells_which_address_was_asked() {
    let gateway = UdpSocket::bind("0.0.0.0:0").unwrap();
    let local = gateway.local_addr().unwrap();
    tell_destination(&gateway, local.ip()).unwrap();
    let (client, _) = socket();
    client
        .send_to(b"x", SocketAddr::from(([127, 4, 5, 6], local.port())))
        .unwrap();
    let mut batch = Batch::new();
    batch.receive(&gateway, Senders::Named, SLOTS).unwrap();
    let asked: IpAddr = [127, 4, 5, 6].into();
    assert_eq!(batch.received(0).to, Some(asked));
}

/// Sends datagrams of these lengths through a batch, and returns those that arrive.
fn passed(lengths: &[usize]) -> (usize, Vec<usize>) {
    let (gateway, address) = socket();
    let (client, _) = socket();
    let (server, to) = socket();
    for length in lengths {
        client.send_to(&vec![1; *length], address).unwrap();
    }
    let mut batch = Batch::new();
    let slots = batch.receive(&gateway, Senders::Named, SLOTS).unwrap();
    batch.queue(slots, Some(to), None);
    let messages = batch.runs.len();
    assert_eq!(batch.queued(), lengths.len());
    let (sent, error) = batch.send(&gateway);
    assert_eq!(sent, lengths.len());
    assert!(error.is_none(), "{error:?}");
    assert_eq!(batch.queued(), 0);
    (messages, drain(&server).iter().map(Vec::len).collect())
}

#[test]
fn datagrams_of_one_length_go_together_and_arrive_apart() {
    for (lengths, messages) in [
        (vec![64; 10], 1),
        (vec![64, 64, 30], 1),
        (vec![64, 64, 30, 64], 2),
        (vec![64, 65], 2),
        (vec![0, 64, 0, 0], 4),
        (vec![1_400; 3], 1),
        (vec![1_401; 3], 3),
        (vec![9_000, 100, 100], 2),
        (vec![64; 100], 2),
    ] {
        assert_eq!(passed(&lengths), (messages, lengths.clone()), "{lengths:?}");
    }
}

#[test]
fn what_the_path_takes_no_segments_for_is_sent_apart() {
    let (gateway, address) = socket();
    let (client, _) = socket();
    let (server, to) = socket();
    for number in 0..5 {
        client.send_to(&[number; 64], address).unwrap();
    }
    let mut batch = Batch::new();
    let slots = batch.receive(&gateway, Senders::Named, SLOTS).unwrap();
    batch.queue(slots, Some(to), None);
    let error = std::io::Error::from_raw_os_error(libc::EIO);
    assert_eq!(batch.send_apart(&gateway, &error), 0);
    assert_eq!(batch.queued(), 0);
    let arrived: Vec<u8> = drain(&server).iter().map(|datagram| datagram[0]).collect();
    assert_eq!(arrived, [0, 1, 2, 3, 4]);

    let slots = 0..batch.used();
    batch.queue(slots, Some(to), None);
    let full = std::io::Error::from_raw_os_error(libc::EAGAIN);
    assert_eq!(
        batch.send_apart(&gateway, &full),
        5,
        "all are lost, and counted"
    );
}

#[test]
fn what_the_kernel_put_together_is_known_by_its_parts() {
    let (gateway, address) = socket();
    put_together(&gateway).unwrap();
    let (client, _) = socket();
    let (middle, from) = socket();
    for _ in 0..4 {
        client.send_to(&[9; 50], from).unwrap();
    }
    client.send_to(&[9; 20], from).unwrap();
    let mut batch = Batch::new();
    let slots = batch.receive(&middle, Senders::Named, SLOTS).unwrap();
    batch.queue(slots, Some(address), None);
    batch.send(&middle);
    batch.clear();
    let slots = batch.receive(&gateway, Senders::Named, SLOTS).unwrap();
    let lengths: Vec<usize> = slots
        .flat_map(|slot| batch.datagrams(slot).map(<[u8]>::len).collect::<Vec<_>>())
        .collect();
    assert_eq!(lengths, [50, 50, 50, 50, 20]);
}

#[test]
fn a_refusal_among_many_is_not_lost() {
    let (gateway, address) = socket();
    let (client, _) = socket();
    let nobody = UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let connected = UdpSocket::bind("127.0.0.1:0").unwrap();
    connected.connect(nobody).unwrap();
    // Lengths that do not go together.
    for length in 1..=8usize {
        client.send_to(&vec![0; length], address).unwrap();
    }
    let mut batch = Batch::new();
    let slots = batch.receive(&gateway, Senders::Named, SLOTS).unwrap();
    batch.queue(slots, None, None);
    let (sent, error) = batch.send(&connected);
    let error = error.expect("somebody must say that nobody is there");
    assert_eq!(error.raw_os_error(), Some(libc::ECONNREFUSED));
    assert!(sent <= 2, "{sent} were sent before that was noticed");
}
