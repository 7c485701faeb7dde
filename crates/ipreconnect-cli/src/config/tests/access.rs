//! Who may come in, as it is written.

use super::*;

const LISTEN: &str = "[origin.a]\naddress = \"h:1\"\n[[listen]]\naddress = \"127.0.0.1:1\"\norigin = \"a\"\n\
                      [[listen]]\nname = \"open\"\naddress = \"0.0.0.0:2\"\npublic = true\norigin = \"a\"\n";

fn mistake(rules: &str) -> String {
    let read = read(&format!("{LISTEN}{rules}"));
    read.map(drop).unwrap_err().to_string()
}

#[test]
fn rules_are_for_the_listeners_that_they_name_in_their_order() {
    let plan = plan(&format!(
        "{LISTEN}[[access]]\nlisten = \"open\"\nfrom = \"192.0.2.0/24\"\nmethod = \"reject\"\n\
         [[access]]\nfrom = [\"local\", \"loopback\"]\nuser = [\"app\", \"/^dev\"]\nmethod = \"peer\"\nmap = \"staff\"\n\
         [[access]]\nlisten = [\"open\"]\nfrom = \"all\"\nmethod = \"trust\"\n\
         [access_map]\nstaff = [[\"ann\", \"app\"], [\"/^(.*)@corp$$\", \"\\\\1\"]]\n"
    ));
    let rules = |listener: &str| {
        let rules = plan.listeners[listener].access.rules().iter();
        rules.map(|rule| rule.text().to_owned()).collect::<Vec<_>>()
    };
    let peer = "user app,/^dev database all method peer map=staff";
    let both = [
        format!("from local {peer}"),
        format!("from loopback {peer}"),
        format!("from loopback {peer}"),
    ];
    assert_eq!(rules("a"), both);
    let open = rules("open");
    assert_eq!(
        open[0],
        "from 192.0.2.0/24 user all database all method reject"
    );
    assert_eq!(open[1..4], both);
    assert_eq!(open[4], "from all user all database all method trust");
    let shown = show(&plan).text();
    assert!(
        shown.contains("  comes in: from all user all database all method trust  ("),
        "{shown}"
    );
    assert!(shown.contains("c.toml:20)"), "{shown}");
}

#[test]
fn mistakes_in_rules_are_told_where_they_are() {
    for (rules, what) in [
        (
            "",
            "listener `open` can be reached from other machines, and no access rule lets anybody in from there",
        ),
        (
            "[[access]]\nfrom = \"loopback\"\nmethod = \"trust\"\n",
            "no access rule lets anybody in",
        ),
        (
            "[[access]]\nfrom = \"all\"\nmethod = \"reject\"\n",
            "no access rule lets anybody in",
        ),
        (
            "[[access]]\nfrom = \"all\"\n",
            "an access rule needs `method`",
        ),
        (
            "[[access]]\nmethod = \"trust\"\n",
            "an access rule needs `from`",
        ),
        (
            "[[access]]\nfrom = \"10.0.0.0/33\"\nmethod = \"trust\"\n",
            "12:8: `access.from` cannot be: invalid CIDR mask in address \"10.0.0.0/33\"",
        ),
        (
            "[[access]]\nfrom = [\"all\", \"1.2.3.4 x\"]\nmethod = \"trust\"\n",
            "12:16: `access.from` cannot be: invalid IP mask \"x\"",
        ),
        (
            "[[access]]\nfrom = \"all\"\nmethod = \"truts\"\n",
            "13:10: `access.method` cannot be: \"truts\" is no method",
        ),
        (
            "[[access]]\nfrom = \"all\"\nmethod = \"password\"\n",
            "nobody can say a password at listener `a`",
        ),
        (
            "[[access]]\nfrom = \"all\"\nmethod = \"cert\"\n",
            "no client of listener `a` shows a certificate",
        ),
        (
            "[[access]]\nfrom = \"all\"\nuser = \"x\"\nmethod = \"trust\"\n",
            "nobody says here who he is",
        ),
        (
            "[[access]]\nfrom = \"all\"\ndatabase = \"x\"\nmethod = \"trust\"\n",
            "nobody says at listener `a` which database he wants",
        ),
        (
            "[[access]]\nfrom = \"all\"\nmethod = \"trust\"\nmap = \"x\"\n",
            "only `peer` and `cert` prove a name",
        ),
        (
            "[[access]]\nfrom = \"all\"\nmethod = \"peer\"\nmap = \"x\"\n",
            "there is no map `x`",
        ),
        (
            "[[access]]\nfrom = \"all\"\nuser = \"@nowhere\"\nmethod = \"peer\"\n",
            "could not open file",
        ),
        (
            "[[access]]\nlisten = \"opne\"\nfrom = \"all\"\nmethod = \"trust\"\n",
            "there is no listener `opne`",
        ),
        (
            "[[access]]\nlisten = \"opne\"\nfrom = \"all\"\nmethod = \"trust\"\n",
            "did you mean `open`?",
        ),
        (
            "[[access]]\nfrom = \"all\"\nmethod = \"trust\"\nfrm = 1\n",
            "unknown key `frm`",
        ),
        ("[access_map]\nx = [[\"a\"]]\n", "must be pairs"),
        (
            "[access_map]\nx = [[\"/(\", \"a\"]]\n",
            "invalid regular expression",
        ),
    ] {
        let told = mistake(rules);
        assert!(told.contains(what), "{rules}: {told}");
    }
    let datagrams = "[origin.a]\naddress = \"udp://h:1\"\n[[listen]]\naddress = \"127.0.0.1:1\"\norigin = \"a\"\n\
                     [[access]]\nfrom = \"all\"\nmethod = \"peer\"\n";
    let told = read(datagrams).map(drop).unwrap_err().to_string();
    assert!(told.contains("takes datagrams"), "{told}");
}

#[test]
fn a_changed_rule_is_a_changed_listener() {
    let text = |from: &str| {
        format!("{LISTEN}[[access]]\nfrom = [\"all\", \"{from}\"]\nmethod = \"trust\"\n")
    };
    let changes = diff(&plan(&text("10.0.0.0/8")), &plan(&text("10.0.0.0/9")));
    let changes: Vec<String> = changes.iter().map(ToString::to_string).collect();
    assert_eq!(
        changes,
        ["listener \"a\" rerouted", "listener \"open\" rerouted"]
    );
    let same = plan(&text("::/0"));
    assert_eq!(diff(&same, &same), []);
}
