use super::bandwidth::TokenBucket;
use super::*;
use proptest::prelude::*;
use std::num::NonZeroU64;

fn passage(now: Instant, way: Way, carrier: Carrier, bytes: usize) -> Passage {
    Passage::new(now, way, carrier, Freight::Bytes(bytes))
}

/// The delays that a part gives to a series of passages.
fn delays(part: &mut dyn Part, way: Way, count: usize) -> Vec<Duration> {
    let now = Instant::now();
    let pass = |_| {
        let mut passage = passage(now, way, Carrier::Stream, 1);
        part.pass(&mut passage);
        passage.due - now
    };
    (0..count).map(pass).collect()
}

fn losses(part: &mut dyn Part, way: Way, count: usize) -> Vec<bool> {
    let now = Instant::now();
    let pass = |_| {
        let mut passage = passage(now, way, Carrier::Datagrams, 1);
        part.pass(&mut passage);
        passage.fate == Fate::Lost
    };
    (0..count).map(pass).collect()
}

proptest! {
    /// Between any two deliveries, no more has passed than the rate, the burst and one piece allow.
    #[test]
    fn a_bucket_never_exceeds_its_rate(
        rate in 1_u64..10_000_000,
        steps in prop::collection::vec((0_u64..50, 1_usize..16_384), 1..60),
    ) {
        let start = Instant::now();
        let mut bucket = TokenBucket::full(NonZeroU64::new(rate).unwrap());
        let mut now = start;
        let gone: Vec<(Instant, usize)> = steps.iter().map(|(pause, bytes)| {
            now += Duration::from_millis(*pause);
            (bucket.take(now, *bytes), *bytes)
        }).collect();

        for (first, (from, _)) in gone.iter().enumerate() {
            let mut sum = 0;
            for (until, bytes) in &gone[first..] {
                prop_assert!(until >= from, "what came first goes first");
                sum += *bytes as u64;
                let seconds = (*until - *from).as_secs_f64() + 0.020;
                let piece = gone[first].1 as u64;
                prop_assert!((sum - piece) as f64 <= rate as f64 * seconds + 1.0);
            }
        }
    }

    /// A bucket that is always asked for more than it has gives all it has.
    #[test]
    fn a_bucket_is_no_slower_than_its_rate(
        rate in 1_000_u64..10_000_000,
        pieces in prop::collection::vec(1_usize..16_384, 1..60),
    ) {
        let start = Instant::now();
        let mut bucket = TokenBucket::full(NonZeroU64::new(rate).unwrap());
        let last = pieces.iter().map(|bytes| bucket.take(start, *bytes)).max().unwrap();
        let ideal = pieces.iter().sum::<usize>() as f64 / rate as f64;
        prop_assert!((last - start).as_secs_f64() <= ideal + 1e-6);
    }

    #[test]
    fn jitter_is_bounded_and_decided_by_its_seed(seed: u64, up_to in 0_u64..1_000_000) {
        let up_to = Duration::from_micros(up_to);
        let first = delays(&mut Jitter::new(up_to, seed), Way::ToOrigin, 50);
        let again = delays(&mut Jitter::new(up_to, seed), Way::ToOrigin, 50);
        prop_assert!(first.iter().all(|delay| *delay <= up_to));
        prop_assert_eq!(first, again);
    }

    #[test]
    fn loss_is_decided_by_its_seed_and_near_its_share(seed: u64, percent in 0_u8..=100) {
        let first = losses(&mut Loss::new(percent, seed), Way::ToClient, 2_000);
        let again = losses(&mut Loss::new(percent, seed), Way::ToClient, 2_000);
        let share = first.iter().filter(|lost| **lost).count() as f64 / 20.0;
        prop_assert!((share - f64::from(percent)).abs() < 8.0);
        prop_assert_eq!(first, again);
    }

    /// What happens one way does not depend on the traffic of the other.
    #[test]
    fn the_ways_do_not_disturb_each_other(seed: u64, others in 0_usize..50) {
        let mut part = Loss::new(50, seed);
        losses(&mut part, Way::ToClient, others);
        let disturbed = losses(&mut part, Way::ToOrigin, 50);
        let alone = losses(&mut Loss::new(50, seed), Way::ToOrigin, 50);
        prop_assert_eq!(disturbed, alone);
    }
}

#[test]
fn the_ways_throw_different_dice() {
    let out = losses(&mut Loss::new(50, 7), Way::ToOrigin, 64);
    let back = losses(&mut Loss::new(50, 7), Way::ToClient, 64);
    assert_ne!(out, back);
}

#[test]
fn a_stream_is_late_where_a_datagram_is_lost() {
    let late = delays(&mut Loss::new(100, 1), Way::ToOrigin, 1);
    assert_eq!(late, [Duration::from_millis(200)]);
}

#[test]
fn a_slow_close_delays_nothing_but_the_end() {
    let by = Duration::from_secs(1);
    let mut part = SlowClose::new(by);
    let now = Instant::now();
    assert_eq!(delays(&mut part, Way::ToClient, 1), [Duration::ZERO]);
    let mut end = Passage::new(now, Way::ToClient, Carrier::Stream, Freight::End);
    part.pass(&mut end);
    assert_eq!(end.due - now, by);
}

#[test]
fn an_endless_latency_is_no_overflow() {
    let mut part = Latency::new(Duration::MAX);
    assert!(delays(&mut part, Way::ToClient, 1)[0] >= Duration::from_secs(3600));
}
