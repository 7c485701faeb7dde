use std::time::Duration;

use super::*;

fn rule(action: Action) -> Rule {
    Rule {
        ports: Vec::new(),
        users: Vec::new(),
        programs: Vec::new(),
        addresses: Vec::new(),
        action,
    }
}

fn seen(port: u16, user: Option<u32>, program: Option<&str>) -> Sighting<'_> {
    Sighting {
        port,
        peer: [127, 0, 0, 1].into(),
        user,
        program,
        is_local: true,
    }
}

fn guard(rules: Vec<Rule>, default: Action) -> Guard {
    Guard {
        rules,
        default,
        mode: Mode::Enforce,
    }
}

#[test]
fn the_first_rule_that_is_for_a_connection_decides() {
    let guard = guard(
        vec![
            Rule {
                ports: vec![5432..=5432],
                users: vec![1000],
                programs: vec!["/usr/bin/psql".into()],
                ..rule(Action::Allow)
            },
            Rule {
                ports: vec![5432..=5432, 6000..=7000],
                users: vec![1000],
                ..rule(Action::Close)
            },
            Rule {
                addresses: vec!["10.0.0.0/8".parse().unwrap()],
                ..rule(Action::Close)
            },
            Rule {
                programs: vec!["curl".into()],
                ..rule(Action::Report)
            },
        ],
        Action::Allow,
    );
    for (sighting, action, rule) in [
        (
            seen(5432, Some(1000), Some("/usr/bin/psql")),
            Action::Allow,
            Some(0),
        ),
        (
            seen(5432, Some(1000), Some("/tmp/psql")),
            Action::Close,
            Some(1),
        ),
        (seen(6500, Some(1000), None), Action::Close, Some(1)),
        (seen(6500, Some(1001), None), Action::Allow, None),
        (
            seen(80, Some(0), Some("/usr/bin/curl")),
            Action::Report,
            Some(3),
        ),
        (seen(80, Some(0), Some("curl")), Action::Report, Some(3)),
        (
            Sighting {
                peer: [10, 1, 2, 3].into(),
                ..seen(1, None, None)
            },
            Action::Close,
            Some(2),
        ),
        (
            Sighting {
                peer: "::ffff:10.1.2.3".parse().unwrap(),
                ..seen(1, None, None)
            },
            Action::Close,
            Some(2),
        ),
        (
            Sighting {
                peer: "::1".parse().unwrap(),
                ..seen(1, Some(5), None)
            },
            Action::Allow,
            None,
        ),
    ] {
        assert_eq!(
            guard.judge(&sighting),
            Verdict { action, rule },
            "{sighting:?}"
        );
    }
}

#[test]
fn what_was_not_looked_at_is_not_closed_by_what_it_might_be() {
    let strict = guard(
        vec![Rule {
            users: vec![7],
            ..rule(Action::Close)
        }],
        Action::Close,
    );
    assert_eq!(strict.judge(&seen(80, None, None)).action, Action::Report);
    assert_eq!(strict.judge(&seen(80, Some(8), None)).action, Action::Close);
    let lenient = guard(
        vec![Rule {
            users: vec![7],
            ..rule(Action::Close)
        }],
        Action::Report,
    );
    assert_eq!(
        lenient.judge(&seen(80, Some(8), None)).action,
        Action::Report,
        "no rule names it"
    );
}

#[test]
fn a_program_that_was_not_seen_or_was_replaced_is_not_closed_for_that() {
    let rules = vec![Rule {
        ports: vec![80..=80],
        programs: vec!["/usr/bin/psql".into()],
        ..rule(Action::Allow)
    }];
    let strict = guard(rules, Action::Close);
    let judged = |program| strict.judge(&seen(80, Some(8), program)).action;
    assert_eq!(judged(Some("/usr/bin/psql (deleted)")), Action::Allow);
    assert_eq!(judged(None), Action::Report);
    assert_eq!(judged(Some("/usr/bin/other")), Action::Close);
    assert_eq!(strict.judge(&seen(81, Some(8), None)).action, Action::Close);
}

#[test]
fn while_it_learns_nothing_is_closed() {
    let learning = Guard {
        mode: Mode::Learn,
        ..guard(
            vec![Rule {
                ports: vec![1..=1],
                ..rule(Action::Close)
            }],
            Action::Close,
        )
    };
    assert_eq!(
        learning.judge(&seen(1, Some(0), None)).action,
        Action::Report
    );
    assert_eq!(
        learning.judge(&seen(2, Some(0), None)).action,
        Action::Allow
    );
}

fn parties(port: u16, user: Option<u32>, program: &str) -> Parties {
    Parties {
        port,
        user,
        program: program.into(),
        address: None,
    }
}

#[test]
fn what_was_learned_allows_that_and_nothing_else() {
    let mut learned = Learned::default();
    for (port, program) in [
        (5432, "/usr/bin/psql"),
        (6379, "/usr/bin/redis-cli"),
        (5433, "/usr/bin/psql"),
    ] {
        assert!(learned.saw(&parties(port, Some(1000), program)));
        assert!(!learned.saw(&parties(port, Some(1000), program)));
    }
    learned.saw(&parties(80, None, ""));
    let rules = learned.rules();
    assert_eq!(rules.len(), 2);
    let guard = guard(rules, Action::Close);
    assert_eq!(
        guard
            .judge(&seen(5433, Some(1000), Some("/usr/bin/psql")))
            .action,
        Action::Allow
    );
    assert_eq!(
        guard
            .judge(&seen(6379, Some(1000), Some("/usr/bin/psql")))
            .action,
        Action::Close
    );
    assert_eq!(
        guard
            .judge(&seen(5432, Some(0), Some("/usr/bin/psql")))
            .action,
        Action::Close
    );
    for port in 0..5000 {
        learned.saw(&parties(port, Some(1), ""));
    }
    assert!(learned.is_full());
}

fn noticed(at: impl IntoIterator<Item = u64>) -> Vec<Noticed> {
    let (mut habits, someone) = (Habits::default(), parties(80, Some(1), "x"));
    at.into_iter()
        .filter_map(|at| habits.came(Duration::from_millis(at), &someone))
        .collect()
}

/// What of it is told.
fn comes(at: impl IntoIterator<Item = u64>) -> Vec<Habit> {
    let news = noticed(at).into_iter().filter(|one| one.is_news);
    news.map(|one| one.habit).collect()
}

#[test]
fn who_comes_by_the_clock_is_a_beacon_and_told_once() {
    let regular = comes((0..40).map(|number| number * 60_000 + number % 3 * 900));
    assert_eq!(regular.len(), 1, "{regular:?}");
    assert!(
        matches!(regular[0], Habit::Beacon { every, times: 6 } if every.as_secs().abs_diff(60) <= 2),
        "{regular:?}"
    );
    // One that was missed does not hide it.
    let missed = comes(
        (0..20)
            .filter(|number| number % 7 != 3)
            .map(|number| number * 30_000),
    );
    assert_eq!(missed.len(), 1);
    // Whoever talks all the time does not call home, and people come when they like.
    assert_eq!(comes((0..200).map(|number| number * 500)), []);
    let mut at = 0;
    let people = (0..60_u64).map(|number| {
        at += 5_000 + number * 7919 % 60_000;
        at
    });
    assert_eq!(comes(people), []);
    // A day later it is told again.
    let again = comes((0..100).map(|number| number * 1_800_000));
    assert_eq!(again.len(), 2, "{again:?}");
}

#[test]
fn a_rhythm_goes_on_until_nobody_comes_for_three_pauses() {
    let all = noticed((0..20).map(|number| number * 60_000));
    assert_eq!(all.len(), 20 - 5, "from the sixth on");
    assert!(all[0].is_news && all[1..].iter().all(|one| !one.is_news));
    assert!(all.iter().all(|one| one.lasts == Duration::from_secs(180)));
}

#[test]
fn more_bytes_than_ever_are_told() {
    let (mut habits, someone) = (Habits::default(), parties(80, Some(1), "x"));
    let mut carried = |hour: u64, mib: u64| {
        habits.carried(Duration::from_secs(hour * 3600), &someone, mib << 20, 0)
    };
    assert_eq!(carried(0, 100), None);
    assert_eq!(carried(1, 200), None, "less than what is much");
    let first = carried(2, 900).unwrap();
    assert!(matches!(first.habit, Habit::Volume { taken, .. } if taken == 900 << 20));
    assert!(first.is_news);
    assert_eq!(first.lasts, Duration::from_secs(3600), "the hour's rest");
    assert_eq!(carried(2, 900), None, "noticed already");
    assert!(
        carried(3, 12_000).is_some_and(|one| !one.is_news),
        "it goes on, and was told within a day"
    );
    // What is usual is no news.
    assert_eq!(carried(30, 3000), None);
    assert!(carried(31, 60_000).is_some_and(|one| one.is_news));
}

#[test]
fn habits_have_a_bound() {
    let mut habits = Habits::default();
    for port in 0..10_000 {
        habits.came(
            Duration::from_secs(u64::from(port)),
            &parties(port, None, ""),
        );
    }
    assert!(habits.flows.len() <= 4096);
    assert!(habits.flows.contains_key(&parties(9_999, None, "")));
}

#[test]
fn who_listens_at_its_own_end_cannot_turn_a_rule_round() {
    let guard = guard(
        vec![
            Rule {
                ports: vec![5432..=5432],
                users: vec![7],
                ..rule(Action::Close)
            },
            Rule {
                users: vec![26],
                ..rule(Action::Allow)
            },
        ],
        Action::Close,
    );
    let judge = |port: u16, user: u32, other: u16, owner: u32| {
        let (seen, turned) = (seen(port, Some(user), None), seen(other, Some(owner), None));
        guard.judge_either(&seen, &turned)
    };
    // A rule decides whatever the other end is.
    assert_eq!(judge(5432, 7, 2000, 26).action, Action::Close);
    assert_eq!(judge(2000, 26, 5432, 7).action, Action::Allow);
    // What none is for is closed only if it would be so either way.
    assert_eq!(judge(5432, 8, 2000, 26).action, Action::Report);
    assert_eq!(judge(5432, 8, 2000, 9).action, Action::Close);
}

#[test]
fn what_was_learned_before_is_known_again() {
    let mut before = Learned::default();
    for (port, user, program) in [(80, 1, "/bin/a"), (81, 1, "/bin/a"), (80, 2, "")] {
        assert!(before.saw(&parties(port, Some(user), program)));
    }
    let mut after = Learned::default();
    for rule in before.rules() {
        after.know(&rule);
    }
    assert_eq!(after, before);
    // What allows more than was ever seen is not taken for learned, and nothing is without bounds.
    after.know(&Rule {
        addresses: vec!["10.0.0.0/8".parse().unwrap()],
        users: vec![3],
        ports: vec![1..=1],
        ..rule(Action::Allow)
    });
    after.know(&Rule {
        users: vec![3],
        ports: vec![1..=1],
        ..rule(Action::Close)
    });
    assert_eq!(after, before);
    after.know(&Rule {
        users: (0..10).collect(),
        ports: vec![1..=65_535],
        ..rule(Action::Allow)
    });
    assert!(after.is_full());
}

#[test]
fn what_an_earlier_rule_might_allow_no_later_one_closes() {
    let guard = guard(
        vec![
            Rule {
                ports: vec![5432..=5432],
                users: vec![7],
                ..rule(Action::Allow)
            },
            Rule {
                ports: vec![80..=80],
                users: vec![7],
                programs: vec!["curl".into()],
                ..rule(Action::Allow)
            },
            rule(Action::Close),
        ],
        Action::Close,
    );
    for (sighting, action, is_open) in [
        (seen(5432, None, None), Action::Report, true),
        (seen(5432, Some(7), None), Action::Allow, false),
        (seen(5432, Some(8), None), Action::Close, false),
        (seen(80, Some(7), None), Action::Report, true),
        (seen(80, Some(8), None), Action::Close, false),
        (
            seen(80, Some(7), Some("/usr/bin/curl")),
            Action::Allow,
            false,
        ),
        (
            seen(80, Some(7), Some("/usr/bin/wget")),
            Action::Close,
            false,
        ),
        (seen(81, None, None), Action::Close, false),
        (
            // Of another machine nobody will ever know it.
            Sighting {
                peer: [10, 0, 0, 1].into(),
                is_local: false,
                ..seen(5432, None, None)
            },
            Action::Close,
            false,
        ),
    ] {
        assert_eq!(guard.judge(&sighting).action, action, "{sighting:?}");
        assert_eq!(guard.is_open(&sighting), is_open, "{sighting:?}");
    }
}

#[test]
fn one_user_does_not_use_up_what_can_be_learned() {
    let mut learned = Learned::default();
    let news = (0..3000).filter(|port| learned.saw(&parties(*port, Some(7), "/bin/x")));
    assert_eq!(news.count(), 1025, "the first that finds no room is news");
    assert!(learned.is_full());
    assert!(learned.saw(&parties(80, Some(8), "/bin/y")));
}
