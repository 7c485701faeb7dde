use std::path::PathBuf;
use std::time::Duration;

use ipreconnect::core::balance::Policy;
use ipreconnect::core::origin::Check;
use proptest::prelude::*;

use super::environment::Environment;
use super::expand::{ExpandError, expand};
use super::files::files_of;
use super::load::{Loaded, load};
use super::value::duration;
use super::*;

mod access;
mod changes;
mod http;
mod mistakes;
mod tls;

/// An environment of the test's own.
fn environment() -> Environment {
    Environment {
        variable: Box::new(|name| match name {
            "HOME" => Some("/home/me".to_owned()),
            "PORT" => Some("7000".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }),
        cores: 4,
        permissions: Permissions::Strict,
    }
}

/// Files of a directory, as `name` and text.
fn directory(files: &[(&str, &str)]) -> (tempfile::TempDir, Result<Loaded, Mistakes>) {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    let loaded = load(Some(directory.path()), &environment());
    (directory, loaded)
}

fn read(text: &str) -> Result<Loaded, Mistakes> {
    directory(&[("c.toml", text)]).1
}

fn plan(text: &str) -> Plan {
    match read(text) {
        Ok(loaded) => loaded.plan,
        Err(mistakes) => panic!("{mistakes}"),
    }
}

const SMALL: &str =
    "[origin.a]\naddress = \"h:1\"\n[[listen]]\naddress = \"127.0.0.1:1\"\norigin = \"a\"\n";

#[test]
fn the_smallest_useful_file_has_the_documented_defaults() {
    let plan = plan(SMALL);
    let origin = &plan.origins["a"];
    assert!(origin.is_required());
    let settings = &origin.settings;
    assert_eq!(settings.balance, Policy::Failover);
    assert_eq!(settings.supervisor.connect_timeout, Duration::from_secs(2));
    assert_eq!(settings.supervisor.interval, Duration::from_secs(5));
    assert_eq!(settings.supervisor.timeout, Duration::from_millis(500));
    assert_eq!(settings.hold.patience, Duration::from_secs(10));
    assert_eq!(settings.hold.clients, 10_000);
    assert_eq!(origin.streams.timeouts.idle, Duration::from_secs(3600));
    assert_eq!(plan.gateway.workers, 4);
    assert_eq!(
        plan.gateway.state_dir,
        PathBuf::from("/home/me/.local/state/ipreconnect")
    );
    assert_eq!(plan.gateway.shutdown, Duration::from_secs(30));
    assert_eq!(plan.listeners["a"].origin, "a");
}

#[test]
fn an_origin_that_speaks_udp_has_udp_listeners_and_no_heartbeat() {
    for speaks in [
        "address = [\"udp://127.0.0.1:1\", \"h:2\"]",
        "address = [\"127.0.0.1:1\", \"h:2\"]\nprotocol = \"udp\"",
    ] {
        let plan = plan(&format!(
            "[[listen]]\naddress = [\"127.0.0.1:53\", \"127.0.0.1:auto\"]\norigin = \"a\"\n\
             [origin.a]\n{speaks}\n\
             [origin.b]\naddress = \"h:3\"\n\
             [[listen]]\naddress = \"127.0.0.1:53\"\norigin = \"b\"\n"
        ));
        let shown: Vec<String> = plan.listeners["a"]
            .addresses
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(shown, ["127.0.0.1:53/udp", "127.0.0.1:0/udp"]);
        let origin = &plan.origins["a"];
        let targets: Vec<String> = origin
            .settings
            .places
            .iter()
            .map(|place| place.target.to_string())
            .collect();
        assert_eq!(targets, ["127.0.0.1:1/udp", "h:2/udp"]);
        assert_eq!(origin.settings.supervisor.check, Check::Off);
        assert_eq!(origin.streams.timeouts.idle, Duration::from_secs(60));
        assert_eq!(plan.listeners["b"].addresses[0].to_string(), "127.0.0.1:53");
    }
}

#[test]
fn everything_that_can_be_written() {
    let plan = plan(
        r#"
        [gateway]
        workers = 3
        state_dir = "state"
        admin = "unix:door.sock"
        shutdown = "1m30s"
        zone = "b"
        [log]
        level = "debug"
        format = "json"
        to = ["stderr"]
        [origin.web]
        address = [{ to = "a:1", zone = "a", weight = 3 }, { to = "b:1", zone = "b" }, { to = "c:1", backup = true, zone = "b" }]
        protocol = "tcp"
        required = false
        feature = "checkout"
        balance = "hash"
        hash_on = "source"
        connect = { timeout = "1s", attempt_delay = "100ms" }
        timeouts = { idle = "2h", stall = "10s" }
        health = { check = "off", interval = "1s", timeout = "100ms", down_after = 3, up_after = 4, on_down = "close", on_return = "close" }
        reconnect = { first = "10ms", factor = 3, max = "1m", jitter = "equal", attempts = 7 }
        hold = { for = "0s", clients = 5, half_close = true }
        [[listen]]
        name = "front"
        address = ["localhost:${PORT}", "127.0.0.1:auto", "unix:front.sock"]
        origin = "web"
        "#,
    );
    let web = &plan.origins["web"];
    let priorities: Vec<u32> = web
        .settings
        .places
        .iter()
        .map(|place| place.priority)
        .collect();
    assert_eq!(priorities, [1, 0, 2]);
    assert_eq!(web.settings.places[0].weight, 3);
    assert!(!web.is_required());
    assert!(web.settings.hold.patience.is_zero());
    assert_eq!(plan.listeners["front"].addresses.len(), 4);
    assert_eq!(
        plan.listeners["front"].addresses[1].to_string(),
        "[::1]:7000"
    );
    assert_eq!(plan.gateway.shutdown, Duration::from_secs(90));
    assert!(plan.gateway.admin.ends_with("state/door.sock"));
}

#[test]
fn entries_of_failover_are_backups_of_each_other_and_others_are_equals() {
    let places = |balance: &str| {
        let text = format!("[origin.a]\naddress = [\"h:1\", \"h:2\"]\nbalance = \"{balance}\"\n");
        let plan = plan(&text);
        plan.origins["a"]
            .settings
            .places
            .iter()
            .map(|p| p.priority)
            .collect::<Vec<_>>()
    };
    assert_eq!(places("failover"), [0, 1]);
    assert_eq!(places("round-robin"), [0, 0]);
}

#[test]
fn files_of_a_directory_are_merged_and_others_are_left_alone() {
    let (directory, loaded) = directory(&[
        ("10-origin.toml", "[origin.a]\naddress = \"h:1\"\n"),
        (
            "20-listen.toml",
            "[[listen]]\naddress = \"127.0.0.1:1\"\norigin = \"a\"\n",
        ),
        ("notes.txt", "not toml"),
    ]);
    let loaded = loaded.unwrap();
    assert_eq!(loaded.plan.listeners.len(), 1);
    assert_eq!(loaded.place.as_deref(), Some(directory.path()));
    assert_eq!(files_of(directory.path()).unwrap().len(), 2);
    assert!(loaded.warnings.is_empty());
}

#[test]
fn warnings_stop_nothing() {
    let text = "[origin.a]\naddress = \"h:1\"\n[[listen]]\naddress = \"127.0.0.1:1\"\norigin = \"a\"\n[origin.b]\naddress = \"h:2\"\n\
                [[listen]]\nname = \"shut\"\naddress = \"127.0.0.1:2\"\norigin = \"a\"\n\
                [[access]]\nlisten = \"a\"\nfrom = \"all\"\nmethod = \"trust\"\n";
    let loaded = read(text).unwrap();
    assert_eq!(loaded.warnings.len(), 2);
    let drawn = loaded.render_warnings(Colour::No);
    assert!(drawn.contains("no listener leads to origin `b`"), "{drawn}");
    assert!(
        drawn.contains("no access rule is for listener `shut`: nobody comes in"),
        "{drawn}"
    );
}

#[test]
fn durations() {
    for (text, millis) in [
        ("250ms", 250),
        ("5s", 5_000),
        ("1.5s", 1_500),
        ("1m30s", 90_000),
        ("1h", 3_600_000),
        ("1d", 86_400_000),
        ("0s", 0),
    ] {
        assert_eq!(
            duration(text),
            Some(Duration::from_millis(millis)),
            "{text}"
        );
    }
    for text in [
        "",
        "5",
        "s",
        "5 parsecs",
        "-1s",
        "1..5s",
        "99999d",
        "1e9s",
        "5ſ",
    ] {
        assert_eq!(duration(text), None, "{text}");
    }
}

#[test]
fn expansion() {
    let lookup = |name: &str| environment().variable.as_ref()(name);
    assert_eq!(expand("a$$b", lookup).unwrap(), "a$b");
    assert_eq!(expand("${PORT}", lookup).unwrap(), "7000");
    assert_eq!(expand("x${NO:-y}z", lookup).unwrap(), "xyz");
    assert_eq!(expand("${EMPTY:-d}", lookup).unwrap(), "d");
    assert_eq!(expand("${EMPTY}", lookup).unwrap(), "");
    assert_eq!(
        expand("${NO}", lookup),
        Err(ExpandError::Undefined("NO".into()))
    );
    assert_eq!(expand("${PORT", lookup), Err(ExpandError::Open));
    assert_eq!(expand("${}", lookup), Err(ExpandError::Name(String::new())));
    assert_eq!(expand("$PORT", lookup), Err(ExpandError::Dollar));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// No text whatsoever makes the reader panic.
    #[test]
    fn no_text_panics(text in "\\PC{0,200}") {
        let _ = read(&text).map_err(|mistakes| mistakes.render(Colour::No));
    }

    /// Neither does a good file with some bytes of it exchanged.
    #[test]
    fn no_damage_panics(at in 0usize..400, with in "[\\[\\]{}=\"'\\n.#,$0-9a-zé]{0,4}", cut in 0usize..8) {
        let mut text = format!("{SMALL}[origin.b]\naddress = [{{ to = \"x:1\", weight = 2 }}]\n[origin.b.health]\ninterval = \"${{PORT:-5s}}\"\n[log]\nlevel = \"info\"\n");
        let at = at % text.len();
        let end = (at + cut).min(text.len());
        text.replace_range(at..end, &with);
        let _ = read(&text).map_err(|mistakes| mistakes.render(Colour::No));
    }
}
