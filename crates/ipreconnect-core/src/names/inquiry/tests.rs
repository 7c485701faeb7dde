use std::time::{Duration, Instant};

use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, proptest};

use super::{Strategy, *};

const MS: Duration = Duration::from_millis(1);

/// Servers by their replies and when they come; `None` is never.
fn run(strategy: Strategy, servers: &[Option<(u64, Reply)>]) -> (Decision, Duration, Vec<usize>) {
    let order: Vec<usize> = (0..servers.len()).collect();
    run_in(strategy, &order, servers)
}

fn run_in(
    strategy: Strategy,
    order: &[usize],
    servers: &[Option<(u64, Reply)>],
) -> (Decision, Duration, Vec<usize>) {
    let began = crate::beginning();
    let mut now = began;
    let mut inquiry = Inquiry::new(strategy, order);
    let mut asked: Vec<(usize, Instant)> = Vec::new();
    let mut coming: Vec<(Instant, usize, Reply)> = Vec::new();
    loop {
        let until = match inquiry.step(now) {
            Step::Done(decision) => {
                let order = asked.iter().map(|(server, _)| *server).collect();
                return (decision, now - began, order);
            }
            Step::Ask(server) => {
                asked.push((server, now));
                if let Some((after, reply)) = servers[server] {
                    coming.push((now + after as u32 * MS, server, reply));
                }
                continue;
            }
            Step::WaitUntil(at) => Some(at),
            Step::Wait => None,
        };
        coming.sort_by_key(|(at, ..)| *at);
        let next = coming.first().copied();
        match (next, until) {
            (Some((at, server, reply)), _) if until.is_none_or(|until| at <= until) => {
                coming.remove(0);
                now = at;
                inquiry.replied(now, server, reply);
            }
            (_, Some(until)) => now = until,
            // Whoever is silent fails by its own patience in the end.
            (_, None) => {
                now += 2_000 * MS;
                for (server, _) in &asked {
                    inquiry.replied(now, *server, Reply::Failed);
                }
            }
        }
    }
}

use Reply::{Failed, Negative, Positive};

#[test]
fn the_first_server_answers_alone_when_it_is_quick() {
    let (decision, took, asked) = run(
        Strategy::Order,
        &[Some((20, Positive)), Some((1, Positive))],
    );
    assert_eq!((decision, asked), (Decision::Positive(0), vec![0]));
    assert_eq!(took, 20 * MS);
}

#[test]
fn a_silent_server_is_joined_by_the_next_one() {
    let (decision, took, _) = run(Strategy::Order, &[None, Some((20, Positive))]);
    assert_eq!(decision, Decision::Positive(1));
    assert_eq!(took, 320 * MS);
}

#[test]
fn a_failure_moves_on_at_once() {
    let (decision, took, _) = run(Strategy::Order, &[Some((2, Failed)), Some((20, Positive))]);
    assert_eq!(decision, Decision::Positive(1));
    assert_eq!(took, 22 * MS);
}

/// Where the first server knows internal names and the second does not.
#[test]
fn a_quick_denial_of_the_second_server_never_beats_the_first() {
    let servers = [Some((700, Positive)), Some((1, Negative))];
    for strategy in [Strategy::Order, Strategy::Race] {
        let (decision, took, _) = run(strategy, &servers);
        match strategy {
            Strategy::Order => assert_eq!(decision, Decision::Positive(0)),
            // A race does not wait for ever.
            Strategy::Race => assert_eq!(took, 301 * MS),
        }
    }
    let servers = [Some((250, Positive)), Some((1, Negative))];
    assert_eq!(run(Strategy::Race, &servers).0, Decision::Positive(0));
}

/// The preferred server is set aside, or a second look asks the other one first.
#[test]
fn a_denial_of_a_lesser_server_asks_the_preferred_one_too() {
    let servers = [Some((20, Positive)), Some((1, Negative))];
    let (decision, took, asked) = run_in(Strategy::Order, &[1, 0], &servers);
    assert_eq!((decision, asked), (Decision::Positive(0), vec![1, 0]));
    assert_eq!(took, 21 * MS);
    let servers = [Some((20, Negative)), Some((1, Negative))];
    let (decision, ..) = run_in(Strategy::Order, &[1, 0], &servers);
    let confirmed = Decision::Negative {
        server: 0,
        is_confirmed: true,
    };
    assert_eq!(decision, confirmed);
}

#[test]
fn a_denial_of_the_first_server_counts_at_once() {
    let (decision, took, asked) = run(Strategy::Order, &[Some((5, Negative)), Some((1, Positive))]);
    let expected = Decision::Negative {
        server: 0,
        is_confirmed: false,
    };
    assert_eq!((decision, took, asked), (expected, 5 * MS, vec![0]));
}

#[test]
fn two_denials_are_a_confirmed_one() {
    let (decision, ..) = run(Strategy::Race, &[Some((5, Negative)), Some((1, Negative))]);
    assert_eq!(
        decision,
        Decision::Negative {
            server: 0,
            is_confirmed: true
        }
    );
}

#[test]
fn all_that_fail_are_asked_and_the_lookup_ends() {
    let servers = [Some((1, Failed)), None, Some((1, Failed))];
    for strategy in [Strategy::Order, Strategy::Race] {
        let (decision, _, mut asked) = run(strategy, &servers);
        asked.sort_unstable();
        assert_eq!((decision, asked), (Decision::Failed, vec![0, 1, 2]));
    }
    assert_eq!(run(Strategy::Order, &[]).0, Decision::Failed);
}

proptest! {
    /// Whatever the servers do, the lookup ends; a positive answer that is in time is never lost to
    /// a denial of a server after it.
    #[test]
    fn every_lookup_ends(
        race in any::<bool>(),
        servers in prop::collection::vec(
            prop::option::of((0u64..1_500, prop::sample::select(vec![Positive, Negative, Failed]))),
            0..5,
        )
    ) {
        let strategy = if race { Strategy::Race } else { Strategy::Order };
        let (decision, took, asked) = run(strategy, &servers);
        prop_assert!(took <= 5 * 2_000 * MS);
        let mut once = asked.clone();
        once.sort_unstable();
        once.dedup();
        prop_assert_eq!(once.len(), asked.len());
        match decision {
            Decision::Positive(server) => {
                prop_assert!(matches!(servers[server], Some((_, Positive))));
            }
            Decision::Negative { server, .. } => {
                prop_assert!(matches!(servers[server], Some((_, Negative))));
                if strategy == Strategy::Order {
                    let before = &servers[..server];
                    prop_assert!(!before.iter().any(|s| matches!(s, Some((_, Positive)))));
                }
            }
            Decision::Failed => {
                prop_assert!(servers.iter().all(|s| matches!(s, None | Some((_, Failed)))));
            }
        }
    }
}
