use super::*;
use proptest::prelude::*;

#[test]
fn a_listener_is_found_with_its_inode() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let found = listening_tcp(port).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].ip, IpAddr::from([127, 0, 0, 1]));
    assert!(found[0].found.inode > 0);
}

#[test]
fn an_error_of_the_kernel_is_told() {
    let mut message = 36u32.to_ne_bytes().to_vec();
    message.extend(ERROR.to_ne_bytes());
    message.extend([0; 10]);
    message.extend((-1i32).to_ne_bytes());
    message.resize(36, 0);
    let error = messages(&message, &mut |_| {}).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(1));
}

#[test]
fn a_dump_that_fails_is_not_empty() {
    let mut message = 20u32.to_ne_bytes().to_vec();
    message.extend(DONE.to_ne_bytes());
    message.extend([0; 10]);
    message.extend((-2i32).to_ne_bytes());
    let error = messages(&message, &mut |_| {}).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(2));
    message.truncate(16);
    message.extend(0i32.to_ne_bytes());
    assert_eq!(messages(&message, &mut |_| {}).unwrap(), Stream::Ended);
}

proptest! {
    #[test]
    fn hostile_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        let _ = messages(&bytes, &mut |payload| { parse_inet(payload); parse_unix(payload); });
        parse_inet(&bytes);
        parse_unix(&bytes);
        parse_listening(&bytes);
        parse_connection(&bytes);
        parse_open(&bytes);
        ended(&bytes, |_| {});
    }

    #[test]
    fn whole_messages_with_hostile_attributes_do_no_harm(
        head in prop::collection::vec(any::<u8>(), 72..=72),
        attributes in prop::collection::vec(any::<u8>(), 0..64),
        family in prop::sample::select(vec![AF_INET, AF_INET6, 0, 255]),
    ) {
        let mut message = [head, attributes].concat();
        message[0] = family;
        let is_known = family == AF_INET || family == AF_INET6;
        prop_assert_eq!(parse_listening(&message).is_some(), is_known);
        prop_assert_eq!(parse_connection(&message).is_some(), is_known);
        prop_assert_eq!(parse_open(&message).is_some(), is_known);
    }

    #[test]
    fn lengths_that_lie_end_the_walk(length in 0u32..64, kind in 0u16..30) {
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.resize(40, 0);
        let mut calls = 0;
        let _ = messages(&bytes, &mut |_| calls += 1);
        prop_assert!(calls <= 3);
    }
}
