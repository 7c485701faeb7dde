use super::*;

fn dialled(took: u64, works: bool) -> Dialled {
    Dialled {
        address: Address::Tcp("192.0.2.1:1".parse().unwrap()),
        took: Duration::from_millis(took),
        failure: (!works).then(|| Failure::new(Cause::Refused)),
        won: false,
    }
}

#[test]
fn the_winner_of_a_race_is_who_stands_first_with_the_delays_between() {
    let delay = Duration::from_millis(250);
    for (dials, winner) in [
        (vec![(30, true), (1, true)], Some(0)),
        (vec![(300, true), (1, true)], Some(1)),
        (vec![(1, false), (30, true), (1, true)], Some(1)),
        (vec![(2_000, false), (30, true)], Some(1)),
        (vec![(1, false)], None),
        (vec![], None),
    ] {
        let dials: Vec<Dialled> = dials.iter().map(|(took, ok)| dialled(*took, *ok)).collect();
        assert_eq!(race_winner(&dials, delay), winner, "{dials:?}");
    }
}
