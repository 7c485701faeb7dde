//! Commands and their exit codes.

use std::process::Command;

use crate::desk::{Desk, PROGRAM, ask, dial, free_address, line_server, one};

#[test]
fn check_tells_what_is_exposed_and_what_is_wrong() {
    let desk = Desk::with(&one("127.0.0.1:1"));
    let output = desk.command(&["check"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(
        text.contains("reached by every user of this machine"),
        "{text}"
    );
    assert!(text.contains("unproven"), "{text}");
    desk.write("[origin.a]\nadress = 1\n");
    for arguments in [&["check"][..], &["check", "--json"], &["run"]] {
        assert_eq!(
            desk.command(arguments).status.code(),
            Some(2),
            "{arguments:?}"
        );
    }
    let json = desk.command(&["check", "--json"]).stdout;
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(json["schema"], 1);
    assert_eq!(json["valid"], false);
}

#[test]
fn status_is_proven_and_its_exit_codes_tell() {
    let nothing = Desk::with(&one("127.0.0.1:1"));
    let output = nothing.command(&["status"]);
    assert_eq!(output.status.code(), Some(3));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.starts_with("error: no gateway answers at "), "{text}");

    let up = Desk::run(&one(line_server("x")));
    up.wait_for_phase("a", "up");
    assert_eq!(up.command(&["status"]).status.code(), Some(0));
    assert_eq!(up.command(&["status", "--wait"]).status.code(), Some(0));
    assert_eq!(up.command(&["status", "nobody"]).status.code(), Some(2));

    let down = Desk::run(&one(free_address()));
    down.wait_for_phase("a", "down");
    assert_eq!(down.command(&["status"]).status.code(), Some(1));
    let text = String::from_utf8(down.command(&["status"]).stdout).unwrap();
    assert!(
        text.contains("why: transport: connection refused; is the server running"),
        "{text}"
    );
}

#[test]
fn run_without_a_file() {
    let mut desk = Desk::with("");
    let (front, back) = (free_address().to_string(), line_server("x").to_string());
    let mut command = Command::new(PROGRAM);
    command.args(["run", "--listen", &front, "--origin", &back]);
    command.env("STATE_DIRECTORY", desk.path("state"));
    desk.start_by(&mut command);
    assert_eq!(
        ask(&mut dial(front.parse().unwrap()), "hello\n"),
        "x hello\n"
    );
    desk.signal("TERM");
    assert_eq!(desk.ended(), Some(0));
}

#[test]
fn generated_texts_are_there() {
    for (arguments, expected) in [
        (&["man"][..], ".TH ipreconnect"),
        (&["man", "--markdown"], "## `ipreconnect run`"),
        (&["completions", "bash"], "_ipreconnect"),
        (&["--help"], "Exit codes"),
    ] {
        let output = Command::new(PROGRAM).args(arguments).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(
            output.status.success() && text.contains(expected),
            "{arguments:?}: {text}"
        );
    }
    let wrong = Command::new(PROGRAM).arg("relaod").output().unwrap();
    assert_eq!(wrong.status.code(), Some(2));
    assert!(
        String::from_utf8(wrong.stderr)
            .unwrap()
            .contains("similar subcommand")
    );
}

#[test]
fn the_demonstration_holds() {
    let output = Command::new(PROGRAM)
        .args(["demo", "--json"])
        .output()
        .unwrap();
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["lost"], 0, "{json}");
    assert_eq!(json["acts"].as_array().unwrap().len(), 7);
}

fn probe(arguments: &[&str]) -> (Option<i32>, String) {
    let home = tempfile::tempdir().unwrap();
    let output = Command::new(PROGRAM)
        .arg("probe")
        .args(arguments)
        .current_dir(home.path())
        .env("NO_COLOR", "1")
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[test]
fn probe_takes_a_connection_apart() {
    let x = line_server("x");
    let (code, text) = probe(&[&x.to_string(), "--json", "--cold", "3", "--warm", "3"]);
    assert_eq!(code, Some(0), "{text}");
    let told: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(told["schema"], 1);
    let one = &told["probes"][0];
    assert_eq!(one["addresses"][0]["won"], true);
    assert_eq!(one["first_byte"]["who"], "client");
    assert_eq!(one["cold"]["failed"], 0);
    assert!(one["warm"]["connect_us"]["median"].as_u64().unwrap() > 0);

    let name = format!("localhost:{}", x.port());
    let (code, text) = probe(&[&name]);
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("system A") && text.contains("won the race"),
        "{text}"
    );

    // A limit that cannot hold, nobody there, and a name that nobody has.
    let (code, text) = probe(&[&x.to_string(), "--slo", "connect=1ns"]);
    assert_eq!(code, Some(1));
    assert!(text.contains("missed"), "{text}");
    let (code, text) = probe(&[&free_address().to_string()]);
    assert_eq!(code, Some(1));
    assert!(text.contains("connection refused"), "{text}");
    let (code, text) = probe(&["nobody.invalid:1"]);
    assert_eq!(code, Some(1));
    assert!(text.contains("no such records"), "{text}");

    for wrong in [
        &["db"][..],
        &["db:1", "--slo", "connect=5"],
        &["db:1", "--slo", "handshake=5s"],
        &["db:1", "--resolver", "dns.example"],
        &["db:1", "--dnssec", "validate"],
    ] {
        assert_eq!(probe(wrong).0, Some(2), "{wrong:?}");
    }
}

/// An origin of the configuration is probed by its own settings, at the configured resolvers.
#[test]
fn probe_knows_the_origins_of_the_configuration() {
    let (x, resolver) = (line_server("x"), free_address());
    let networks = "[origin.a.connect]\nallow_ips = [\"127.0.0.0/8\"]\n";
    let dns = format!("[dns]\nservers = [\"{resolver}\"]\n");
    let origin = one(x).replace("[[listen]]", &format!("{networks}[[listen]]"));
    let desk = Desk::with(&format!("{dns}{origin}"));
    let output = desk.command(&["probe", "a"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success() && text.starts_with(&x.to_string()),
        "{text}"
    );
    let output = desk.command(&["probe", "db.test:1"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains(&format!("{resolver} A")), "{text}");
    assert!(text.contains("Connection refused"), "{text}");
}
