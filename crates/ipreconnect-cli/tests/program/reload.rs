//! Reload: what did not change is not touched.

use std::process::Command;

use crate::desk::{Desk, PROGRAM, ask, dial, free_address, line_server, one, read, serve, until};

#[test]
fn streams_and_held_clients_survive_a_reload() {
    let (kept, away) = (line_server("kept"), free_address());
    let both = |more: &str| {
        format!(
            "[origin.kept]\naddress = \"{kept}\"\n[[listen]]\naddress = \"127.0.0.1:auto\"\norigin = \"kept\"\n\
             [origin.away]\naddress = \"{away}\"\n[origin.away.hold]\nfor = \"1m\"\n[[listen]]\naddress = \"127.0.0.1:auto\"\norigin = \"away\"\n{more}"
        )
    };
    let desk = Desk::run(&both(""));
    let (front, door) = (desk.address("kept"), desk.address("away"));
    let mut stream = dial(front);
    assert_eq!(ask(&mut stream, "one\n"), "kept one\n");
    let mut held = dial(door);
    std::io::Write::write_all(&mut held, b"waiting\n").unwrap();
    desk.wait_for_held("away", 1);

    desk.write(&both(&format!("[origin.new]\naddress = \"{kept}\"\n[[listen]]\naddress = \"127.0.0.1:auto\"\norigin = \"new\"\n")));
    let output = desk.command(&["reload"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let told = text.contains("origin \"new\" added");
    assert!(output.status.success() && told, "{text}");
    until("the new listener is there", || {
        desk.status()["listeners"]["listeners"]
            .as_array()
            .unwrap()
            .len()
            == 3
    });
    assert_eq!(ask(&mut dial(desk.address("new")), "hi\n"), "kept hi\n");
    assert_eq!(desk.address("kept"), front);
    assert_eq!(ask(&mut stream, "two\n"), "kept two\n");
    assert_eq!(desk.origin("away")["waiting"], 1);

    serve(std::net::TcpListener::bind(away).unwrap(), "back");
    assert_eq!(read(&mut held), "back waiting\n");
}

/// Files are replaced by rename, written in place, and missing for a while.
#[test]
fn the_watch_takes_what_changed() {
    let (x, y) = (line_server("x"), line_server("y"));
    let mut desk = Desk::with(&one(x));
    desk.start_by(Command::new(PROGRAM).args(["run", "--watch"]));
    let front = desk.address("a");
    let leads_to = |name: &str| {
        until(&format!("it leads to {name}"), || {
            ask(&mut dial(front), "hello\n") == format!("{name} hello\n")
        });
    };
    leads_to("x");
    desk.write(&one(y));
    leads_to("y");

    let file = desk.path("ipreconnect.toml");
    std::fs::remove_file(&file).unwrap();
    until("it is missed", || desk.log().contains("cannot read"));
    leads_to("y");
    let text = format!("[gateway]\nstate_dir = \"state\"\n{}", one(x));
    std::fs::write(&file, text).unwrap();
    leads_to("x");
    assert_eq!(desk.address("a"), front);
}

#[test]
fn a_file_with_an_error_changes_nothing() {
    let address = line_server("x");
    let desk = Desk::run(&one(address));
    let front = desk.address("a");
    desk.write("[origin.a]\nadress = 1\n");
    // A mistake does not hide the gateway from those who ask for it.
    assert_eq!(desk.command(&["status"]).status.code(), Some(0));
    let output = desk.command(&["reload"]);
    assert_eq!(output.status.code(), Some(2));
    let told =
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("everything stays as it was"), "{told}");
    desk.signal("HUP");
    until("the error is in the log", || {
        desk.log().contains("not reloaded after SIGHUP")
    });
    assert_eq!(ask(&mut dial(front), "hello\n"), "x hello\n");
    assert!(desk.log().contains("did you mean `address`?"));
    desk.write(&one(address));
    assert_eq!(desk.command(&["reload"]).status.code(), Some(0));
}

#[test]
fn a_listener_that_cannot_be_opened_leaves_everything_as_it_was() {
    let address = line_server("x");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let desk = Desk::run(&one(address));
    let front = desk.address("a");
    let more = format!(
        "{}[origin.b]\naddress = \"{address}\"\n[[listen]]\naddress = \"{}\"\norigin = \"b\"\n",
        one(address),
        taken.local_addr().unwrap()
    );
    desk.write(&more);
    let output = desk.command(&["reload"]);
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains(&format!("(pid {}, ", std::process::id())),
        "{text}"
    );
    let names: Vec<_> = desk.status()["origins"]
        .as_array()
        .unwrap()
        .iter()
        .map(|o| o["name"].clone())
        .collect();
    assert_eq!(names, ["a"]);
    assert_eq!(ask(&mut dial(front), "hello\n"), "x hello\n");
}

#[test]
fn a_moved_listener_and_a_changed_origin() {
    let (x, y) = (line_server("x"), line_server("y"));
    let desk = Desk::run(&one(x));
    let mut stream = dial(desk.address("a"));
    assert_eq!(ask(&mut stream, "one\n"), "x one\n");
    let front = free_address();
    desk.write(&one(y).replace("127.0.0.1:auto", &front.to_string()));
    desk.signal("HUP");
    until("it has moved", || desk.address("a") == front);
    until("the origin has changed", || {
        ask(&mut dial(front), "two\n") == "y two\n"
    });
    // The stream belongs to the endpoint it was opened to.
    assert_eq!(ask(&mut stream, "three\n"), "x three\n");
}
