use std::time::Duration;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// The changes of a series of answers, `pause` apart.
fn changes(answers: &[&[u8]], pause: Duration) -> String {
    let mut now = crate::beginning();
    let mut sightings = Sightings::default();
    let told = answers.iter().map(|answer| {
        now += pause;
        match sightings.observe(now, answer) {
            Change::Widened => '.',
            Change::Moved => 'M',
        }
    });
    told.collect()
}

#[test]
fn other_addresses_are_a_move() {
    assert_eq!(changes(&[&[1], &[1], &[2], &[2]], SECOND), "..M.");
    assert_eq!(changes(&[&[1, 2], &[3, 4]], SECOND), ".M");
}

#[test]
fn an_empty_answer_is_no_move_and_hides_none() {
    assert_eq!(changes(&[&[1], &[], &[2], &[]], SECOND), "..M.");
}

#[test]
fn addresses_that_overlap_only_widen() {
    let answers: [&[u8]; 4] = [&[1, 2], &[2, 3], &[3, 4], &[1, 4]];
    assert_eq!(changes(&answers, SECOND), "....");
}

#[test]
fn going_back_is_a_move_too() {
    assert_eq!(changes(&[&[1], &[2], &[1]], 30 * SECOND), ".MM");
}

#[test]
fn answers_that_rotate_are_no_moves_for_long() {
    let answers: Vec<[u8; 1]> = (0..30).map(|n| [n % 3]).collect();
    let answers: Vec<&[u8]> = answers.iter().map(|a| &a[..]).collect();
    assert_eq!(changes(&answers, SECOND), format!(".MMM{}", ".".repeat(26)));
    // So far apart each answer stands for itself.
    assert_eq!(changes(&answers[..5], 601 * SECOND), ".MMMM");
}

#[test]
fn ever_new_addresses_are_not_kept_for_ever() {
    let mut sightings = Sightings::default();
    let now = crate::beginning();
    for n in 0..100_000u32 {
        sightings.observe(now, &[n]);
    }
    assert_eq!(sightings.seen.len(), KEPT);
}
