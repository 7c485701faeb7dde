//! What an operator sees of what passes, and what not.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::alerts::Listener;
use crate::desk::{Desk, PROGRAM, ask, dial, line_server, one, until};
use crate::postgres::Stage;

/// Somebody who looks.
struct Tap {
    child: Child,
    seen: Arc<Mutex<Vec<Value>>>,
}

impl Tap {
    fn open(desk: &Desk, arguments: &[&str]) -> Self {
        let open = desk.log().matches("tap opened").count() + 1;
        let mut child = Command::new(PROGRAM)
            .args(["tap", "--json"])
            .args(arguments)
            .current_dir(desk.directory.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let seen = Arc::<Mutex<Vec<Value>>>::default();
        let (out, its) = (child.stdout.take().unwrap(), Arc::clone(&seen));
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                its.lock()
                    .unwrap()
                    .push(serde_json::from_str(&line).unwrap());
            }
        });
        until("the tap is open", || {
            desk.log().matches("tap opened").count() >= open
        });
        Self { child, seen }
    }

    fn all(&self) -> String {
        let seen = self.seen.lock().unwrap();
        seen.iter().map(|view| format!("{view}\n")).collect()
    }

    fn wait_for(&self, text: &str) {
        until(&format!("{text} is seen"), || self.all().contains(text));
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn streams_are_seen_while_somebody_looks_and_no_longer() {
    let desk = Desk::run(&one(line_server("one")));
    desk.wait_for_phase("a", "up");
    let front = desk.address("a");
    // One that was there before.
    let mut old = dial(front);
    assert_eq!(ask(&mut old, "before\n"), "one before\n");
    let tap = Tap::open(&desk, &["a", "--hex"]);
    until("what passes is seen", || {
        assert_eq!(ask(&mut old, "PING\n"), "one PING\n");
        tap.all().contains("50 49 4e 47 0a")
    });
    tap.wait_for("PING.");
    tap.wait_for("6f 6e 65 20 50 49 4e 47");
    let mut new = dial(front);
    assert_eq!(ask(&mut new, "hello\n"), "one hello\n");
    let client = new.local_addr().unwrap().to_string();
    drop(new);
    until("it is seen to come and to go", || {
        let seen = tap.seen.lock().unwrap();
        let of_it = seen.iter().filter(|view| view["client"] == client.as_str());
        let kinds: Vec<&str> = of_it.map(|view| view["kind"].as_str().unwrap()).collect();
        kinds == ["opened", "bytes", "bytes", "closed"]
    });
    // Bulk is seen too, though it would not be read otherwise.
    let sent = vec![b'x'; 1_000_000];
    let mut bulk = dial(front);
    let reader = std::thread::spawn({
        let mut bulk = bulk.try_clone().unwrap();
        move || {
            let mut count = 0;
            let mut buffer = vec![0; 65_536];
            while let Ok(read @ 1..) = bulk.read(&mut buffer) {
                count += read;
            }
            count
        }
    });
    bulk.write_all(&sent).unwrap();
    bulk.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(reader.join().unwrap() >= sent.len());
    assert_eq!(ask(&mut old, "still\n"), "one still\n");
    drop(tap);
    until("it is told that it is closed", || {
        desk.log().contains("tap closed")
    });
    assert_eq!(ask(&mut old, "after\n"), "one after\n");
}

#[test]
fn only_who_is_asked_for_is_seen_and_bytes_only_when_they_are() {
    let desk = Desk::run(&one(line_server("one")));
    desk.wait_for_phase("a", "up");
    let front = desk.address("a");
    let other = Tap::open(&desk, &["a", "--client", "127.0.0.9"]);
    let tap = Tap::open(&desk, &["a"]);
    until("it is seen", || {
        assert_eq!(ask(&mut dial(front), "hush\n"), "one hush\n");
        tap.all().contains("5 bytes")
    });
    assert!(
        !tap.all().contains("68 75 73 68") && tap.all().contains("--hex"),
        "{}",
        tap.all()
    );
    assert_eq!(other.all(), "");
    // There are not many at once, and not of what there is none.
    let more: Vec<_> = (0..2).map(|_| Tap::open(&desk, &["a"])).collect();
    for (arguments, wanted) in [
        (vec!["tap", "a"], "4 taps are open already"),
        (vec!["tap", "b"], "there is no listener"),
        (vec!["tap", "a", "--client", "me"], "this is no address"),
        (vec!["tap", "a", "--for", "0"], "1 to 3600 seconds"),
    ] {
        let output = desk.command(&arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.code() == Some(2) && said.contains(wanted),
            "{arguments:?}: {said}"
        );
    }
    drop((more, other, tap));
    until("all are closed", || {
        desk.log().matches("tap closed").count() == 4
    });
    let output = desk.command(&["tap", "a", "--for", "1"]);
    assert_eq!(output.status.code(), Some(0), "it ends by itself");
}

#[test]
fn heads_of_requests_are_seen_without_their_secrets() {
    let origin = Listener::here();
    let desk = Desk::run(&format!(
        "[origin.a]\nprotocol = \"http\"\naddress = \"{}\"\npool = {{ warm = 0 }}\n\
         [[listen]]\naddress = \"127.0.0.1:auto\"\norigin = \"a\"\n",
        origin.address
    ));
    desk.wait_for_phase("a", "up");
    let tap = Tap::open(&desk, &["a"]);
    until("a request is seen", || {
        let mut stream = dial(desk.address("a"));
        let request = "GET /x?token=hush HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer hush\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        tap.all().contains("answered")
    });
    let all = tap.all();
    for wanted in [
        "GET /x?token=•••",
        "Bearer •••",
        "HTTP/1.1 200 OK",
        ": 200, 0 bytes, ",
    ] {
        assert!(all.contains(wanted), "{wanted}: {all}");
    }
    assert!(!all.contains("hush"), "{all}");
    // People see the same.
    let child = Command::new(PROGRAM)
        .args(["tap", "a", "--for", "2"])
        .current_dir(desk.directory.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let over = std::thread::spawn(move || child.wait_with_output().unwrap());
    while !over.is_finished() {
        let mut stream = dial(desk.address("a"));
        let _ =
            stream.write_all(b"GET /y HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let _ = stream.read_to_string(&mut String::new());
    }
    let text = String::from_utf8(over.join().unwrap().stdout).unwrap();
    assert!(
        text.contains("→ GET /y HTTP/1.1") && text.contains("← HTTP/1.1 200 OK"),
        "{text}"
    );
}

#[test]
fn messages_of_postgresql_are_seen_without_passwords_and_values() {
    let Some(stage) = Stage::new("messages_of_postgresql_are_seen_without_passwords_and_values")
    else {
        return;
    };
    let desk = Desk::run(&stage.gateway("", ""));
    desk.wait_for_phase("db", "up");
    let front = desk.address("db");
    let tap = Tap::open(&desk, &["db"]);
    until("a query is seen", || {
        let output = stage.ask(front, "user=postgres", "select 'a value' as shown");
        assert!(output.status.success());
        tap.all().contains("Query")
    });
    let output = stage.ask(front, "user=postgres", "alter role bob password 'hush'");
    assert!(output.status.success());
    stage.ask(front, "user=postgres", "select * from nowhere");
    tap.wait_for("ErrorResponse: ERROR 42P01: relation");
    tap.wait_for("alter role bob password '•••'");
    let all = tap.all();
    for wanted in [
        "RowDescription: shown",
        "DataRow (",
        "CommandComplete SELECT 1",
        "ReadyForQuery, idle",
        "Terminate",
    ] {
        assert!(all.contains(wanted), "{wanted}: {all}");
    }
    assert!(!all.contains("hush"), "{all}");
}
