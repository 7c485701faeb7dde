//! Where lines of the log go, and what traces tell of requests.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::alerts::Listener;
use crate::desk::{Desk, Mortal, PROGRAM, dial, free_address, line_server, one, until};

/// All records of logs, or all spans, that a collector was told.
fn told(collector: &Listener, path: &str) -> Vec<Value> {
    let (outer, inner, each) = match path {
        "/v1/logs" => ("resourceLogs", "scopeLogs", "logRecords"),
        _ => ("resourceSpans", "scopeSpans", "spans"),
    };
    let heard = collector.heard();
    let posts = heard.iter().filter(|(head, _)| head.contains(path));
    let mut all = Vec::new();
    for (_, body) in posts {
        let body: Value = serde_json::from_str(body).unwrap();
        let scopes = body[outer][0][inner][0][each].as_array().unwrap();
        all.extend(scopes.iter().cloned());
    }
    all
}

#[test]
fn lines_are_the_same_in_a_file_in_syslog_and_at_a_collector() {
    let collector = Listener::here();
    let mut desk = Desk::with(&format!(
        "[log]\nto = [\"stderr\", \"file\", \"syslog\", \"otlp\"]\nfile = \"lines\"\nsyslog = \"unix:daemon\"\n\
         [otlp]\nurl = \"http://{}\"\nheaders = {{ x-api-key = \"hush\" }}\n{}",
        collector.address,
        one(line_server("one"))
    ));
    let daemon = UnixDatagram::bind(desk.path("daemon")).unwrap();
    daemon
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    desk.start();
    desk.wait_for_phase("a", "up");
    let file = || std::fs::read_to_string(desk.path("lines")).unwrap();
    let up = "origin is up";
    until("it is in the file", || file().contains(up));
    assert!(desk.log().contains(up));
    let mut heard = [0; 4096];
    loop {
        let count = daemon.recv(&mut heard).unwrap();
        let line = String::from_utf8_lossy(&heard[..count]);
        assert!(
            line.starts_with('<') && line.contains(" ipreconnect["),
            "{line}"
        );
        if line.contains(up) {
            break;
        }
    }
    until("it is at the collector", || {
        let records = told(&collector, "/v1/logs");
        records
            .iter()
            .any(|record| record["body"]["stringValue"].as_str().unwrap().contains(up))
    });
    assert!(
        collector
            .heard()
            .iter()
            .all(|(head, _)| head.contains("x-api-key: hush"))
    );
    // One way less, and another format: what is written goes on.
    desk.write(&format!(
        "[log]\nto = \"file\"\nfile = \"lines\"\nformat = \"json\"\n{}",
        one(line_server("two"))
    ));
    assert!(desk.command(&["reload"]).status.success());
    until("lines are in JSON now", || {
        let text = file();
        let last = text.lines().last().unwrap();
        serde_json::from_str::<Value>(last).is_ok_and(|line| line["level"] == "INFO")
    });
    desk.signal("TERM");
    assert_eq!(desk.ended(), Some(0));
    let text = std::fs::read_to_string(desk.path("lines")).unwrap();
    let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(last["message"], "ended", "what was said last is written");
}

#[test]
fn what_is_said_while_lines_are_delivered_is_no_line() {
    let collector = Listener::here();
    let desk = Desk::run(&format!(
        "[log]\nlevel = \"trace\"\nto = \"otlp\"\n[otlp]\nurl = \"http://{}\"\n{}",
        collector.address,
        one(line_server("one"))
    ));
    desk.wait_for_phase("a", "up");
    let said = || told(&collector, "/v1/logs");
    let is_of_a_library = |record: &Value| {
        let text = record["body"]["stringValue"].as_str().unwrap();
        text.contains("idle connection") || text.contains("connecting to")
    };
    // A look of the ledger, every ten seconds, says something at this level: after it others have had their say.
    until("lines are delivered", || said().len() > 5);
    for _ in 0..5 {
        let before = collector.heard().len();
        drop(dial(desk.address("a")));
        until("more is delivered", || collector.heard().len() > before);
    }
    assert!(!said().iter().any(is_of_a_library), "{:?}", said());
}

#[test]
fn a_terminal_that_is_stopped_holds_up_nothing() {
    let mut origin = Mortal::born("one");
    let mut desk = Desk::with(&format!(
        "[log]\nlevel = \"trace\"\n{}",
        one(origin.address())
    ));
    let pipe = desk.path("pipe");
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    // Open at both ends, and nobody reads.
    let reader = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(&pipe)
        .unwrap();
    desk.start_by(Command::new("sh").args(["-c", &format!("exec {PROGRAM} run 2> pipe")]));
    desk.wait_for_phase("a", "up");
    let front = desk.address("a");
    let is_full = || {
        let slot = rustix::event::PollFd::new(&reader, rustix::event::PollFlags::OUT);
        let none = rustix::event::Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        rustix::event::poll(&mut [slot], Some(&none)).unwrap() == 0
    };
    until("nothing more can be written", || {
        let mut client = dial(front);
        let _ = client.write_all(b"x\n");
        is_full()
    });
    let killed = Instant::now();
    origin.kill();
    desk.wait_for_phase("a", "down");
    assert!(
        killed.elapsed() < Duration::from_secs(10),
        "{:?}",
        killed.elapsed()
    );
    origin.revive();
    desk.wait_for_phase("a", "up");
    desk.signal("TERM");
    assert_eq!(desk.ended(), Some(0), "and it ends");
}

#[test]
fn a_log_that_cannot_be_opened_is_said_at_once() {
    let desk = Desk::with(&format!(
        "[log]\nto = \"file\"\nfile = \"none/lines\"\n{}",
        one(line_server("one"))
    ));
    let output = desk.command(&["run"]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("the log cannot be written to") && said.contains("none/lines"),
        "{said}"
    );
    for (text, wanted) in [
        ("[log]\nto = \"file\"\n", "needs `file`"),
        ("[log]\nfile = \"x\"\n", "add \"file\" to `to`"),
        ("[log]\nto = \"otlp\"\n", "add [otlp]"),
        ("[log]\nto = [\"stderr\", \"stderr\"]\n", "is there twice"),
        (
            "[log]\nto = \"syslog\"\nsyslog = \"host:514\"\n",
            "is no place of a syslog daemon",
        ),
        ("[otlp]\ntraces = true\n", "needs `url`"),
        ("[otlp]\nurl = \"collector\"\n", "is no URL"),
        (
            "[otlp]\nurl = \"http://h\"\nsample = 2\n",
            "must be from 0 to 1",
        ),
        (
            "[otlp]\nurl = \"http://h\"\nheaders = { \"a b\" = \"c\" }\n",
            "cannot be a field",
        ),
    ] {
        desk.write(&format!("{text}{}", one("127.0.0.1:1")));
        let output = desk.command(&["check"]);
        let said =
            String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(2), "{text}: {said}");
        assert!(said.contains(wanted), "{text}: {said}");
    }
}

/// Takes one request, and ends in place of an answer.
fn rude() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            if stream.read(&mut [0; 4096]).is_ok_and(|count| count > 0) {
                drop(listener);
                return;
            }
        }
    });
    address
}

fn traced(collector: &Listener, addresses: &[SocketAddr], more: &str) -> String {
    let addresses: Vec<_> = addresses.iter().map(|one| format!("\"{one}\"")).collect();
    format!(
        "[otlp]\nurl = \"http://{}\"\ntraces = true\nservice = \"shop\"\n{more}\
         [origin.a]\nprotocol = \"http\"\naddress = [{}]\npool = {{ warm = 0 }}\n\
         [[listen]]\naddress = \"127.0.0.1:auto\"\norigin = \"a\"\n",
        collector.address,
        addresses.join(", ")
    )
}

fn get(front: SocketAddr, fields: &str) -> String {
    let mut stream = dial(front);
    let request =
        format!("GET /x?secret=1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{fields}\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

fn attribute<'v>(of: &'v Value, name: &str) -> &'v Value {
    let all = of["attributes"].as_array().unwrap();
    let found = all.iter().find(|one| one["key"] == name);
    found.map_or(&Value::Null, |one| &one["value"])
}

fn events(span: &Value) -> Vec<&str> {
    let events = span["events"].as_array().unwrap();
    events
        .iter()
        .map(|event| event["name"].as_str().unwrap())
        .collect()
}

#[test]
fn one_span_tells_of_a_request_and_the_origin_belongs_under_it() {
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    let (collector, origin) = (Listener::here(), Listener::here());
    let desk = Desk::run(&traced(&collector, &[origin.address], "sample = 0.0\n"));
    desk.wait_for_phase("a", "up");
    let front = desk.address("a");
    let parent = |flags: &str| {
        format!("Traceparent: 00-{TRACE}-00f067aa0ba902b7-{flags}\r\ntracestate: v=1\r\n")
    };
    // Neither those that nobody has begun to trace, nor those that somebody does not want to.
    assert!(get(front, "").starts_with("HTTP/1.1 200"));
    assert!(get(front, &parent("00")).starts_with("HTTP/1.1 200"));
    assert!(get(front, &parent("01")).starts_with("HTTP/1.1 200"));
    until("the span is told", || {
        !told(&collector, "/v1/traces").is_empty()
    });
    let spans = told(&collector, "/v1/traces");
    assert_eq!(spans.len(), 1, "{spans:?}");
    let span = &spans[0];
    assert_eq!(
        (&span["traceId"], &span["parentSpanId"]),
        (&TRACE.into(), &"00f067aa0ba902b7".into())
    );
    assert_eq!(
        (&span["kind"], &span["name"], &span["traceState"]),
        (&2.into(), &"GET".into(), &"v=1".into())
    );
    assert_eq!(
        attribute(span, "http.response.status_code")["intValue"],
        "200"
    );
    assert_eq!(attribute(span, "url.path")["stringValue"], "/x");
    assert_eq!(attribute(span, "ipreconnect.origin")["stringValue"], "a");
    assert!(!span.to_string().contains("secret"));
    let heads: Vec<String> = origin.heard().into_iter().map(|(head, _)| head).collect();
    let asked: Vec<&String> = heads
        .iter()
        .filter(|head| head.starts_with("get /x"))
        .collect();
    assert!(!asked[0].contains("traceparent"));
    assert!(asked[1].contains(&format!("traceparent: 00-{TRACE}-00f067aa0ba902b7-00")));
    let own = format!(
        "traceparent: 00-{TRACE}-{}-01",
        span["spanId"].as_str().unwrap()
    );
    assert!(
        asked[2].contains(&own) && asked[2].matches("traceparent").count() == 1,
        "{}",
        asked[2]
    );
    assert!(asked[2].contains("tracestate: v=1"));
}

#[test]
fn a_span_tells_what_a_request_went_through() {
    let (collector, backup) = (Listener::here(), Listener::here());
    let desk = Desk::run(&traced(&collector, &[rude(), backup.address], ""));
    desk.wait_for_phase("a", "up");
    assert!(get(desk.address("a"), "").starts_with("HTTP/1.1 200"));
    until("the span is told", || {
        !told(&collector, "/v1/traces").is_empty()
    });
    let spans = told(&collector, "/v1/traces");
    let names = events(&spans[0]);
    assert!(
        names.contains(&"retried") && names.contains(&"endpoint changed"),
        "{names:?}"
    );
    let event = &spans[0]["events"][0];
    assert_eq!(attribute(event, "why")["stringValue"], "closed", "{event}");

    let away = free_address();
    let collector = Listener::here();
    let desk = Desk::run(&traced(&collector, &[away], ""));
    desk.wait_for_phase("a", "down");
    let front = desk.address("a");
    let asking = std::thread::spawn(move || get(front, ""));
    desk.wait_for_held("a", 1);
    let _origin = Listener::at(TcpListener::bind(away).unwrap(), "200 OK\r\n");
    assert!(asking.join().unwrap().starts_with("HTTP/1.1 200"));
    until("the span is told", || {
        !told(&collector, "/v1/traces").is_empty()
    });
    let spans = told(&collector, "/v1/traces");
    assert_eq!(events(&spans[0]), ["held"]);
    assert!(
        attribute(&spans[0], "ipreconnect.held_ms")["doubleValue"]
            .as_f64()
            .unwrap()
            > 0.0
    );
    // What waits is told at the end.
    assert!(get(front, "").starts_with("HTTP/1.1 200"));
    let mut desk = desk;
    desk.signal("TERM");
    assert_eq!(desk.ended(), Some(0));
    assert_eq!(told(&collector, "/v1/traces").len(), 2);
}
