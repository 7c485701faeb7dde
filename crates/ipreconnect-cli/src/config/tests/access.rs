//! Who may come in, as it is written.

use super::*;
use crate::config::mistake::Severity;

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

/// What is told of a configuration beside files, in the words of a warning or a mistake.
fn told_with(files: &[(&str, &str)], text: &str) -> String {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    let path = directory.path().join("c.toml");
    std::fs::write(&path, text).unwrap();
    match load(Some(&path), &environment()) {
        Ok(loaded) => {
            let warnings = loaded.warnings.iter();
            let told = warnings.map(|one| one.render(Severity::Warning, Colour::No));
            told.collect::<Vec<_>>().join("\n")
        }
        Err(mistakes) => mistakes.to_string(),
    }
}

#[test]
fn passwords_that_nobody_asks_for_are_told_of() {
    let verifier = ipreconnect_proxy::verifier(b"x").unwrap();
    let users = format!("ann:{verifier}\n");
    let argon2 = "bob:$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ$xaQIqo7bsHqjbDqvKyZTNA\n";
    let files = [
        ("users", users.as_str()),
        ("argon2", argon2),
        (
            "ldap",
            "host all ann all scram-sha-256\nhost all all all ldap\n",
        ),
        (
            "roles",
            "host all +staff all reject\nhost all all all trust\n",
        ),
        ("wrong", "host all all 10.0.0.0/8\n"),
        ("tls", "hostssl all all all trust\n"),
    ];
    let listen = |address: &str, more: &str| {
        format!(
            "[origin.a]\naddress = \"h:1\"\n[[listen]]\naddress = \"{address}\"\norigin = \"a\"\n{more}\n"
        )
    };
    let scram = "[[access]]\nfrom = \"all\"\nmethod = \"scram-sha-256\"\n";
    let postgres = "mode = \"postgres\"\n";
    for (address, more, expected) in [
        (
            "127.0.0.1:1",
            "mode = \"http\"\nusers = \"users\"\n".to_owned(),
            "no rule asks for their passwords",
        ),
        (
            "127.0.0.1:1",
            format!("{postgres}users = \"argon2\"\n{scram}"),
            "1 users of listener `a` have a hash by Argon2",
        ),
        (
            "127.0.0.1:1",
            format!(
                "{postgres}users = \"users\"\n{}",
                scram.replace("scram-sha-256", "password")
            ),
            "takes no password in clear text",
        ),
        (
            "0.0.0.0:1",
            format!("public = true\nmode = \"http\"\nusers = \"users\"\n{scram}"),
            "show their passwords in the clear",
        ),
        (
            "127.0.0.1:1",
            format!("{postgres}users = \"users\"\nhba = \"ldap\"\n"),
            "nobody asks by `ldap` here",
        ),
        (
            "127.0.0.1:1",
            format!("{postgres}hba = \"roles\"\n"),
            "ldap:1: who belongs",
        ),
        (
            "127.0.0.1:1",
            format!("{postgres}hba = \"wrong\"\n"),
            "end-of-line before authentication method",
        ),
        (
            "127.0.0.1:1",
            format!("{postgres}hba = \"tls\"\n"),
            "hostssl record cannot match because SSL is disabled",
        ),
        (
            "127.0.0.1:1",
            format!("{postgres}hba = \"nowhere\"\n"),
            "No such file or directory",
        ),
        (
            "127.0.0.1:1",
            "hba = \"tls\"\n".to_owned(),
            "`listen.hba` is of no use",
        ),
        (
            "127.0.0.1:1",
            format!("{postgres}ident = \"users\"\n"),
            "missing entry at end of line",
        ),
        (
            "127.0.0.1:1",
            format!("mode = \"http\"\n{scram}"),
            "listener `a` knows no passwords",
        ),
        (
            "127.0.0.1:1",
            format!(
                "mode = \"http\"\nusers = \"users\"\n[[access]]\nfrom = \"all\"\nuser = \"ann\"\nmethod = \"trust\"\n{scram}"
            ),
            "nobody says here who he is, and this method does not prove it",
        ),
        (
            "127.0.0.1:1",
            "[[access]]\nfrom = [\"loopbak\", \"db\"]\nmethod = \"trust\"\n".to_owned(),
            "\"loopbak\" is taken for the name of a host",
        ),
        (
            "unix:@name",
            "unix = { mode = \"0600\" }\n".to_owned(),
            "is for the files of Unix sockets",
        ),
        (
            "127.0.0.1:1",
            "on_conflict = \"refuse\"\n".to_owned(),
            "is for a port `auto`",
        ),
    ] {
        let told = told_with(&files, &listen(address, &more));
        let expected = expected.replace("ldap:1", "roles:1");
        assert!(told.contains(&expected), "{more}: {told}");
    }
    let fine = listen(
        "127.0.0.1:1",
        &format!("{postgres}users = \"users\"\n{scram}"),
    );
    assert_eq!(told_with(&files, &fine), "");
}

#[test]
fn it_is_told_who_asks_for_passwords() {
    let plan = plan(
        "[origin.a]\naddress = \"h:1\"\n[[listen]]\naddress = \"127.0.0.1:1\"\norigin = \"a\"\nmode = \"postgres\"\n\
         [[access]]\nfrom = \"10.0.0.0/8\"\nuser = \"eve\"\nmethod = \"reject\"\n\
         [[access]]\nfrom = \"all\"\nmethod = \"scram-sha-256\"\n",
    );
    let shown = show(&plan).text();
    assert!(
        shown.contains("  refused: from 10.0.0.0/8 user eve "),
        "{shown}"
    );
    assert!(
        shown.contains("asked for the password by the server behind\n"),
        "{shown}"
    );
}
