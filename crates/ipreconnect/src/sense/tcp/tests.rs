use std::io::Write;
use std::net::{TcpListener, TcpStream};

use super::*;

const ALLOWED: Duration = Duration::from_millis(100);

fn waiting(unacked: u32, since_ack: u64) -> TcpPath {
    TcpPath {
        unacked,
        since_ack: Duration::from_millis(since_ack),
        send_window: Some(65_536),
        segment: 1448,
        ..TcpPath::default()
    }
}

#[test]
fn a_real_connection_is_read() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    client.write_all(b"twelve bytes").unwrap();
    let path = TcpPath::of(&client).unwrap();
    assert_eq!(path.bytes_sent, Some(12));
    assert!(counts_bytes_sent());
    assert!(path.send_window.unwrap() > 1000);
    assert!(path.segment > 500);
}

#[test]
fn a_full_peer_is_spared_and_a_silent_one_is_not() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let _unread = listener.accept().unwrap();
    client.set_nonblocking(true).unwrap();
    let chunk = [0u8; 65_536];
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    // The window closes when the peer's buffer is full.
    loop {
        while client.write(&chunk).is_ok() {}
        let path = TcpPath::of(&client).unwrap();
        if path.unacked == 0 && path.unsent > 0 {
            assert_eq!(
                path.state(Duration::from_secs(60), ALLOWED),
                PathState::Throttled
            );
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{path:?}");
    }
}

#[test]
fn states() {
    let age = Duration::from_millis(200);
    assert_eq!(
        TcpPath::default().state(age, ALLOWED),
        PathState::Acknowledged
    );
    assert_eq!(waiting(1, 200).state(age, ALLOWED), PathState::Silent);
    assert_eq!(waiting(1, 20).state(age, ALLOWED), PathState::Underway);
    assert_eq!(
        waiting(1, 200).state(ALLOWED / 2, ALLOWED),
        PathState::Underway
    );
    let far = TcpPath {
        round_trip: Duration::from_millis(300),
        ..waiting(1, 200)
    };
    assert_eq!(far.state(age, ALLOWED), PathState::Underway);
}
