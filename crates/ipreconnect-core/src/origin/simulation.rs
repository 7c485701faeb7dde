//! Whole origins through thousands of random fault histories, in virtual time.
//!
//! A failing run prints its seed and the last lines of its transcript; the seed replays it.

mod world;

use std::time::Duration;

use crate::balance::Policy;
use world::{Fault, World};

const HISTORIES: u64 = 5_000;

/// Runs one history: faults for a while, then an end to all faults but one endpoint's.
fn history(seed: u64) {
    let mut world = World::new(seed);
    for _ in 0..40 {
        world.random_step();
    }
    world.heal_one();
    // The longest pause is the cap of the backoff; with clients waiting it is far shorter.
    world.run_for(Duration::from_secs(40));
    world.assert_healed();
}

#[test]
fn every_history_heals_and_keeps_its_bounds() {
    for seed in 0..HISTORIES {
        history(seed);
    }
}

#[test]
fn a_waiting_client_is_served_soon_after_the_origin_is_back() {
    for seed in 0..200 {
        let mut world = World::calm(seed, 1);
        world.run_for(Duration::from_secs(1));
        world.set(
            0,
            if seed % 2 == 0 {
                Fault::Refusing
            } else {
                Fault::Silent
            },
        );
        world.run_for(Duration::from_secs(60));
        world.arrive(100);
        world.run_for(Duration::from_secs(1));
        assert_eq!(world.waiting(), 100, "seed {seed}");
        world.set(0, Fault::None);
        world.run_for(Duration::from_millis(if seed % 2 == 0 { 50 } else { 300 }));
        assert_eq!(world.waiting(), 0, "seed {seed}");
    }
}

#[test]
fn ten_thousand_waiting_clients_make_one_probe_at_a_time() {
    let count = |clients| {
        let mut world = World::calm(7, 1);
        world.run_for(Duration::from_secs(1));
        world.set(0, Fault::Refusing);
        world.run_for(Duration::from_secs(30));
        world.arrive(clients);
        let before = world.probes();
        world.run_for(Duration::from_secs(5));
        world.probes() - before
    };
    assert_eq!(count(1), count(10_000));
    assert!(count(10_000) <= 5 * 40 + 2);
}

#[test]
fn a_frozen_endpoint_is_left_and_comes_back_when_it_thaws() {
    for seed in 0..50 {
        let mut world = World::calm(seed, 2);
        world.traffic(Duration::from_secs(2));
        assert_eq!(world.leader(), Some(0), "seed {seed}");
        world.set(0, Fault::Frozen);
        world.traffic(Duration::from_secs(1));
        assert_eq!(world.leader(), Some(1), "seed {seed}");
        world.traffic(Duration::from_secs(30));
        assert_eq!(world.leader(), Some(1), "seed {seed}");
        world.set(0, Fault::None);
        world.traffic(Duration::from_secs(4));
        assert_eq!(world.leader(), Some(0), "seed {seed}");
    }
}

#[test]
fn given_up_stays_given_up_until_asked() {
    let mut world = World::with_attempts(3, 3);
    world.run_for(Duration::from_secs(1));
    world.set(0, Fault::Refusing);
    world.arrive(3);
    world.run_for(Duration::from_secs(60));
    assert!(world.is_given_up());
    assert_eq!(world.waiting(), 0);
    world.set(0, Fault::None);
    world.run_for(Duration::from_secs(60));
    assert!(world.is_given_up());
    world.ask();
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.leader(), Some(0));
}

#[test]
fn an_impostor_is_left_at_once_and_asked_rarely() {
    for seed in 0..50 {
        let mut world = World::calm(seed, 1);
        world.run_for(Duration::from_secs(1));
        world.set(0, Fault::Impostor);
        world.arrive(100);
        world.run_for(Duration::from_secs(2));
        assert_eq!(world.waiting(), 100, "seed {seed}");
        let before = world.probes();
        world.run_for(Duration::from_secs(10));
        // Once a second at most, and the watchdog now and then, however many clients wait.
        let probes = world.probes() - before;
        assert!(probes <= 13, "seed {seed}: {probes} probes");
        world.set(0, Fault::None);
        world.run_for(Duration::from_millis(1500));
        assert_eq!(world.waiting(), 0, "seed {seed}");
    }
}

#[test]
fn an_endpoint_that_is_unwell_is_left_whatever_its_connections_say() {
    for seed in 0..50 {
        let mut world = World::asked(seed, 2);
        world.traffic(Duration::from_secs(2));
        assert_eq!(world.leader(), Some(0), "seed {seed}");
        world.set(0, Fault::Unwell);
        // The next question, and one more to be sure; traffic puts neither off.
        world.traffic(Duration::from_secs(7));
        assert_eq!(world.leader(), Some(1), "seed {seed}");
        world.traffic(Duration::from_secs(30));
        assert_eq!(world.leader(), Some(1), "seed {seed}");
        world.set(0, Fault::None);
        world.traffic(Duration::from_secs(4));
        assert_eq!(world.leader(), Some(0), "seed {seed}");
    }
}

#[test]
fn clients_wait_while_the_only_endpoint_is_unwell_and_it_is_not_asked_all_the_time() {
    for seed in 0..50 {
        let mut world = World::asked(seed, 1);
        world.run_for(Duration::from_secs(1));
        world.set(0, Fault::Unwell);
        world.run_for(Duration::from_secs(10));
        world.arrive(100);
        let before = world.probes();
        world.run_for(Duration::from_secs(5));
        assert_eq!(world.waiting(), 100, "seed {seed}");
        assert!(world.probes() - before <= 30, "seed {seed}");
        world.set(0, Fault::None);
        world.run_for(Duration::from_millis(600));
        assert_eq!(world.waiting(), 0, "seed {seed}");
    }
}

const POLICIES: [Policy; 5] = [
    Policy::RoundRobin,
    Policy::Random,
    Policy::LeastConnections,
    Policy::P2cEwma,
    Policy::Hash,
];

#[test]
fn one_that_fails_or_is_slow_among_equals_gets_next_to_nothing() {
    for (seed, policy) in (0..10).zip(POLICIES.into_iter().cycle()) {
        for fault in [Fault::Failing, Fault::Slow] {
            let mut world = World::equals(seed, 3);
            world.requests(Duration::from_secs(5), policy, 3);
            assert_eq!(world.ejected(), [0usize; 0], "seed {seed}");
            world.set(1, fault);
            world.requests(Duration::from_secs(10), policy, 3);
            assert_eq!(world.ejected(), [1], "seed {seed} {policy:?}");
            let shares = world.requests(Duration::from_secs(120), policy, 3);
            let all: u32 = shares.iter().sum();
            // It is tried again now and then, by a few requests.
            assert!(
                shares[1] * 20 < all,
                "seed {seed} {policy:?} {fault:?}: {shares:?}"
            );
        }
    }
}

#[test]
fn one_that_is_well_again_has_its_whole_share_in_the_end() {
    for (seed, policy) in (0..10).zip(POLICIES.into_iter().cycle()) {
        let mut world = World::equals(seed, 3);
        world.set(2, Fault::Failing);
        world.requests(Duration::from_secs(10), policy, 3);
        assert_eq!(world.ejected(), [2], "seed {seed}");
        world.set(2, Fault::None);
        world.requests(Duration::from_secs(25), policy, 3);
        assert_eq!(world.ejected(), [0usize; 0], "seed {seed}");
        let shares = world.requests(Duration::from_secs(10), policy, 3);
        let all: u32 = shares.iter().sum();
        assert!(shares[2] * 4 > all, "seed {seed} {policy:?}: {shares:?}");
    }
}

#[test]
fn nobody_is_set_aside_for_what_all_do() {
    for (seed, policy) in (0..20).zip(POLICIES.into_iter().cycle()) {
        for fault in [Fault::Failing, Fault::Slow] {
            let mut world = World::equals(seed, 3);
            (0..3).for_each(|index| world.set(index, fault));
            let shares = world.requests(Duration::from_secs(30), policy, 3);
            assert_eq!(world.ejected(), [0usize; 0], "seed {seed}");
            assert!(shares.iter().all(|share| *share > 1000), "{shares:?}");
        }
        let mut alone = World::equals(seed, 1);
        alone.set(0, Fault::Failing);
        alone.requests(Duration::from_secs(30), policy, 3);
        assert_eq!(alone.ejected(), [0usize; 0], "seed {seed}");
    }
}

/// Whatever endpoints do, no more than half of them are set aside, and requests go somewhere.
#[test]
fn the_ceiling_holds_in_every_history() {
    for seed in 0..60 {
        let mut world = World::equals(seed, 2 + usize::try_from(seed % 5).unwrap());
        for _ in 0..30 {
            world.random_fault();
            let before = world.is_usable();
            let shares = world.requests(Duration::from_secs(2), Policy::RoundRobin, 5);
            assert!(
                !before || shares.iter().any(|share| *share > 0),
                "seed {seed}"
            );
        }
    }
}

/// However long it was kept quiet before: the share grows from when it takes work.
#[test]
fn one_that_was_lost_often_gets_its_share_little_by_little() {
    for (seed, policy) in (0..10).zip(POLICIES.into_iter().cycle()) {
        let mut world = World::equals(seed, 3);
        for _ in 0..4 {
            world.set(1, Fault::Refusing);
            world.run_for(Duration::from_secs(8));
            world.set(1, Fault::None);
            world.run_for(Duration::from_secs(3));
        }
        let mut slices = Vec::new();
        while slices.len() < 12 {
            let shares = world.requests(Duration::from_secs(1), policy, 20);
            let all: u32 = shares.iter().sum();
            if shares[1] > 0 {
                slices.push(shares[1] * 100 / all);
            }
        }
        let told = format!("seed {seed} {policy:?}: {slices:?}");
        assert!(slices[0] <= 12, "{told}");
        assert!(slices[1] < slices[5] && slices[5] < slices[10], "{told}");
        assert!(slices[11] >= 28, "{told}");
    }
}
