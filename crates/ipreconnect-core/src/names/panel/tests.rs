use std::time::Duration;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn who_failed_is_asked_last_and_tried_again_later() {
    let now = crate::beginning();
    let mut panel = Panel::new(3);
    assert_eq!(panel.order(now, None), [0, 1, 2]);
    panel.failed(now, 0, Fault::Failed);
    assert_eq!(panel.order(now, None), [1, 2, 0]);
    assert_eq!(panel.order(now + SECOND, None), [0, 1, 2]);
    // One that fails again and again is asked first more and more rarely, but always again.
    let mut at = now;
    for _ in 0..20 {
        at += 60 * SECOND;
        panel.failed(at, 0, Fault::Failed);
    }
    assert_eq!(panel.order(at + 59 * SECOND, None), [1, 2, 0]);
    assert_eq!(panel.order(at + 60 * SECOND, None), [0, 1, 2]);
    panel.worked(0);
    assert_eq!(panel.order(at, None), [0, 1, 2]);
}

#[test]
fn many_lookups_that_fail_together_are_one_failure() {
    let now = crate::beginning();
    let mut panel = Panel::new(1);
    for _ in 0..1_000 {
        panel.failed(now, 0, Fault::Failed);
    }
    assert_eq!(panel.seats()[0].failures, 1);
}

#[test]
fn a_lie_is_worse_than_a_failure() {
    let now = crate::beginning();
    let mut panel = Panel::new(2);
    panel.failed(now, 0, Fault::Lied);
    assert_eq!(panel.order(now + 7 * SECOND, None), [1, 0]);
    assert_eq!(panel.order(now + 8 * SECOND, None), [0, 1]);
}

#[test]
fn a_second_look_asks_another_server_first() {
    let now = crate::beginning();
    let mut panel = Panel::new(2);
    assert_eq!(panel.order(now, Some(0)), [1, 0]);
    // But not one that is set aside.
    panel.failed(now, 1, Fault::Failed);
    assert_eq!(panel.order(now, Some(0)), [0, 1]);
    panel.forgive();
    assert_eq!(panel.order(now, None), [0, 1]);
}
