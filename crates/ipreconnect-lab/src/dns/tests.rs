use super::*;

/// Asks over UDP, by hand; the answer's code, how many records it has, and whether it is cut off.
async fn ask(server: &NameServer, name: &str, kind: u16) -> Option<(u8, u16, bool)> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let mut question = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        question.push(u8::try_from(label.len()).unwrap());
        question.extend(label.as_bytes());
    }
    question.push(0);
    question.extend(kind.to_be_bytes());
    question.extend([0, 1]);
    socket.send_to(&question, server.address()).await.unwrap();
    let mut answer = [0; 2048];
    let received = tokio::time::timeout(Duration::from_millis(300), socket.recv(&mut answer));
    received.await.ok()?.unwrap();
    assert_eq!(answer[..2], question[..2]);
    let count = u16::from_be_bytes([answer[6], answer[7]]);
    Some((answer[3] & 15, count, answer[2] & 2 != 0))
}

#[tokio::test]
async fn it_answers_what_it_was_told() {
    let server = NameServer::start().await.unwrap();
    server.set("a.test", &["127.0.0.2", "127.0.0.3", "::1"], Duration::ZERO);
    assert_eq!(ask(&server, "a.test", 1).await, Some((0, 2, false)));
    assert_eq!(ask(&server, "A.test", 28).await, Some((0, 1, false)));
    assert_eq!(ask(&server, "b.test", 1).await, Some((3, 0, false)));
    assert_eq!(server.asked("a.test", Kind::A), 1);
    assert_eq!(server.asked_at_all(), 3);
    server.remove("a.test");
    assert_eq!(ask(&server, "a.test", 1).await, Some((3, 0, false)));
}

#[tokio::test]
async fn it_misbehaves_when_told_to() {
    let server = NameServer::start().await.unwrap();
    server.set("a.test", &["127.0.0.2"], Duration::ZERO);
    for (misdeed, expected) in [
        (Misdeed::Silent, None),
        (Misdeed::Code(2), Some((2, 0, false))),
        (Misdeed::Empty, Some((0, 0, false))),
        (Misdeed::Truncated, Some((0, 0, true))),
        (Misdeed::Many(3), Some((0, 3, false))),
        (Misdeed::Many(10_000), Some((0, 0, true))),
        (Misdeed::AliasLoop, Some((0, 1, false))),
        (Misdeed::PointerLoop, Some((0, 1, false))),
    ] {
        server.misbehave(misdeed.clone());
        assert_eq!(ask(&server, "a.test", 1).await, expected, "{misdeed:?}");
    }
    server.behave();
    server.misbehave_for(Kind::Aaaa, Misdeed::Silent);
    assert_eq!(ask(&server, "a.test", 1).await, Some((0, 1, false)));
    assert_eq!(ask(&server, "a.test", 28).await, None);
}
