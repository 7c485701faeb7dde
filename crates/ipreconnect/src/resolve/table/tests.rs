use super::*;
use crate::clock;
use crate::resolve::{DnsSettings, RecordKind};

const SECOND: Duration = Duration::from_secs(1);

/// The next answer of the only name comes, at whatever time it is due.
fn answer(table: &mut Table, now: &mut Instant) {
    let due = loop {
        *now = table.wakeup().unwrap().max(*now);
        // It wakes up to grow older, too.
        if let Some(due) = table.due(*now, 1).pop() {
            break due;
        }
    };
    let outcome = Outcome::Found {
        records: vec![Record::Address([192, 0, 2, 1].into())],
        ttl: 10 * SECOND,
        security: Security::Unchecked,
    };
    let server = Some(0);
    table.take(*now, &due, Brought { outcome, server }, None);
}

/// A disk that was full at the one moment must not cost the last known good addresses.
#[test]
fn an_answer_that_could_not_be_kept_is_written_later() {
    let mut now = clock::now();
    let mut table = Table::new(DnsSettings::default().memory(), 1);
    let question = Question::new("a.test", RecordKind::A);
    table.enter(now, &question, Arc::default());
    answer(&mut table, &mut now);
    assert!(table.unwritten.remove(&question).is_some());
    // Kept: the same answer is not written again and again.
    answer(&mut table, &mut now);
    assert!(table.unwritten.is_empty());

    table.unkept(now, &question);
    let failed = now;
    while table.unwritten.is_empty() {
        assert!(now < failed + 3 * AGAIN, "it is never written");
        answer(&mut table, &mut now);
    }
    assert!(now >= failed + AGAIN);
}
