use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;

/// Files by their paths.
#[derive(Default)]
struct Shelf(BTreeMap<PathBuf, String>);

impl Files for Shelf {
    fn read(&mut self, path: &Path) -> Result<Option<Vec<u8>>, String> {
        Ok(self.0.get(path).map(|text| text.clone().into_bytes()))
    }

    fn list(&mut self, path: &Path) -> Result<Vec<PathBuf>, String> {
        let files = self.0.keys().filter(|file| file.parent() == Some(path));
        Ok(files.cloned().collect())
    }
}

fn shelf(files: &[(&str, &str)]) -> Shelf {
    let files = files
        .iter()
        .map(|(path, text)| (PathBuf::from(path), (*text).to_owned()));
    Shelf(files.collect())
}

fn hba(text: &str) -> Result<Vec<Rule>, Vec<Mistake>> {
    read_hba(Path::new("/etc/hba"), &mut shelf(&[("/etc/hba", text)]))
}

fn rules(text: &str) -> Rules {
    Rules::new(hba(text).unwrap(), Names::Said)
}

/// A world that is known.
struct Known {
    host: Host<'static>,
}

impl World for Known {
    fn is_own_address(&self, address: IpAddr) -> bool {
        address.is_loopback()
    }

    fn is_own_network(&self, address: IpAddr) -> bool {
        matches!(address, IpAddr::V4(address) if address.octets()[0] == 10)
    }

    fn is_member(&self, user: &[u8], role: &str) -> bool {
        user == role.as_bytes() || (user == b"ann" && role == "staff")
    }

    fn proves(&self, _: &Rule, is_meant: &dyn Fn(&[u8]) -> bool) -> bool {
        is_meant(b"proven")
    }

    fn host(&self) -> Host<'_> {
        self.host
    }
}

const WORLD: Known = Known { host: Host::None };

fn visitor<'v>(source: &str, user: &'v str, database: &'v str) -> Visitor<'v> {
    Visitor {
        source: match source {
            "local" => Source::Local,
            address => Source::Ip(address.parse().unwrap()),
        },
        is_tls: false,
        user: Some(user.as_bytes()),
        database: Some(database.as_bytes()),
        is_replication: false,
    }
}

/// The line of the rule that decides; 0 if none does.
fn line(rules: &Rules, visitor: &Visitor<'_>) -> usize {
    match rules.decide(visitor, &WORLD) {
        Verdict::Rule(rule) => rule.place.line,
        Verdict::None => 0,
        Verdict::NeedsHost => panic!("no host is asked for"),
    }
}

#[test]
fn the_first_rule_that_matches_decides() {
    let rules = rules(
        "local all all trust\n\
         # a comment\n\
         host all postgres 0.0.0.0/0 reject\n\
         host sales,\"all\" all 10.0.0.0/8 trust\n\
         host sameuser all 10.0.0.0 255.0.0.0 trust\n\
         host samerole all ::/0 trust\n\
         host all +staff all trust\n\
         host /^app_ \"+staff\" 192.0.2.1/32 trust\n\
         host replication repl samenet trust\n\
         host all all samehost \\\n   trust\n",
    );
    for (source, user, database, wanted) in [
        ("local", "x", "y", 1),
        ("10.1.1.1", "postgres", "sales", 3),
        ("::1", "postgres", "postgres", 6),
        ("10.1.1.1", "bob", "sales", 4),
        ("10.1.1.1", "bob", "all", 4),
        ("10.1.1.1", "bob", "bob", 5),
        ("10.1.1.1", "bob", "other", 0),
        ("2001:db8::1", "ann", "staff", 6),
        ("2001:db8::1", "ann", "other", 7),
        ("192.0.2.1", "staff", "x", 7),
        ("192.0.2.1", "+staff", "app_1", 8),
        ("192.0.2.1", "+staff", "my_app_1", 0),
        ("10.1.1.1", "repl", "replication", 0),
        ("127.0.0.1", "bob", "x", 10),
    ] {
        let visitor = visitor(source, user, database);
        assert_eq!(line(&rules, &visitor), wanted, "{source} {user} {database}");
    }
    let physical = Visitor {
        is_replication: true,
        ..visitor("10.1.1.1", "repl", "")
    };
    assert_eq!(line(&rules, &physical), 9);
    // `all` is not replication.
    let other = Visitor {
        is_replication: true,
        ..visitor("10.1.1.1", "ann", "")
    };
    assert_eq!(line(&rules, &other), 0);
}

#[test]
fn tls_is_asked_for_or_forbidden() {
    let rules = rules(
        "hostgssenc all all all trust\nhostssl a all all trust\nhostnossl b all all trust\nhostnogssenc c all all trust\n",
    );
    for (database, plain, sealed) in [("a", 0, 2), ("b", 3, 0), ("c", 4, 4), ("d", 0, 0)] {
        let plainly = visitor("192.0.2.1", "x", database);
        assert_eq!(line(&rules, &plainly), plain);
        let sealedly = Visitor {
            is_tls: true,
            ..plainly
        };
        assert_eq!(line(&rules, &sealedly), sealed);
    }
}

#[test]
fn hosts_are_looked_up_only_where_it_matters() {
    let rules = rules(
        "host a all 192.0.2.0/24 trust\nhost b all .example.com trust\nhost b all Db.Example.org trust\nhost all all all trust\n",
    );
    let unknown = Known {
        host: Host::Unknown,
    };
    let decided = |database, host| {
        let world = Known { host };
        match rules.decide(&visitor("192.0.2.1", "x", database), &world) {
            Verdict::Rule(rule) => rule.place.line,
            Verdict::None => 0,
            Verdict::NeedsHost => usize::MAX,
        }
    };
    assert!(matches!(unknown.host(), Host::Unknown));
    assert_eq!(decided("a", Host::Unknown), 1);
    assert_eq!(decided("c", Host::Unknown), 4);
    assert_eq!(decided("b", Host::Unknown), usize::MAX);
    assert_eq!(decided("b", Host::None), 4);
    assert_eq!(decided("b", Host::Named("x.EXAMPLE.com")), 2);
    assert_eq!(decided("b", Host::Named("example.com")), 4);
    assert_eq!(decided("b", Host::Named("badexample.com")), 4);
    assert_eq!(decided("b", Host::Named("db.example.org")), 3);
}

#[test]
fn mistakes_are_told_as_postgresql_tells_them() {
    for (text, what, columns) in [
        (
            "hots all all all trust",
            "invalid connection type \"hots\"",
            0..4,
        ),
        (
            "host,local all all all trust",
            "multiple values specified for connection type",
            5..10,
        ),
        ("host", "end-of-line before database specification", 4..4),
        ("host all", "end-of-line before role specification", 8..8),
        (
            "host all all",
            "end-of-line before IP address specification",
            12..12,
        ),
        (
            "host all all 10.0.0.1",
            "end-of-line before netmask specification",
            21..21,
        ),
        (
            "host all all 10.0.0.1 255.0.0.0",
            "end-of-line before authentication method",
            31..31,
        ),
        (
            "host all all 10.0.0.1 ::1 trust",
            "IP address and mask do not match",
            22..25,
        ),
        (
            "host all all 10.0.0.1 trust",
            "invalid IP mask \"trust\": Name or service not known",
            22..27,
        ),
        (
            "host all all 10.0.0.0/33 trust",
            "invalid CIDR mask in address \"10.0.0.0/33\"",
            13..24,
        ),
        (
            "host all all h/8 trust",
            "specifying both host name and CIDR mask is invalid: \"h/8\"",
            13..16,
        ),
        (
            "host all all all truts",
            "invalid authentication method \"truts\"",
            17..22,
        ),
        (
            "host all all all peer",
            "peer authentication is only supported on local sockets",
            17..21,
        ),
        (
            "host all all all cert",
            "cert authentication is only supported on hostssl connections",
            17..21,
        ),
        (
            "host all all all trust map=x",
            "authentication option \"map\" is only valid for authentication methods ident, peer, gssapi, sspi, and cert",
            23..28,
        ),
        (
            "local all all peer map",
            "authentication option not in name=value format: map",
            19..22,
        ),
        (
            "local all all peer x=y",
            "unrecognized authentication option name: \"x\"",
            19..22,
        ),
        (
            "host all all all trust clientcert=verify-ca",
            "clientcert can only be configured for \"hostssl\" rows",
            23..43,
        ),
        (
            "include /nowhere",
            "could not open file \"/nowhere\": No such file or directory",
            8..16,
        ),
        (
            "local @nowhere all trust",
            "could not open file \"/etc/nowhere\": No such file or directory",
            6..14,
        ),
    ] {
        let mistakes = hba(text).unwrap_err();
        let [mistake] = mistakes.as_slice() else {
            panic!("{text}: {mistakes:?}");
        };
        assert_eq!(
            (mistake.what.as_str(), &mistake.columns),
            (what, &columns),
            "{text}"
        );
        assert_eq!(mistake.place.line, 1);
    }
    let mistakes = hba("local /( all trust\n\nlocal all \\\n  all  nobody\n").unwrap_err();
    let places: Vec<_> = mistakes
        .iter()
        .map(|mistake| (mistake.place.line, mistake.columns.clone()))
        .collect();
    assert_eq!(places, [(1, 6..8), (4, 7..13)]);
    assert!(
        mistakes[0]
            .what
            .starts_with("invalid regular expression \"(\": ")
    );
}

#[test]
fn files_name_files() {
    let mut files = shelf(&[
        (
            "/etc/hba",
            "include more/a.conf\ninclude_if_exists none\ninclude_dir dir\nlocal @names @names trust\n",
        ),
        ("/etc/more/a.conf", "local x x trust\ninclude b.conf"),
        ("/etc/more/b.conf", "local y y trust"),
        ("/etc/dir/2.conf", "local two all trust"),
        ("/etc/dir/1.conf", "local one all trust"),
        ("/etc/dir/.3.conf", "nonsense"),
        ("/etc/dir/4.txt", "nonsense"),
        ("/etc/names", "# some\nann \"bob\",carl\n@others"),
        ("/etc/others", "dora"),
    ]);
    let rules = read_hba(Path::new("/etc/hba"), &mut files).unwrap();
    let places: Vec<String> = rules
        .iter()
        .map(|rule| format!("{}:{}", rule.place.file.display(), rule.place.line))
        .collect();
    let wanted = [
        "/etc/more/a.conf:1",
        "/etc/more/b.conf:1",
        "/etc/dir/1.conf:1",
        "/etc/dir/2.conf:1",
        "/etc/hba:4",
    ];
    assert_eq!(places, wanted);
    assert_eq!(
        rules[4].text(),
        "local ann,\"bob\",carl,dora ann,\"bob\",carl,dora trust"
    );
    // One that names itself has an end.
    let mut files = shelf(&[("/a", "include a\ninclude a\n")]);
    let mistakes = read_hba(Path::new("/a"), &mut files).unwrap_err();
    assert!(mistakes[0].what.contains("maximum nesting depth exceeded"));
}

#[test]
fn maps_say_who_may_be_whom() {
    let text = "one ann boss\none /^(.*)@corp$ \\1\none /^x /^y\none root all\none dev +staff\none /^n(.)?$ u\\1\n";
    let mut files = shelf(&[("/i", text)]);
    let maps = read_ident(Path::new("/i"), &mut files).unwrap();
    let is_member = |user: &[u8], role: &str| user == b"ann" && role == "staff";
    for (system, user, may) in [
        ("ann", "boss", true),
        ("ann", "ann", false),
        ("bob@corp", "bob", true),
        ("bob@corp", "ann", false),
        ("all@corp", "ann", false),
        ("xa", "yb", true),
        ("root", "anybody", true),
        ("dev", "ann", true),
        ("dev", "bob", false),
        ("n1", "u1", true),
        ("n", "u", false),
    ] {
        let permitted = maps.permit(Some("one"), system.as_bytes(), user.as_bytes(), &is_member);
        assert_eq!(permitted, may, "{system} {user}");
        assert!(!maps.permit(Some("two"), system.as_bytes(), user.as_bytes(), &is_member));
    }
    assert!(maps.permit(None, b"ann", b"ann", &is_member));
    assert_eq!(maps.name(Some("one"), b"bob@corp"), Some(b"bob".to_vec()));
    assert_eq!(maps.name(Some("one"), b"root"), None);
    for (text, what) in [
        ("one two", "missing entry at end of line"),
        (
            "one /^x \\1",
            "regular expression \"^x\" has no subexpressions as requested by backreference in \"\\1\"",
        ),
        ("one two,three four", "multiple values in ident field"),
    ] {
        let mistakes = read_ident(Path::new("/i"), &mut shelf(&[("/i", text)])).unwrap_err();
        assert_eq!(mistakes[0].what, what);
    }
}

#[test]
fn our_own_words_mean_the_same() {
    let place = Place {
        file: Path::new("/c.toml").into(),
        line: 3,
    };
    let list = |words: &[&str]| {
        words
            .iter()
            .map(|word| (*word).to_owned())
            .collect::<Vec<_>>()
    };
    let read = |from: &[&str], users: &[&str], method: &str| {
        let plain = Plain {
            place: &place,
            from: &list(from),
            users: &list(users),
            databases: &[],
            method,
            map: None,
        };
        super::plain(&plain, &mut shelf(&[("/names", "ann\nbob")]))
            .map(|rules| Rules::new(rules, Names::Said))
    };
    let rules = read(
        &[
            "local",
            "loopback",
            "10.0.0.0 255.0.0.0",
            "192.0.2.1",
            "::ffff:198.51.100.0/120",
            ".example",
        ],
        &["@names", "\"+x\"", "/^dev"],
        "trust",
    )
    .unwrap();
    for (source, user, may) in [
        ("local", "ann", true),
        ("127.9.9.9", "bob", true),
        ("::1", "+x", true),
        ("10.9.9.9", "dev1", true),
        ("192.0.2.1", "ann", true),
        ("198.51.100.7", "ann", true),
        ("198.51.101.7", "ann", false),
        ("192.0.2.2", "ann", false),
        ("local", "carl", false),
    ] {
        assert_eq!(
            line(&rules, &visitor(source, user, "d")) == 3,
            may,
            "{source} {user}"
        );
    }
    for (from, users, method, field) in [
        ("10.0.0.0/99", "ann", "trust", PlainField::From(0)),
        ("10.0.0.0 x", "ann", "trust", PlainField::From(0)),
        ("h 255.0.0.0", "ann", "trust", PlainField::From(0)),
        ("10.1.7.300", "ann", "trust", PlainField::From(0)),
        ("@blocked", "ann", "trust", PlainField::From(0)),
        ("a.example,b.example", "ann", "trust", PlainField::From(0)),
        ("", "ann", "trust", PlainField::From(0)),
        ("all", "@nowhere", "trust", PlainField::User(0)),
        ("all", "two words", "trust", PlainField::User(0)),
        ("all", "ann", "md5", PlainField::Method),
    ] {
        let mistake = read(&[from], &[users], method).map(drop).unwrap_err();
        assert_eq!(mistake.field, field, "{from} {users} {method}: {mistake:?}");
    }
}

fn a_rule() -> impl Strategy<Value = String> {
    let names = "(all|sameuser|samerole|replication|a|b|/\\^a|\"all\"|a,b)";
    let users = "(all|a|b|\\+staff|/b|a,b|ann)";
    let four =
        (0u8..4, 0u8..4, 0u8..=32).prop_map(|(a, b, prefix)| format!("10.{a}.{b}.0/{prefix}"));
    let six = (0u8..4, 0u8..=128).prop_map(|(a, prefix)| format!("2001:db8:{a}::/{prefix}"));
    let address = prop_oneof![
        four,
        six,
        "(all|samehost|samenet|10\\.1\\.0\\.0 255\\.0\\.255\\.0|\\.example)",
    ];
    let kind = "(host|hostssl|hostnossl|hostgssenc)";
    prop_oneof![
        1 => (names, users).prop_map(|(names, users)| format!("local {names} {users} trust")),
        6 => (kind, names, users, address)
            .prop_map(|(kind, names, users, address)| format!("{kind} {names} {users} {address} trust")),
    ]
}

proptest! {
    #[test]
    fn what_is_found_is_the_first_that_matches(
        rules in prop::collection::vec(a_rule(), 0..60),
        (a, b, c, six, is_six) in (0u8..5, 0u8..5, 0u8..3, 0u16..5, any::<bool>()),
        user in "(a|b|ann|staff)",
        database in "(a|b|all|staff)",
        (is_local, is_tls, is_replication, is_named) in any::<(bool, bool, bool, bool)>(),
    ) {
        let rules = self::rules(&rules.join("\n"));
        let address: IpAddr = match is_six {
            true => format!("2001:db8:{six}::{c}").parse().unwrap(),
            false => IpAddr::from([10, a, b, c]),
        };
        let visitor = Visitor {
            source: if is_local { Source::Local } else { Source::Ip(address) },
            is_tls,
            is_replication,
            ..visitor("local", &user, &database)
        };
        let world = Known {
            host: if is_named { Host::Named("x.example") } else { Host::None },
        };
        let found = match rules.decide(&visitor, &world) {
            Verdict::Rule(rule) => Some(rule.place.line),
            _ => None,
        };
        let explained = rules.explain(&visitor, &world).collect::<Vec<_>>();
        let wanted = explained
            .iter()
            .find(|(_, mismatch)| mismatch.is_none())
            .map(|(rule, _)| rule.place.line);
        prop_assert_eq!(found, wanted);
    }

    #[test]
    fn whatever_a_file_says_it_is_read(text in "[a-z0-9 \t\n\r\\\\\"#,@+/.:=()*\\[\\]{}é\0]{0,200}") {
        let _ = hba(&text);
        let mut files = shelf(&[("/i", &text)]);
        let _ = read_ident(Path::new("/i"), &mut files);
    }
}

#[test]
fn who_says_no_name_is_who_is_proven() {
    let text =
        "host all ann all trust\nhost all proven 10.0.0.0/8 trust\nhost all all ::/0 trust\n";
    let rules = Rules::new(hba(text).unwrap(), Names::Proven);
    for (source, wanted) in [("10.1.1.1", 2), ("192.0.2.1", 0), ("::1", 3)] {
        let visitor = Visitor {
            user: None,
            database: None,
            ..visitor(source, "", "")
        };
        assert_eq!(line(&rules, &visitor), wanted, "{source}");
    }
}

#[test]
fn roles_are_known_from_a_file() {
    let read =
        |text: &str| read_roles(Path::new("/etc/roles"), &mut shelf(&[("/etc/roles", text)]));
    let roles = read("staff ann,crew  # who\ncrew bob, staff\n\"a b\" \"c d\"\n").unwrap();
    assert!(roles.is_member(b"ann", "staff"));
    assert!(roles.is_member(b"bob", "staff"), "by way of crew");
    assert!(
        roles.is_member(b"ann", "crew"),
        "roles may belong to each other"
    );
    assert!(roles.is_member(b"c d", "a b"));
    assert!(!roles.is_member(b"eve", "staff"));
    assert!(!roles.is_member(b"\xff", "staff"));
    assert!(
        roles.is_member(b"nobody", "nobody"),
        "each belongs to its own"
    );
    let wrong = |text: &str| {
        let mistakes = read(text).unwrap_err();
        mistakes.into_iter().map(|one| one.what).collect::<Vec<_>>()
    };
    assert_eq!(wrong("staff").len(), 1);
    assert_eq!(wrong("staff ann more").len(), 1);
    assert_eq!(wrong("a,b ann"), ["a line begins with one role"]);
}

#[test]
fn somebody_from_there_may_come_or_nobody() {
    let may = |text: &str, source: &str| {
        let rules = rules(text);
        let visitor = Visitor {
            user: None,
            database: None,
            ..visitor(source, "", "")
        };
        rules.may_admit(&visitor, &WORLD, |method| method != Method::Reject)
    };
    let text = "host all bob 10.0.0.0/8 reject\nhost sales ann 10.0.0.0/8 trust\nhost all all all reject\n";
    assert!(may(text, "10.1.1.1"));
    assert!(!may(text, "11.1.1.1"));
    assert!(!may(text, "local"));
    assert!(!may(
        "host all all 10.0.0.0/8 reject\nhost all all all trust\n",
        "10.1.1.1"
    ));
    assert!(
        may("host all all .example.com trust\n", "192.0.2.1"),
        "its name is not known"
    );
}

#[test]
fn a_rule_knows_its_number() {
    let rules =
        rules("host all all 10.0.0.0/8 trust\nlocal all all trust\nhost all all all reject\n");
    for (number, rule) in rules.all().iter().enumerate() {
        assert_eq!(rules.number(rule), Some(number));
    }
    let other = rules.all()[1].clone();
    assert_eq!(rules.number(&other), None);
}

#[test]
fn expressions_are_for_names_that_are_no_text() {
    let text = "host all /^x.*$ all reject\nhost all all all trust\n";
    for name in [&b"x\xff"[..], b"x\ny", b"x"] {
        let visitor = Visitor {
            user: Some(name),
            ..visitor("10.1.1.1", "", "d")
        };
        let rules = rules(text);
        let Verdict::Rule(rule) = rules.decide(&visitor, &WORLD) else {
            panic!();
        };
        assert_eq!(rule.method, Method::Reject, "{name:?}");
    }
}
