//! What a reload has to do.

use super::*;

fn changes(old: &str, new: &str) -> Vec<String> {
    diff(&plan(old), &plan(new))
        .iter()
        .map(ToString::to_string)
        .collect()
}

const OTHER: &str = "[origin.b]\naddress = \"h:2\"\n";

#[test]
fn nothing_changes_by_itself() {
    assert_eq!(changes(SMALL, SMALL), Vec::<String>::new());
    let spaced = SMALL.replace('\n', "\n\n# a comment\n");
    assert_eq!(changes(SMALL, &spaced), Vec::<String>::new());
}

#[test]
fn each_part_changes_alone() {
    let more = format!("{SMALL}{OTHER}");
    assert_eq!(changes(SMALL, &more), ["origin \"b\" added"]);
    assert_eq!(changes(&more, SMALL), ["origin \"b\" removed"]);
    let slower = SMALL.replace("\"h:1\"", "\"h:1\"\nconnect = { timeout = \"9s\" }");
    assert_eq!(changes(SMALL, &slower), ["origin \"a\" changed"]);
    let moved = SMALL.replace("127.0.0.1:1", "127.0.0.1:2");
    assert_eq!(changes(SMALL, &moved), ["listener \"a\" moved"]);
    let idle = SMALL.replace("\"h:1\"", "\"h:1\"\ntimeouts = { idle = \"9s\" }");
    assert_eq!(
        changes(SMALL, &idle),
        ["origin \"a\" changed", "listener \"a\" rerouted"]
    );
    let named =
        format!("{more}[log]\nlevel = \"warn\"\n[gateway]\nworkers = 9\nshutdown = \"1s\"\n");
    let expected = [
        "log changed",
        "gateway.shutdown changed",
        "gateway.workers changed: it takes effect at the next start",
    ];
    assert_eq!(changes(&more, &named), expected);
}

#[test]
fn a_listener_that_leads_elsewhere_is_rerouted_not_reopened() {
    let old = format!("{SMALL}{OTHER}").replace("[[listen]]", "[[listen]]\nname = \"front\"");
    let new = old.replace("origin = \"a\"", "origin = \"b\"");
    assert_eq!(changes(&old, &new), ["listener \"front\" rerouted"]);
}

#[test]
fn whatever_a_listener_says_takes_effect() {
    let web = "[origin.a]\naddress = \"http://h:1\"\n[origin.b]\naddress = \"http://h:2\"\n\
               [[listen]]\naddress = \"127.0.0.1:1\"\norigin = \"a\"\n";
    for more in [
        "compress = true\n",
        "limits = { rate = \"5/s\" }\n",
        "limits = { body = \"1KiB\" }\n",
        "forwarded = { trust = [\"10.0.0.0/8\"] }\n",
        "[[listen.route]]\npath = \"/x\"\norigin = \"b\"\n",
    ] {
        let new = format!("{web}{more}");
        assert_eq!(changes(web, &new), ["listener \"a\" rerouted"], "{more}");
    }
    let balanced = web.replace("\"http://h:1\"", "[\"http://h:1\"]\nbalance = \"random\"");
    let changed = ["origin \"a\" changed", "listener \"a\" rerouted"];
    assert_eq!(changes(web, &balanced), changed);
    let copied = format!("{web}[[listen.route]]\npath = \"/x\"\norigin = \"a\"\nmirror = \"b\"\n");
    let other = copied.replace("http://h:2\"", "http://h:2\"\nretry.budget = 0.5");
    let changed = ["origin \"b\" changed", "listener \"a\" rerouted"];
    assert_eq!(changes(&copied, &other), changed);
}
