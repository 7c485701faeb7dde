use super::*;
use proptest::prelude::*;

fn candidate(key: u32) -> Candidate {
    Candidate {
        key,
        priority: 0,
        weight: 1,
        open: 0,
        latency: None,
        usable: Standing::Good,
        returned: None,
        by_weight: false,
    }
}

fn weighted(weights: &[u32]) -> Vec<Candidate> {
    weights
        .iter()
        .zip(0..)
        .map(|(weight, key)| Candidate {
            weight: *weight,
            ..candidate(key)
        })
        .collect()
}

fn policies() -> impl Strategy<Value = Policy> {
    use Policy::*;
    prop::sample::select(vec![
        Failover,
        RoundRobin,
        LeastConnections,
        P2cEwma,
        Random,
        Hash,
    ])
}

fn candidates() -> impl Strategy<Value = Vec<Candidate>> {
    let one = (
        0u32..3,
        1u32..10,
        0u32..50,
        prop::option::of(0u64..1_000),
        0u8..3,
    );
    prop::collection::vec(one, 0..10).prop_map(|list| {
        list.into_iter()
            .zip(0..)
            .map(
                |((priority, weight, open, latency, standing), key)| Candidate {
                    priority,
                    weight,
                    open,
                    latency: latency.map(Duration::from_millis),
                    usable: [Standing::Good, Standing::Doubtful, Standing::Bad]
                        [usize::from(standing)],
                    ..candidate(key)
                },
            )
            .collect()
    })
}

/// How often each of the candidates came first in so many turns.
fn shares(policy: Policy, candidates: &[Candidate], turns: u32) -> Vec<u32> {
    let mut balance = Balance::new(policy, 42, Duration::from_secs(10));
    let (mut out, mut counts) = (Vec::new(), vec![0; candidates.len()]);
    for _ in 0..turns {
        balance.order(crate::beginning(), candidates, None, &mut out);
        counts[out[0]] += 1;
    }
    counts
}

#[test]
fn random_goes_by_weight() {
    let counts = shares(Policy::Random, &weighted(&[1, 3]), 10_000);
    assert!((2_200..2_800).contains(&counts[0]), "{counts:?}");
}

#[test]
fn two_choices_avoid_the_loaded_and_the_slow() {
    let mut candidates = weighted(&[1, 1, 1]);
    candidates[0].open = 100;
    candidates[1].latency = Some(Duration::from_secs(1));
    let counts = shares(Policy::P2cEwma, &candidates, 9_000);
    assert!(
        counts[2] > 5_000 && counts[1] < 3_500 && counts[0] < 3_500,
        "{counts:?}"
    );
}

/// Links that stay open: with two endpoints both are drawn each time, and only cost can tell.
#[test]
fn two_choices_go_by_weight_even_among_two() {
    let mut candidates = weighted(&[1, 3]);
    let mut balance = Balance::new(Policy::P2cEwma, 42, Duration::ZERO);
    let mut out = Vec::new();
    for _ in 0..400 {
        balance.order(crate::beginning(), &candidates, None, &mut out);
        candidates[out[0]].open += 1;
    }
    assert!((95..=105).contains(&candidates[0].open), "{candidates:?}");
}

/// Endpoints come and go by thousands; those that stay get their turns all the same.
#[test]
fn round_robin_starves_nobody_when_endpoints_are_many_or_change() {
    let many = weighted(&[1; 3_000]);
    assert_eq!(shares(Policy::RoundRobin, &many, 3_000), vec![1; 3_000]);

    let mut balance = Balance::new(Policy::RoundRobin, 42, Duration::ZERO);
    let (mut out, mut turns) = (Vec::new(), 0);
    for fresh in 1..=6_000 {
        let pair = [candidate(fresh), candidate(0)];
        balance.order(crate::beginning(), &pair, None, &mut out);
        turns += u32::from(out[0] == 1);
    }
    assert!(turns >= 1_500, "{turns}");
}

#[test]
fn least_connections_goes_by_weight_too() {
    let mut candidates = weighted(&[1, 4]);
    candidates[1].open = 2;
    assert_eq!(shares(Policy::LeastConnections, &candidates, 10), [0, 10]);
}

#[test]
fn peaks_count_at_once_and_fade() {
    let start = crate::beginning();
    let mut ewma = PeakEwma::new(start, Duration::from_millis(1));
    ewma.observe(start, Duration::from_millis(100));
    assert_eq!(ewma.value(), Duration::from_millis(100));
    ewma.observe(start + Duration::from_secs(10), Duration::from_millis(1));
    assert!(ewma.value() < Duration::from_millis(40) && ewma.value() > Duration::from_millis(30));
}

proptest! {
    /// Everything usable exactly once, by standing, then by priority.
    #[test]
    fn order_is_complete_and_ranked(policy in policies(), candidates in candidates(), seed: u64, hash in prop::option::of(any::<u64>())) {
        let mut balance = Balance::new(policy, seed, Duration::from_secs(10));
        let mut out = vec![99];
        balance.order(crate::beginning(), &candidates, hash, &mut out);
        let ranks: Vec<_> = out.iter().map(|i| (candidates[*i].usable, candidates[*i].priority)).collect();
        prop_assert!(ranks.is_sorted());
        let mut sorted = out.clone();
        sorted.sort_unstable();
        let usable: Vec<usize> = (0..candidates.len()).filter(|i| candidates[*i].usable != Standing::Bad).collect();
        prop_assert_eq!(sorted, usable);
    }

    /// Over a full cycle everybody gets its weight, exactly.
    #[test]
    fn round_robin_is_exact(weights in prop::collection::vec(1u32..6, 1..6)) {
        let cycle: u32 = weights.iter().sum();
        prop_assert_eq!(shares(Policy::RoundRobin, &weighted(&weights), cycle), weights);
    }

    /// Removing one moves only those that were on it.
    #[test]
    fn hash_disturbs_nobody_else(weights in prop::collection::vec(1u32..6, 2..8), hash: u64, gone: prop::sample::Index) {
        let all = weighted(&weights);
        let mut balance = Balance::new(Policy::Hash, 1, Duration::ZERO);
        let mut out = Vec::new();
        balance.order(crate::beginning(), &all, Some(hash), &mut out);
        let before = all[out[0]].key;
        let mut fewer = all.clone();
        let gone = fewer.remove(gone.index(all.len())).key;
        balance.order(crate::beginning(), &fewer, Some(hash), &mut out);
        if before != gone {
            prop_assert_eq!(fewer[out[0]].key, before);
        }
    }

    /// The share of one that came back only grows.
    #[test]
    fn slow_start_is_monotone(a in 0u64..20_000, b in 0u64..20_000) {
        let start = crate::beginning();
        let balance = Balance::new(Policy::Random, 1, Duration::from_secs(10));
        let back = Candidate { weight: 7, returned: Some(start), ..candidate(0) };
        let at = |millis| balance.ramp(start + Duration::from_millis(millis), &back);
        prop_assert!(at(a.min(b)) <= at(a.max(b)));
        prop_assert!(at(0) >= 0.69 && at(10_000) == 7.0);
    }
}

/// The share of one that came back among three, in per cent, so long after its return.
fn share_after(policy: Policy, seconds: u64, open: u32) -> u32 {
    let start = crate::beginning();
    let mut candidates = weighted(&[1, 1, 1]);
    candidates[1].returned = Some(start);
    for candidate in &mut candidates {
        candidate.open = open;
    }
    let (mut balance, mut dice) = (
        Balance::new(policy, 7, Duration::from_secs(10)),
        Dice::new(11),
    );
    let (mut out, mut count) = (Vec::new(), 0);
    for _ in 0..20_000 {
        let hash = dice.below(u64::MAX);
        let now = start + Duration::from_secs(seconds);
        balance.order(now, &candidates, Some(hash), &mut out);
        count += u32::from(out[0] == 1);
    }
    count / 200
}

#[test]
fn the_share_of_one_that_came_back_grows_whatever_the_policy_and_the_load() {
    use Policy::{Hash, LeastConnections, P2cEwma, Random, RoundRobin};
    for policy in [RoundRobin, Random, Hash, P2cEwma, LeastConnections] {
        for open in [0, 20] {
            let shares = [0, 3, 6, 10].map(|seconds| share_after(policy, seconds, open));
            assert!(
                (1..=6).contains(&shares[0]),
                "{policy:?} {open}: {shares:?}"
            );
            assert!(shares.is_sorted(), "{policy:?} {open}: {shares:?}");
            assert!(shares[0] + 5 < shares[1], "{policy:?} {open}: {shares:?}");
            assert!(shares[1] + 3 < shares[2], "{policy:?} {open}: {shares:?}");
            assert!(
                (31..=35).contains(&shares[3]),
                "{policy:?} {open}: {shares:?}"
            );
        }
    }
}

/// Who goes by a hash moves to one that came back at most once, and nowhere else.
#[test]
fn a_hash_moves_once_to_one_that_came_back() {
    let start = crate::beginning();
    let mut candidates = weighted(&[1, 1, 1]);
    candidates[1].returned = Some(start);
    let mut balance = Balance::new(Policy::Hash, 7, Duration::from_secs(10));
    let (mut out, mut dice) = (Vec::new(), Dice::new(5));
    for _ in 0..500 {
        let hash = dice.below(u64::MAX);
        let mut before = None;
        for second in 0..=10 {
            let now = start + Duration::from_secs(second);
            balance.order(now, &candidates, Some(hash), &mut out);
            let at = out[0];
            assert!(at == 1 || before.is_none_or(|before| before == at));
            before = Some(at);
        }
    }
}

/// The servers of a service are drawn by weight, whatever the policy.
#[test]
fn a_service_is_drawn_by_weight() {
    let candidates: Vec<Candidate> = [(0, 3), (0, 1), (1, 100)]
        .into_iter()
        .zip(0..)
        .map(|((priority, weight), key)| Candidate {
            key,
            priority,
            weight,
            by_weight: true,
            ..candidate(key)
        })
        .collect();
    let mut balance = Balance::new(Policy::Failover, 1, Duration::ZERO);
    let (mut first, mut order) = ([0; 3], Vec::new());
    for _ in 0..4_000 {
        balance.order(crate::beginning(), &candidates, None, &mut order);
        first[order[0]] += 1;
        assert_eq!(order[2], 2);
    }
    assert!((2_800..3_200).contains(&first[0]), "{first:?}");
}
