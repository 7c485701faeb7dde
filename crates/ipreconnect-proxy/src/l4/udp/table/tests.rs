use std::collections::VecDeque;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::{Client, Key, Table};
use crate::l4::udp::session::Session;
use crate::places::Places;

fn client(number: u16) -> Client {
    Client {
        from: ([127, 0, 0, 1], number).into(),
        asked: None,
    }
}

#[derive(Clone, Debug)]
enum Deed {
    Come(u16),
    Touch(u16),
    Leave(u16),
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let number = 1..20u16;
    let deed = prop_oneof![
        number.clone().prop_map(Deed::Come),
        number.clone().prop_map(Deed::Touch),
        number.prop_map(Deed::Leave),
    ];
    proptest::collection::vec(deed, 0..200)
}

proptest! {
    #[test]
    fn the_order_is_that_of_last_use(deeds in deeds()) {
        let places = std::sync::Arc::new(Places::within(10_000, 1));
        let mut table = Table::default();
        let mut model: VecDeque<u16> = VecDeque::new();
        let mut gone: Vec<Key> = Vec::new();
        let mut now = Instant::now();
        for deed in deeds {
            now += Duration::from_secs(1);
            match deed {
                Deed::Come(number) => {
                    if table.find(&client(number)).is_none() {
                        let seat = places.take(0).unwrap();
                        table.insert(Session::new(client(number), 0, now, seat));
                        model.push_back(number);
                    }
                }
                Deed::Touch(number) => {
                    if let Some(key) = table.find(&client(number)) {
                        table.touch(key, now);
                        model.retain(|one| *one != number);
                        model.push_back(number);
                    }
                }
                Deed::Leave(number) => {
                    if let Some(key) = table.find(&client(number)) {
                        prop_assert!(table.remove(key).is_some());
                        gone.push(key);
                        model.retain(|one| *one != number);
                    }
                }
            }
            prop_assert_eq!(table.len(), model.len());
            prop_assert_eq!(places.taken(), model.len());
            let oldest = table.oldest().and_then(|key| Some(table.get_mut(key)?.client));
            prop_assert_eq!(oldest, model.front().map(|number| client(*number)));
            for key in &gone {
                prop_assert!(table.get_mut(*key).is_none(), "an old key finds somebody else");
            }
        }
        let mut order = Vec::new();
        while let Some(key) = table.idle(now, Duration::ZERO) {
            order.extend(table.remove(key).map(|session| session.client.from.port()));
        }
        prop_assert_eq!(order, Vec::from(model));
    }
}

#[test]
fn a_key_survives_the_kernel() {
    let bits = 0xDEAD_BEEF_0000_0007;
    assert_eq!(Key::from_bits(bits).to_bits(), bits);
}
