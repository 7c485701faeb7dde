//! Bad input and bad luck.

use std::io::{Read, Write};
use std::process::Command;
use std::time::Duration;

use ipreconnect_lab::namespace::skipped;

use crate::desk::{
    Desk, PROGRAM, ask, dial, find, free_address, line_server, of, one, read, until,
};

#[test]
fn an_address_in_use_names_its_holder() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let front = taken.local_addr().unwrap().to_string();
    let desk = Desk::with(&one("127.0.0.1:1").replace("127.0.0.1:auto", &front));
    let output = desk.command(&["run"]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    let me = format!("(pid {}, user ", std::process::id());
    assert!(
        text.contains("it is held by") && text.contains(&me),
        "{text}"
    );
}

#[test]
fn a_port_that_a_connection_was_given_names_its_user() {
    let connection = std::net::TcpStream::connect(line_server("x")).unwrap();
    let front = connection.local_addr().unwrap().to_string();
    let desk = Desk::with(&one("127.0.0.1:1").replace("127.0.0.1:auto", &front));
    let output = desk.command(&["run"]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    let me = format!("(pid {}, user ", std::process::id());
    assert!(
        text.contains("has given this port to a connection of") && text.contains(&me),
        "{text}"
    );
}

#[test]
fn a_second_gateway_is_refused_by_state_and_by_port() {
    let first =
        Desk::run(&one(line_server("x")).replace("127.0.0.1:auto", &free_address().to_string()));
    let second = first.command(&["run"]);
    let text = String::from_utf8(second.stderr).unwrap();
    assert_eq!(second.status.code(), Some(2));
    assert!(
        text.contains(&format!("another gateway (pid {})", first.pid())),
        "{text}"
    );

    let configuration = std::fs::read_to_string(first.path("ipreconnect.toml")).unwrap();
    std::fs::write(
        first.path("other.toml"),
        configuration.replace("\"state\"", "\"elsewhere\""),
    )
    .unwrap();
    let third = first.command(&["run", "--config", "other.toml"]);
    let text = String::from_utf8(third.stderr).unwrap();
    assert_eq!(third.status.code(), Some(2));
    assert!(
        text.contains(&format!("held by ipreconnect (pid {}", first.pid())),
        "{text}"
    );
}

#[test]
fn a_killed_gateway_leaves_nothing_that_stops_the_next() {
    let mut desk = Desk::run(&format!(
        "[origin.a]\naddress = \"{}\"\n[[listen]]\naddress = \"unix:front.sock\"\norigin = \"a\"\n",
        line_server("x")
    ));
    desk.signal("KILL");
    desk.ended();
    assert!(desk.path("front.sock").exists());
    desk.start();
    let mut stream = std::os::unix::net::UnixStream::connect(desk.path("front.sock")).unwrap();
    stream.write_all(b"hello\n").unwrap();
    let mut answer = [0; 8];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"x hello\n");
    desk.signal("TERM");
    assert_eq!(desk.ended(), Some(0));
    assert!(!desk.path("front.sock").exists());
}

#[test]
fn a_stopped_gateway_goes_on_as_if_nothing_had_happened() {
    let desk = Desk::run(&of(&[line_server("x"), line_server("y")]));
    desk.wait_for_phase("a", "up");
    let front = desk.address("a");
    let mut stream = dial(front);
    for _ in 0..50 {
        assert_eq!(ask(&mut dial(front), "warm\n"), "x warm\n");
    }
    assert_eq!(ask(&mut stream, "one\n"), "x one\n");
    desk.signal("STOP");
    let mut waiting = dial(front);
    waiting.write_all(b"sent meanwhile\n").unwrap();
    stream.write_all(b"two\n").unwrap();
    // The fault itself: ten seconds without a turn.
    std::thread::sleep(Duration::from_secs(10));
    desk.signal("CONT");
    assert_eq!(read(&mut stream), "x two\n");
    assert_eq!(read(&mut waiting), "x sent meanwhile\n");
    for _ in 0..20 {
        assert_eq!(ask(&mut dial(front), "after\n"), "x after\n");
    }
    assert_eq!(desk.origin("a")["phase"], "up");
    assert!(!desk.log().contains("endpoint down"), "{}", desk.log());
}

#[test]
fn without_descriptors_accepting_pauses_and_nobody_is_dropped() {
    let mut desk = Desk::with(&one(line_server("x")));
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -n 192; exec {PROGRAM} run")]);
    desk.start_by(&mut command);
    desk.wait_for_phase("a", "up");
    let front = desk.address("a");
    let mut inside: Vec<_> = (0..32).map(|_| dial(front)).collect();
    for stream in &mut inside {
        assert_eq!(ask(stream, "in\n"), "x in\n");
    }
    let mut outside: Vec<_> = (0..20).map(|_| dial(front)).collect();
    for stream in &mut outside {
        stream.write_all(b"out\n").unwrap();
    }
    until("the pause is told", || {
        desk.log().contains("accepting pauses")
    });
    for stream in &mut inside {
        assert_eq!(ask(stream, "still\n"), "x still\n");
    }
    drop(inside);
    for stream in &mut outside {
        assert_eq!(read(stream), "x out\n");
    }
    assert_eq!(
        desk.log().matches("accepting pauses").count(),
        1,
        "{}",
        desk.log()
    );
}

#[test]
fn a_name_that_does_not_resolve_is_told_and_heals() {
    let address = line_server("x");
    let may = Command::new("unshare").args(["-m", "true"]).status();
    if find("unshare").is_none() || !may.is_ok_and(|status| status.success()) {
        skipped(
            "a_name_that_does_not_resolve_is_told_and_heals",
            "it needs root and unshare",
        );
        return;
    }
    // A name leads to this machine only where that is declared.
    let policy = "[origin.a.connect]\nallow_ips = [\"127.0.0.0/8\"]\n";
    let origin = one(format!("nowhere.test:{}", address.port()));
    let mut desk = Desk::with(&origin.replace("[[listen]]", &format!("{policy}[[listen]]")));
    std::fs::write(desk.path("hosts"), "127.0.0.1 localhost\n").unwrap();
    let script = format!("mount --bind hosts /etc/hosts && exec {PROGRAM} run");
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", &script]);
    desk.start_by(&mut command);
    desk.wait_for_phase("a", "down");
    assert_eq!(desk.origin("a")["failure"]["layer"], "dns");
    let mut held = dial(desk.address("a"));
    held.write_all(b"hello\n").unwrap();
    desk.wait_for_held("a", 1);
    // The name appears: the file is changed in place, since it is bound by its inode.
    std::fs::write(desk.path("hosts"), "127.0.0.1 localhost nowhere.test\n").unwrap();
    assert_eq!(read(&mut held), "x hello\n");
    desk.wait_for_phase("a", "up");
}

#[test]
fn a_drain_lets_streams_finish_and_takes_nobody_in() {
    let mut desk = Desk::run(&one(line_server("x")));
    let front = desk.address("a");
    let mut stream = dial(front);
    assert_eq!(ask(&mut stream, "one\n"), "x one\n");
    desk.signal("TERM");
    until("the door is closed", || {
        std::net::TcpStream::connect(front).is_err()
    });
    assert_eq!(ask(&mut stream, "two\n"), "x two\n");
    drop(stream);
    assert_eq!(desk.ended(), Some(0));
}

#[test]
fn a_flood_of_connections_disturbs_nobody() {
    let desk = Desk::run(&one(line_server("x")));
    desk.wait_for_phase("a", "up");
    let front = desk.address("a");
    let mut steady = dial(front);
    let flood = std::thread::spawn(move || {
        for _ in 0..2_000 {
            drop(dial(front));
        }
    });
    while !flood.is_finished() {
        assert_eq!(ask(&mut steady, "steady\n"), "x steady\n");
    }
    flood.join().unwrap();
    assert_eq!(desk.origin("a")["phase"], "up");
}
