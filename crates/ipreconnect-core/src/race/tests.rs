use super::*;
use proptest::prelude::*;

const MS: Duration = Duration::from_millis(1);

fn entrant(priority: u32) -> Entrant {
    Entrant {
        rank: rank(Standing::Good, priority),
        hangs_after: 100 * MS,
    }
}

fn race(priorities: &[u32], start: Instant) -> Race {
    let entrants = priorities.iter().map(|p| entrant(*p)).collect();
    Race::new(entrants, 250 * MS, start)
}

#[test]
fn a_backup_is_dialled_after_two_refusals() {
    let now = crate::beginning();
    let mut race = race(&[0, 1], now);
    assert_eq!(race.step(now), Step::Dial(0));
    race.failed(0);
    assert_eq!(race.step(now), Step::Dial(0));
    race.failed(0);
    assert_eq!(race.step(now), Step::Dial(1));
    race.failed(1);
    assert_eq!(race.step(now), Step::Dial(1));
    race.failed(1);
    assert_eq!(race.step(now), Step::Lost);
}

#[test]
fn a_lost_syn_is_dialled_again_before_the_backup() {
    let now = crate::beginning();
    let mut race = race(&[0, 1], now);
    assert_eq!(race.step(now), Step::Dial(0));
    assert_eq!(race.step(now), Step::Wait(now + 50 * MS));
    assert_eq!(race.step(now + 50 * MS), Step::Dial(0));
    assert_eq!(race.step(now + 51 * MS), Step::Wait(now + 100 * MS));
    assert_eq!(race.step(now + 100 * MS), Step::Dial(1));
    assert_eq!(race.step(now + 150 * MS), Step::Dial(1));
    assert_eq!(race.step(now + 151 * MS), Step::WaitForAttempts);
}

#[test]
fn addresses_of_one_priority_are_staggered() {
    let now = crate::beginning();
    let mut race = race(&[0, 0, 0], now);
    assert_eq!(race.step(now), Step::Dial(0));
    assert_eq!(race.step(now + 50 * MS), Step::Dial(1));
    race.failed(1);
    assert_eq!(race.step(now + 51 * MS), Step::Dial(2));
    race.failed(0);
    race.failed(2);
    assert_eq!(race.step(now + 51 * MS), Step::Lost);
}

#[test]
fn two_refusals_bring_the_backup_in_and_leave_the_others_for_later() {
    let now = crate::beginning();
    let mut race = race(&[0, 0, 0, 1], now);
    for expected in [0, 1, 3, 3, 2] {
        assert_eq!(race.step(now), Step::Dial(expected));
        race.failed(expected);
    }
    assert_eq!(race.step(now), Step::Lost);
}

#[test]
fn who_joins_is_next_unless_it_is_worse() {
    let now = crate::beginning();
    let mut race = race(&[1], now);
    assert_eq!(race.step(now), Step::Dial(0));
    assert_eq!(race.join(now, entrant(2)), 1);
    assert_eq!(race.join(now, entrant(0)), 2);
    assert_eq!(race.step(now + 50 * MS), Step::Dial(2));
    race.failed(0);
    assert_eq!(race.step(now + 51 * MS), Step::Dial(0));
    race.failed(0);
    assert_eq!(race.step(now + 52 * MS), Step::Dial(1));
}

#[test]
fn the_first_may_come_late() {
    let now = crate::beginning();
    let mut race = race(&[], now);
    assert_eq!(race.step(now), Step::Lost);
    race.join(now, entrant(3));
    assert_eq!(race.step(now), Step::Dial(0));
}

#[test]
fn a_good_backup_comes_before_a_doubtful_favourite() {
    let now = crate::beginning();
    let standing = |standing, priority| Entrant {
        rank: rank(standing, priority),
        hangs_after: 100 * MS,
    };
    let entrants = vec![standing(Standing::Doubtful, 0), standing(Standing::Good, 1)];
    let mut race = Race::new(entrants, 250 * MS, now);
    assert_eq!(race.step(now), Step::Dial(1));
    race.join(now, standing(Standing::Doubtful, 0));
    assert_eq!(race.step(now + 50 * MS), Step::Dial(1));
    assert_eq!(race.step(now + 100 * MS), Step::Dial(0));
}

#[test]
fn nobody_to_dial_is_lost() {
    let now = crate::beginning();
    assert_eq!(race(&[], now).step(now), Step::Lost);
}

proptest! {
    /// Whatever fails, hangs or joins: every entrant gets its dial, priorities begin in order, and the
    /// race ends exactly when all attempts have ended.
    #[test]
    fn every_entrant_is_dialled_and_the_race_ends(
        sizes in prop::collection::vec(1usize..4, 1..4),
        joining in prop::collection::vec((0usize..12, 0u32..4), 0..4),
        hangs in prop::collection::vec(any::<bool>(), 32),
        delay in 1u32..400,
    ) {
        let start = crate::beginning();
        let mut priorities: Vec<u32> = sizes.iter().enumerate().flat_map(|(p, n)| vec![p as u32; *n]).collect();
        let mut race = Race::new(priorities.iter().map(|p| entrant(*p)).collect(), delay * MS, start);
        let (mut now, mut dials, mut hanging) = (start, Vec::new(), Vec::new());
        loop {
            match race.step(now) {
                Step::Dial(index) => {
                    if hangs[dials.len() % hangs.len()] { hanging.push(index) } else { race.failed(index) }
                    dials.push(index);
                    for (_, priority) in joining.iter().filter(|(after, _)| *after == dials.len()) {
                        priorities.push(*priority);
                        prop_assert_eq!(race.join(now, entrant(*priority)), priorities.len() - 1);
                    }
                    prop_assert!(dials.len() <= 2 * priorities.len().max(2));
                }
                Step::Wait(at) => { prop_assert!(at > now); now = at; }
                Step::WaitForAttempts => {
                    let Some(index) = hanging.pop() else { panic!("waits for nothing") };
                    race.failed(index);
                }
                Step::Lost => break,
            }
            prop_assert!(now <= start + 10_000 * MS);
        }
        prop_assert!(hanging.is_empty());
        let everybody: std::collections::BTreeSet<usize> = dials.iter().copied().collect();
        prop_assert_eq!(everybody.len(), priorities.len());
        let first = |index: usize| dials.iter().position(|dialled| *dialled == index);
        let begun: Vec<usize> = sizes.iter().scan(0, |at, size| {
            let dial = first(*at);
            *at += size;
            dial
        }).collect();
        prop_assert!(begun.is_sorted(), "{:?}", dials);
        prop_assert_eq!(dials[0], 0);
    }
}

#[test]
fn a_server_that_is_another_one_is_not_dialled_twice() {
    let now = crate::beginning();
    let mut race = race(&[0, 1], now);
    assert_eq!(race.step(now), Step::Dial(0));
    race.refused(0);
    assert_eq!(race.step(now), Step::Dial(1));
    race.refused(1);
    assert_eq!(race.step(now), Step::Lost);
}
