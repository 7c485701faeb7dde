use super::*;
use proptest::prelude::*;

fn address(text: &str) -> Address {
    Address::Tcp(text.parse().unwrap())
}

#[test]
fn families_take_turns() {
    let given = ["[::1]:1", "[::2]:1", "[::3]:1", "127.0.0.1:1"].map(address);
    let order = interleave(&given);
    assert_eq!(
        order,
        ["[::1]:1", "127.0.0.1:1", "[::2]:1", "[::3]:1"].map(address)
    );
}

#[test]
fn mapped_loopback_is_local() {
    assert!(address("[::ffff:127.0.0.1]:1").is_local());
    assert!(!address("192.0.2.1:1").is_local());
}

proptest! {
    #[test]
    fn nothing_is_lost_and_nothing_comes_twice(ports in prop::collection::vec((any::<bool>(), 1u16..20), 0..30)) {
        let given: Vec<Address> = ports
            .iter()
            .map(|(v6, port)| if *v6 { address(&format!("[::1]:{port}")) } else { address(&format!("127.0.0.1:{port}")) })
            .collect();
        let order = interleave(&given);
        let mut expected = given.clone();
        expected.sort();
        expected.dedup();
        let mut got = order.clone();
        got.sort();
        prop_assert_eq!(got, expected);
        prop_assert_eq!(order.first(), given.first());
    }
}
