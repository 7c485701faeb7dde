use proptest::prelude::*;

use super::*;

struct Desk {
    pager: Pager,
    now: Instant,
}

impl Desk {
    fn new() -> Self {
        Self {
            pager: Pager::new(AlertSettings::default()),
            now: crate::beginning(),
        }
    }

    /// Lets time pass, and hears what is told meanwhile.
    fn after(&mut self, seconds: u64) -> Vec<Page> {
        let until = self.now + Duration::from_secs(seconds);
        let mut out = Vec::new();
        while let Some(at) = self.pager.wakeup().filter(|at| *at <= until) {
            self.now = at.max(self.now);
            self.pager.tick(self.now, &mut out);
        }
        self.now = until;
        out
    }

    fn wrong(&mut self, origin: &str) {
        self.pager.wrong(self.now, trouble(origin));
    }

    fn well(&mut self, origin: &str) {
        self.pager.well(self.now, &trouble(origin).key());
    }
}

fn trouble(origin: &str) -> Trouble {
    Trouble {
        subject: origin.into(),
        kind: "origin_down",
        severity: Severity::Critical,
        summary: format!("{origin} is down"),
        advice: String::new(),
        at_once: false,
    }
}

fn names(page: &Page) -> Vec<&str> {
    page.items
        .iter()
        .map(|item| &*item.trouble.subject)
        .collect()
}

#[test]
fn what_lasts_is_told_and_what_passes_is_not() {
    let mut desk = Desk::new();
    desk.wrong("a");
    assert_eq!(desk.after(4), []);
    desk.well("a");
    assert_eq!(desk.after(3600), []);
    desk.wrong("a");
    let pages = desk.after(10);
    let [page] = pages.as_slice() else {
        panic!("{pages:?}");
    };
    assert_eq!((page.kind, names(page)), (PageKind::Firing, vec!["a"]));
    assert_eq!(page.items[0].lasted.as_secs(), 7);
    assert_eq!(desk.pager.firing(desk.now).len(), 1);
    // A moment of health is not told, and what lasted goes on.
    desk.well("a");
    assert_eq!(desk.after(5), []);
    desk.wrong("a");
    assert_eq!(desk.after(60), []);
    desk.well("a");
    let pages = desk.after(60);
    assert_eq!(pages[0].kind, PageKind::Resolved);
    assert_eq!(pages[0].items[0].lasted.as_secs(), 75);
    assert!(desk.pager.firing(desk.now).is_empty());
}

#[test]
fn what_fails_together_is_told_together() {
    let mut desk = Desk::new();
    desk.wrong("a");
    desk.after(1);
    desk.wrong("b");
    desk.after(1);
    desk.wrong("c");
    let pages = desk.after(20);
    let told: Vec<_> = pages.iter().map(names).collect();
    assert_eq!(told, [vec!["a", "b", "c"]]);
    desk.well("a");
    desk.well("b");
    let pages = desk.after(20);
    assert_eq!((pages.len(), names(&pages[0])), (1, vec!["a", "b"]));
}

#[test]
fn what_is_still_wrong_is_told_again() {
    let mut desk = Desk::new();
    desk.wrong("a");
    desk.after(10);
    let pages = desk.after(9 * 3600);
    let kinds: Vec<_> = pages.iter().map(|page| page.kind).collect();
    assert_eq!(kinds, [PageKind::Reminder; 2]);
}

#[test]
fn what_comes_and_goes_is_told_as_that_and_summed_up() {
    let mut desk = Desk::new();
    let mut told = Vec::new();
    for _ in 0..20 {
        desk.wrong("a");
        told.extend(desk.after(15));
        desk.well("a");
        told.extend(desk.after(15));
    }
    let kinds: Vec<_> = told.iter().map(|page| page.kind).collect();
    assert!(kinds.len() <= 8, "{kinds:?}");
    assert_eq!(kinds.last(), Some(&PageKind::Flapping));
    let pages = desk.after(3600);
    assert_eq!(pages.len(), 1);
    assert_eq!(pages[0].kind, PageKind::Resolved);
    assert!(pages[0].items[0].times >= FLAPS);
}

#[test]
fn nothing_is_told_while_this_machine_is_cut_off_and_one_message_afterwards() {
    let mut desk = Desk::new();
    let mut out = Vec::new();
    desk.wrong("a");
    desk.pager.set_offline(desk.now, true, &mut out);
    desk.wrong("b");
    desk.wrong("c");
    assert_eq!(desk.after(200), []);
    desk.well("b");
    desk.after(10);
    desk.pager.set_offline(desk.now, false, &mut out);
    let [page] = out.as_slice() else {
        panic!("{out:?}");
    };
    assert_eq!(page.kind, PageKind::WasOffline);
    let on: Vec<_> = page.items.iter().map(|item| item.is_on).collect();
    assert_eq!(
        (names(page), on),
        (vec!["a", "b", "c"], vec![true, false, true])
    );
    // What is still wrong was told by that.
    desk.well("a");
    desk.well("c");
    let pages = desk.after(60);
    assert_eq!((pages.len(), pages[0].kind), (1, PageKind::Resolved));
}

#[test]
fn a_machine_that_seems_to_be_cut_off_for_long_tells_all_the_same() {
    let mut desk = Desk::new();
    let mut out = Vec::new();
    desk.pager.set_offline(desk.now, true, &mut out);
    desk.wrong("a");
    let pages = desk.after(600);
    let kinds: Vec<_> = pages.iter().map(|page| page.kind).collect();
    assert_eq!((out.len(), kinds), (0, vec![PageKind::Firing]));
    // It was told: that the machine is back is no news.
    desk.pager.set_offline(desk.now, false, &mut out);
    assert_eq!(out, []);
}

#[test]
fn what_began_in_a_short_cut_is_told_like_anything_else() {
    let mut desk = Desk::new();
    let mut out = Vec::new();
    desk.pager.set_offline(desk.now, true, &mut out);
    desk.wrong("a");
    desk.after(2);
    desk.pager.set_offline(desk.now, false, &mut out);
    assert_eq!(out, []);
    assert_eq!(desk.after(20)[0].kind, PageKind::Firing);
}

#[test]
fn short_losses_that_come_again_and_again_are_told() {
    let mut desk = Desk::new();
    let mut told = Vec::new();
    for _ in 0..10 {
        desk.wrong("a");
        told.extend(desk.after(3));
        desk.well("a");
        told.extend(desk.after(10));
    }
    let kinds: Vec<_> = told.iter().map(|page| page.kind).collect();
    assert_eq!(kinds, [PageKind::Flapping]);
}

#[test]
fn what_comes_and_goes_is_no_reason_to_tell_others_again_each_second() {
    let mut desk = Desk::new();
    desk.pager.reconfigure(AlertSettings {
        repeat: Duration::from_secs(300),
        ..AlertSettings::default()
    });
    desk.wrong("b");
    let mut told = Vec::new();
    for _ in 0..40 {
        desk.wrong("a");
        told.extend(desk.after(15));
        desk.well("a");
        told.extend(desk.after(15));
    }
    assert!(told.len() < 15, "{}", told.len());
}

#[test]
fn what_was_told_before_is_told_to_be_over_and_not_told_again() {
    let mut desk = Desk::new();
    desk.now += Duration::from_secs(3600);
    let began = desk.now - Duration::from_secs(600);
    for origin in ["a", "b"] {
        desk.pager.restore(desk.now, trouble(origin), began);
    }
    desk.wrong("a");
    desk.well("b");
    let pages = desk.after(60);
    assert_eq!(pages.len(), 1);
    assert_eq!(
        (pages[0].kind, names(&pages[0])),
        (PageKind::Resolved, vec!["b"])
    );
    assert_eq!(pages[0].items[0].lasted.as_secs(), 600);
}

#[test]
fn what_does_not_go_away_by_itself_is_told_at_once() {
    let mut desk = Desk::new();
    let mut identity = trouble("a");
    (identity.kind, identity.at_once) = ("identity_changed", true);
    desk.pager.wrong(desk.now, identity.clone());
    assert_eq!(desk.after(3).len(), 1);
    desk.pager.only(desk.now, "identity_changed", &[]);
    assert_eq!(desk.after(30)[0].kind, PageKind::Resolved);
}

proptest! {
    /// Whatever happens, nothing is told to be over that was not told before, and it never tells without end.
    #[test]
    fn an_end_follows_a_beginning(steps in proptest::collection::vec((0..3_u8, 0..3_u8, 1..400_u64), 1..80)) {
        let mut desk = Desk::new();
        let mut open = std::collections::BTreeSet::new();
        let mut count = 0;
        for (what, who, pause) in steps {
            let origin = ["a", "b", "c"][usize::from(who)];
            let mut out = Vec::new();
            match what {
                0 => desk.wrong(origin),
                1 => desk.well(origin),
                _ => {
                    let is_offline = desk.pager.offline.is_none();
                    desk.pager.set_offline(desk.now, is_offline, &mut out);
                }
            }
            out.extend(desk.after(pause));
            count += out.len();
            for page in out {
                for item in page.items {
                    let key = item.trouble.key();
                    match page.kind {
                        PageKind::Firing | PageKind::Flapping => drop(open.insert(key)),
                        PageKind::WasOffline if item.is_on => drop(open.insert(key)),
                        PageKind::WasOffline => {}
                        PageKind::Reminder => prop_assert!(open.contains(&key)),
                        PageKind::Resolved => prop_assert!(open.remove(&key), "{key:?}"),
                    }
                }
            }
        }
        prop_assert!(count < 400, "{count}");
    }
}
