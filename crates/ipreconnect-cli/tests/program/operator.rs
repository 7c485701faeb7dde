//! What operators see: the ledger, the API, metrics.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::desk::{Desk, Mortal, ask, dial, free_address, line_server, of, one, until};
use crate::servers::{Server, needed};

/// A gateway with its API on TCP; the configuration goes on behind that.
pub(crate) fn with_api(configuration: &str) -> (Desk, SocketAddr) {
    let api = free_address();
    let desk = Desk::run(&format!(
        "admin = [\"unix:admin.sock\", \"{api}\"]\n{configuration}"
    ));
    (desk, api)
}

pub(crate) fn token(desk: &Desk) -> String {
    let token = std::fs::read_to_string(desk.path("state/token")).unwrap();
    token.trim().to_owned()
}

/// What the API says to these lines: the status, and all of the answer.
fn says(api: SocketAddr, lines: &[&str], body: &str) -> (u16, String) {
    let mut stream = dial(api);
    let lines = lines.join("\r\n");
    let length = body.len();
    let request = format!("{lines}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer)
}

fn history(desk: &Desk) -> Value {
    let output = desk.command(&["history", "--json"]);
    serde_json::from_slice(&output.stdout).unwrap()
}

fn losses(desk: &Desk, scope: &str) -> Vec<Value> {
    let history = history(desk);
    let losses = history["losses"].as_array().unwrap();
    let of_scope = losses.iter().filter(|loss| loss["scope"] == scope);
    of_scope.cloned().collect()
}

#[test]
fn a_loss_is_in_the_ledger_with_what_it_cost_and_outlives_a_kill() {
    let mut origin = Mortal::born("one");
    let mut desk = Desk::run(&one(origin.address()));
    desk.wait_for_phase("a", "up");
    let front = desk.address("a");
    assert_eq!(ask(&mut dial(front), "x\n"), "one x\n");
    origin.kill();
    desk.wait_for_phase("a", "down");
    let waiting: Vec<_> = (0..3)
        .map(|_| std::thread::spawn(move || ask(&mut dial(front), "held\n")))
        .collect();
    desk.wait_for_held("a", 3);
    until("the loss is written", || {
        !losses(&desk, "origin").is_empty()
    });
    let lasting = &losses(&desk, "origin")[0];
    assert_eq!(lasting["lasted_ms"], Value::Null);
    assert_eq!(lasting["endpoint"], origin.address().to_string());
    assert_eq!(
        (&lasting["layer"], &lasting["cause"]),
        (&"transport".into(), &"connection refused".into())
    );
    origin.revive();
    for one in waiting {
        assert_eq!(one.join().unwrap(), "one held\n");
    }
    desk.wait_for_phase("a", "up");
    until("its end is written", || {
        losses(&desk, "origin")[0]["lasted_ms"].is_u64()
    });
    let over = &losses(&desk, "origin")[0];
    assert_eq!(over["healed_by"], "the server came back");
    until("those who waited are counted", || {
        losses(&desk, "origin")[0]["held"] == 3
    });

    // A gateway that is killed leaves what it wrote, and the next one goes on after it.
    origin.kill();
    desk.wait_for_phase("a", "down");
    until("the second loss is written", || {
        losses(&desk, "origin").len() == 2
    });
    desk.signal("KILL");
    desk.ended();
    let output = desk.command(&["history"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("down: transport: connection refused\n    lasts"),
        "{text}"
    );
    origin.revive();
    desk.start();
    desk.wait_for_phase("a", "up");
    until("the old loss is closed", || {
        losses(&desk, "origin")[0]["healed_by"] == "its end was not seen: the gateway ended first"
    });
    assert_eq!(losses(&desk, "origin").len(), 2);
    let csv = desk.command(&["history", "a", "--csv"]);
    let csv = String::from_utf8(csv.stdout).unwrap();
    assert!(csv.lines().count() >= 3, "{csv}");
    assert_eq!(desk.command(&["history", "b"]).status.code(), Some(2));
}

#[test]
fn a_backup_that_takes_over_is_in_the_ledger() {
    let mut first = Mortal::born("first");
    let desk = Desk::run(&of(&[first.address(), line_server("second")]));
    desk.wait_for_phase("a", "up");
    first.kill();
    let front = desk.address("a");
    until("the backup answers", || {
        ask(&mut dial(front), "x\n").starts_with("second")
    });
    until("it is written", || {
        losses(&desk, "endpoint")
            .iter()
            .any(|loss| loss["took_over"].is_string())
    });
    let loss = &losses(&desk, "endpoint")[0];
    assert_eq!(loss["endpoint"], first.address().to_string());
    assert!(loss["took_over_ms"].as_u64() < Some(5_000), "{loss}");
    assert!(
        losses(&desk, "origin").is_empty(),
        "clients had another server"
    );
}

#[test]
fn a_ledger_that_is_no_database_is_moved_aside() {
    let desk = Desk::with(&one(line_server("one")));
    std::fs::create_dir(desk.path("state")).unwrap();
    std::fs::write(
        desk.path("state/history.db"),
        "nothing of the kind, but long enough to look at",
    )
    .unwrap();
    let mut desk = desk;
    desk.start();
    desk.wait_for_phase("a", "up");
    until("it is told", || {
        desk.log()
            .contains("the outage ledger was damaged; it was moved aside")
    });
    assert!(history(&desk)["problem"].is_null());
}

#[test]
fn whoever_has_no_token_or_comes_from_elsewhere_gets_nothing() {
    let (desk, api) = with_api(&one(line_server("one")));
    desk.wait_for_phase("a", "up");
    let token = token(&desk);
    let host = format!("Host: {api}");
    let bearer = format!("Authorization: Bearer {token}");
    let get = "GET /v1/origins HTTP/1.1";
    let (status, answer) = says(api, &[get, &host, &bearer], "");
    assert_eq!(status, 200, "{answer}");
    assert!(answer.contains("\"name\":\"a\""), "{answer}");
    for (lines, wanted) in [
        (vec![get, &host], 401),
        (vec![get, &host, "Authorization: Bearer wrong"], 401),
        // A name of somebody else that leads here (DNS rebinding).
        (vec![get, "Host: evil.example", &bearer], 403),
        (
            vec![get, &host, &bearer, "Origin: http://evil.example"],
            403,
        ),
        (vec![get, &host, &bearer, "Sec-Fetch-Site: cross-site"], 403),
        (
            vec!["GET / HTTP/1.1", &host, "Sec-Fetch-Site: cross-site"],
            403,
        ),
        (vec!["POST /v1/reload HTTP/1.1", &host, &bearer], 403),
        (
            vec![
                "POST /v1/reload HTTP/1.1",
                &host,
                &bearer,
                "Content-Type: text/plain",
            ],
            403,
        ),
        (
            vec![
                "POST /v1/reload HTTP/1.1",
                &host,
                &bearer,
                "Content-Type: application/json",
            ],
            200,
        ),
        (vec!["GET /healthz HTTP/1.1", &host], 200),
        (vec!["GET /v1/nothing HTTP/1.1", &host, &bearer], 404),
        (
            vec![
                "DELETE /v1/origins HTTP/1.1",
                &host,
                &bearer,
                "Content-Type: application/json",
            ],
            405,
        ),
    ] {
        let (status, answer) = says(api, &lines, "");
        assert_eq!(status, wanted, "{lines:?}: {answer}");
        if wanted != 200 {
            assert!(!answer.contains("127.0.0.1:auto"), "{answer}");
        }
    }
    assert!(
        !desk.log().contains(&token),
        "it is nowhere but in its file"
    );
    let mode = std::fs::metadata(desk.path("state/token")).unwrap();
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&mode.permissions()) & 0o777,
        0o600
    );

    // The frame of the page says nothing, and whether it is ready is all that strangers learn.
    let (status, answer) = says(api, &["GET / HTTP/1.1", &host], "");
    assert_eq!(status, 200);
    assert!(
        !answer.contains("set-cookie") && !answer.contains("127.0.0.1:"),
        "{answer}"
    );
    assert_eq!(says(api, &["GET /fragment HTTP/1.1", &host], "").0, 401);
    assert_eq!(
        says(api, &["GET /fragment HTTP/1.1", &host, &bearer], "").0,
        200
    );
}

#[test]
fn a_token_that_others_could_read_is_made_anew() {
    let (mut desk, api) = with_api(&one(line_server("one")));
    let before = token(&desk);
    desk.signal("TERM");
    desk.ended();
    desk.start();
    assert_eq!(token(&desk), before);
    desk.signal("TERM");
    desk.ended();
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(desk.path("state/token"), readable).unwrap();
    desk.start();
    assert_ne!(token(&desk), before);
    let lines = [
        "GET /v1/origins HTTP/1.1".to_owned(),
        format!("Host: {api}"),
        format!("Authorization: Bearer {before}"),
    ];
    assert_eq!(says(api, &lines.each_ref().map(String::as_str), "").0, 401);
}

#[test]
fn what_happens_is_told_to_whoever_watches_and_watchers_are_bounded() {
    let mut origin = Mortal::born("one");
    let (desk, api) = with_api(&one(origin.address()));
    desk.wait_for_phase("a", "up");
    let request = format!(
        "GET /v1/events HTTP/1.1\r\nHost: {api}\r\nAuthorization: Bearer {}\r\nAccept: text/event-stream\r\n\r\n",
        token(&desk)
    );
    let watch = || {
        let mut stream = dial(api);
        stream.write_all(request.as_bytes()).unwrap();
        let mut lines = BufReader::new(stream);
        let mut status = String::new();
        lines.read_line(&mut status).unwrap();
        (lines, status)
    };
    let (mut lines, status) = watch();
    assert!(status.contains(" 200 "), "{status}");
    let began = Instant::now();
    origin.kill();
    let told = loop {
        let mut line = String::new();
        assert!(lines.read_line(&mut line).unwrap() > 0);
        if line.contains("origin is down") {
            break line;
        }
    };
    assert!(told.contains("\"level\":\"error\""), "{told}");
    assert!(
        began.elapsed() < Duration::from_secs(15),
        "{:?}",
        began.elapsed()
    );
    let others: Vec<_> = (0..300).map(|_| watch()).collect();
    let refused = others.iter().filter(|(_, status)| status.contains(" 503 "));
    assert_eq!(refused.count(), 300 - 255);
    drop(others);
    until("there is room again", || watch().1.contains(" 200 "));
}

#[test]
fn metrics_are_as_prometheus_wants_them() {
    let (desk, _) = with_api(&format!(
        "{}[origin.web]\naddress = \"http://127.0.0.1:1\"\nrequired = false\n",
        one(line_server("one"))
    ));
    desk.wait_for_phase("a", "up");
    let front = desk.address("a");
    for _ in 0..5 {
        assert_eq!(ask(&mut dial(front), "x\n"), "one x\n");
    }
    // A stream counts when it is over, which may be a moment after its client knows.
    let counted = "ipreconnect_origin_response_seconds_count{origin=\"a\"} 5";
    until("all are counted", || {
        over_socket(&desk, "/metrics").contains(counted)
    });
    let text = over_socket(&desk, "/metrics");
    for line in [
        "ipreconnect_origin_up{origin=\"a\"} 1",
        "ipreconnect_origin_phase{origin=\"web\",phase=\"down\"} ",
        "ipreconnect_listener_accepted_total{listener=\"a\"} 5",
        counted,
        "ipreconnect_origin_response_seconds_bucket{origin=\"a\",le=\"+Inf\"} 5",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    let Some(promtool) = needed("metrics_are_as_prometheus_wants_them", "promtool") else {
        return;
    };
    let mut check = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    check
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let output = check.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned()
        + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.trim().is_empty(), "{said}");
}

/// What the API says on its Unix socket.
fn over_socket(desk: &Desk, path: &str) -> String {
    let socket = desk.path("state/admin.sock");
    let mut stream = std::os::unix::net::UnixStream::connect(socket).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

#[test]
fn prometheus_scrapes_it_with_the_token() {
    let Some(prometheus) = needed("prometheus_scrapes_it_with_the_token", "prometheus") else {
        return;
    };
    let (desk, api) = with_api(&one(line_server("one")));
    desk.wait_for_phase("a", "up");
    let text = format!(
        "global:\n  scrape_interval: 1s\nscrape_configs:\n- job_name: gateway\n  authorization: {{ credentials_file: {} }}\n  \
         static_configs: [ {{ targets: [\"{api}\"] }} ]\n",
        desk.path("state/token").display()
    );
    std::fs::write(desk.path("prometheus.yml"), text).unwrap();
    let address = free_address();
    let _server = Server::start(Command::new(prometheus).args([
        format!("--config.file={}", desk.path("prometheus.yml").display()),
        format!("--storage.tsdb.path={}", desk.path("tsdb").display()),
        format!("--web.listen-address={address}"),
    ]));
    let asked = |query: &str| -> Option<Value> {
        let mut stream = TcpStream::connect(address).ok()?;
        let request =
            format!("GET /api/v1/query?query={query} HTTP/1.0\r\nHost: {address}\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let body: Value = serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()?;
        body["data"]["result"][0]["value"].get(1).cloned()
    };
    until("it is scraped", || asked("up") == Some("1".into()));
    assert_eq!(asked("ipreconnect_origin_up"), Some("1".into()));
}

#[test]
fn whatever_is_asked_is_answered_as_the_description_says() {
    let test = "whatever_is_asked_is_answered_as_the_description_says";
    let Some(schemathesis) = needed(test, "schemathesis") else {
        return;
    };
    let (desk, api) = with_api(&one(line_server("one")));
    desk.wait_for_phase("a", "up");
    // Whether a name or an address is good JSON Schema cannot say; and who sends no JSON is refused before the method
    // is looked at.
    let unsaid = "positive_data_acceptance,unsupported_method";
    let output = Command::new(schemathesis)
        .current_dir(desk.directory.path())
        .arg("run")
        .arg(format!("http://{api}/v1/openapi.json"))
        .arg("-H")
        .arg(format!("Authorization: Bearer {}", token(&desk)))
        .args([
            "-H",
            "Content-Type: application/json",
            "--exclude-checks",
            unsaid,
        ])
        .args([
            "--phases",
            "examples,coverage,fuzzing",
            "--max-examples",
            "20",
            "--seed",
            "7",
            "--no-color",
        ])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("Tested: 20"), "{said}");
    assert!(!desk.log().contains("panicked"), "{}", desk.log());
}

#[test]
fn features_and_readiness_follow_their_origins() {
    let mut origin = Mortal::born("one");
    let text = one(origin.address()).replace("[[listen]]", "feature = \"checkout\"\n[[listen]]");
    let (desk, api) = with_api(&text);
    desk.wait_for_phase("a", "up");
    let feature = || -> Value {
        let text = over_socket(&desk, "/v1/features");
        let json = text
            .split_once('{')
            .map(|(_, rest)| format!("{{{rest}"))
            .unwrap();
        let json = &json[..=json.rfind('}').unwrap()];
        serde_json::from_str::<Value>(json).unwrap()["features"][0].clone()
    };
    assert_eq!(feature()["on"], true);
    let bearer = format!("Authorization: Bearer {}", token(&desk));
    let ready = || {
        let lines = ["GET /readyz HTTP/1.1", &format!("Host: {api}"), &bearer];
        says(api, &lines, "")
    };
    assert_eq!(ready().0, 200);
    origin.kill();
    desk.wait_for_phase("a", "down");
    assert_eq!(feature()["missing"][0], "a");
    let (status, answer) = ready();
    assert_eq!(status, 503);
    assert!(answer.contains("\"missing\":[\"a\"]"), "{answer}");
    let (status, answer) = says(api, &["GET /readyz HTTP/1.1", &format!("Host: {api}")], "");
    assert_eq!(status, 503);
    assert!(
        answer.contains("\"missing\":[]"),
        "strangers learn no names: {answer}"
    );
}

#[test]
fn the_api_is_not_for_other_machines() {
    let desk = Desk::with("admin = \"0.0.0.0:9311\"\n");
    let check = desk.command(&["check"]);
    let said = String::from_utf8(check.stderr).unwrap();
    assert_eq!(check.status.code(), Some(2));
    assert!(
        said.contains("the token would cross the network in the clear"),
        "{said}"
    );
}

#[test]
fn the_api_is_described() {
    let (desk, _) = with_api(&one(line_server("one")));
    let text = over_socket(&desk, "/v1/openapi.json");
    for path in [
        "/v1/origins/{name}/reconnect",
        "/v1/history",
        "/v1/events",
        "/readyz",
    ] {
        assert!(text.contains(path), "{path}");
    }
}

#[test]
fn idle_connections_to_the_api_do_not_hinder_others() {
    let (desk, api) = with_api(&one(line_server("one")));
    let idle: Vec<TcpStream> = (0..200).map(|_| dial(api)).collect();
    assert_eq!(
        says(api, &["GET /healthz HTTP/1.1", &format!("Host: {api}")], "").0,
        200
    );
    assert_eq!(desk.command(&["status"]).status.code(), Some(0));
    drop(idle);
}

#[test]
fn new_work_goes_where_the_operator_wants_it() {
    let (one, other) = (line_server("one"), line_server("other"));
    let (desk, api) = with_api(&of(&[one, other]));
    desk.wait_for_phase("a", "up");
    let front = desk.address("a");
    let mut before = dial(front);
    assert_eq!(ask(&mut before, "x\n"), "one x\n");
    let run = |arguments: &[&str]| {
        let output = desk.command(arguments);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), said)
    };
    let (code, said) = run(&["prefer", "a", &other.to_string()]);
    assert!(code == Some(0) && said.contains("goes to"), "{said}");
    until("it goes there", || {
        ask(&mut dial(front), "x\n") == "other x\n"
    });
    assert_eq!(ask(&mut before, "x\n"), "one x\n", "what is open stays");
    assert_eq!(desk.origin("a")["preferred"], other.to_string());
    let (code, said) = run(&["prefer", "a", "127.0.0.1:1"]);
    assert!(code == Some(1) && said.contains(&one.to_string()), "{said}");
    let (code, said) = run(&["prefer", "b"]);
    assert!(
        code == Some(1) && said.contains("there is no origin"),
        "{said}"
    );
    assert_eq!(run(&["prefer", "a"]).0, Some(0));
    until("it goes where it went", || {
        ask(&mut dial(front), "x\n") == "one x\n"
    });
    let token = format!("Authorization: Bearer {}", token(&desk));
    let lines = [
        "POST /v1/origins/a/prefer HTTP/1.1",
        "Host: localhost",
        &token,
        "Content-Type: application/json",
    ];
    assert_eq!(
        says(api, &lines, "{\"adress\": \"x\"}").0,
        422,
        "a slip is told"
    );
    assert_eq!(run(&["drain", "a"]).0, Some(0));
    desk.wait_for_phase("a", "draining");
    assert_eq!(run(&["reconnect", "a"]).0, Some(0));
    desk.wait_for_phase("a", "up");
}

#[test]
fn anybody_may_see_what_is_up_and_nothing_of_where_or_why() {
    let mut origin = Mortal::born("one");
    let desk = Desk::run(&format!(
        "{}[origin.hidden]\naddress = \"127.0.0.1:1\"\n\
         [[listen]]\naddress = \"127.0.0.1:auto\"\nmode = \"status\"\n\
         [listen.status]\ntitle = \"The <shop>\"\norigins = [\"a\"]\n",
        one(origin.address())
    ));
    desk.wait_for_phase("a", "up");
    let page = desk.address("status");
    let get = |path: &str| {
        says(
            page,
            &[&format!("GET {path} HTTP/1.1"), "Host: localhost"],
            "",
        )
    };
    until("the page is drawn", || {
        get("/").1.contains("Everything is up.")
    });
    let (status, html) = get("/");
    assert_eq!(status, 200);
    assert!(
        html.contains("The &lt;shop&gt;") && html.contains("default-src 'none'"),
        "{html}"
    );
    origin.kill();
    desk.wait_for_phase("a", "down");
    until("it tells of the loss", || {
        get("/").1.contains("1 of 1 down.")
    });
    until("and since when", || get("/").1.contains("is down"));
    let (_, json) = get("/status.json");
    let json: Value = serde_json::from_str(json.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(
        (&json["origins"][0]["state"], &json["losses"][0]["origin"]),
        (&"down".into(), &"a".into())
    );
    let all = get("/").1 + &get("/status.json").1;
    for secret in ["hidden", "127.0.0.1", "refused"] {
        assert!(!all.contains(secret), "{secret}: {all}");
    }
    assert_eq!(get("/status.css").0, 200);
    assert_eq!(get("/v1/origins").0, 404);
    let (status, said) = says(page, &["POST / HTTP/1.1", "Host: localhost"], "x");
    assert!(
        status == 405 && said.contains("Allow: GET, HEAD\r\n"),
        "{said}"
    );
    let (_, head) = says(page, &["HEAD / HTTP/1.1", "Host: localhost"], "");
    assert!(
        head.ends_with("\r\n\r\n") && head.contains("Content-Length: "),
        "{head}"
    );
    // It changes like every other listener, and its clients stay.
    desk.write(&format!(
        "{}[[listen]]\naddress = \"127.0.0.1:auto\"\nmode = \"status\"\n",
        one(origin.address())
    ));
    assert!(desk.command(&["reload"]).status.success());
    until("it has another title", || {
        get("/").1.contains("<h1>Status</h1>")
    });
    let shown = desk.status()["listeners"]["listeners"].to_string();
    assert!(shown.contains("status page"), "{shown}");
    for (text, wanted) in [
        ("mode = \"status\"\norigin = \"a\"\n", "leads nowhere"),
        (
            "mode = \"status\"\n[listen.status]\norigins = [\"b\"]\n",
            "there is no origin `b`",
        ),
        (
            "mode = \"status\"\n[listen.status]\norigins = []\n",
            "names nobody",
        ),
        (
            "mode = \"status\"\ncompress = true\n",
            "has no effect: the listener serves the status page",
        ),
        (
            "origin = \"a\"\n[listen.status]\ntitle = \"x\"\n",
            "add mode = \"status\"",
        ),
    ] {
        let listener = format!("[[listen]]\naddress = \"127.0.0.1:auto\"\n{text}");
        desk.write(&format!(
            "{}{listener}",
            one("127.0.0.1:1").replace("[[listen]]", "[[listen]]\nname = \"x\"")
        ));
        let output = desk.command(&["check"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.code() == Some(2) && said.contains(wanted),
            "{text}: {said}"
        );
    }
}
