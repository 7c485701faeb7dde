//! Who is told what is wrong.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::desk::{Desk, Mortal, free_address, line_server, one, until};
use crate::servers::{Server, needed};

/// Somebody who is told by HTTP.
#[derive(Clone)]
pub(crate) struct Listener {
    pub(crate) address: SocketAddr,
    heard: Arc<Mutex<Vec<(String, String)>>>,
    is_ill: Arc<AtomicBool>,
}

impl Listener {
    /// Answers 200, or 500 while it is ill.
    pub(crate) fn here() -> Self {
        Self::at(TcpListener::bind("127.0.0.1:0").unwrap(), "200 OK\r\n")
    }

    pub(crate) fn at(listener: TcpListener, answer: &'static str) -> Self {
        let one = Self {
            address: listener.local_addr().unwrap(),
            heard: Arc::default(),
            is_ill: Arc::default(),
        };
        let its = one.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut lines = BufReader::new(stream.try_clone().unwrap());
                let (mut head, mut length) = (String::new(), 0);
                loop {
                    let mut line = String::new();
                    if lines.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
                        break;
                    }
                    let line = line.to_lowercase();
                    if let Some(count) = line.strip_prefix("content-length: ") {
                        length = count.trim().parse().unwrap();
                    }
                    head.push_str(&line);
                }
                let mut body = vec![0; length];
                lines.read_exact(&mut body).unwrap();
                let is_ill = its.is_ill.load(Relaxed);
                if !is_ill {
                    let body = String::from_utf8(body).unwrap();
                    its.heard.lock().unwrap().push((head, body));
                }
                let answer = if is_ill { "500 Not well\r\n" } else { answer };
                let answer =
                    format!("HTTP/1.1 {answer}Content-Length: 0\r\nConnection: close\r\n\r\n");
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        one
    }

    pub(crate) fn heard(&self) -> Vec<(String, String)> {
        self.heard.lock().unwrap().clone()
    }

    /// The kinds of the messages that were heard, of a plain webhook.
    fn kinds(&self) -> Vec<String> {
        let heard = self.heard();
        let kind = |body: &str| -> String {
            let value: Value = serde_json::from_str(body).unwrap();
            value["kind"].as_str().unwrap().to_owned()
        };
        heard.iter().map(|(_, body)| kind(body)).collect()
    }
}

fn told(ways: &str, origin: SocketAddr) -> String {
    format!(
        "[alerts]\nto = [{ways}]\nafter = \"300ms\"\nclear = \"300ms\"\ninstance = \"gate\"\n{}",
        one(origin)
    )
}

#[test]
fn what_is_down_and_up_again_is_told_by_every_way() {
    let [webhook, slack, ntfy] = [Listener::here(), Listener::here(), Listener::here()];
    let mut origin = Mortal::born("one");
    let ways = format!(
        "{{ webhook = \"http://{}/hook\" }}, {{ slack = \"http://{}/T/secret\" }}, {{ ntfy = \"http://{}/ops\" }}, {{ exec = \"notify.sh\" }}",
        webhook.address, slack.address, ntfy.address
    );
    let desk = Desk::with(&told(&ways, origin.address()));
    let script = desk.path("notify.sh");
    let at = desk.path("executed");
    let text = format!(
        "#!/bin/sh\ncat >> {0}\necho \" $IPRECONNECT_ALERT\" >> {0}\n",
        at.display()
    );
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
    let mut desk = desk;
    desk.start();
    desk.wait_for_phase("a", "up");
    origin.kill();
    until("it is told", || webhook.kinds() == ["firing"]);
    let heard: Value = serde_json::from_str(&webhook.heard()[0].1).unwrap();
    assert_eq!(heard["instance"], "gate");
    assert_eq!(heard["severity"], "critical");
    assert_eq!(
        heard["title"],
        "origin a is down: transport: connection refused"
    );
    assert_eq!(heard["items"][0]["kind"], "origin_down");
    assert!(
        heard["items"][0]["advice"]
            .as_str()
            .unwrap()
            .contains("is the server running")
    );
    until("the others are told, too", || {
        slack.heard().len() == 1 && ntfy.heard().len() == 1 && at.exists()
    });
    let text = &slack.heard()[0].1;
    assert!(text.contains(":red_circle: *origin a is down"), "{text}");
    let head = &ntfy.heard()[0].0;
    assert!(
        head.contains("priority: urgent\r\n") && head.contains("title: origin a is down"),
        "{head}"
    );
    origin.revive();
    until("its end is told", || {
        webhook.kinds() == ["firing", "resolved"]
    });
    until("by the command, too", || {
        let said = std::fs::read_to_string(&at).unwrap();
        said.contains(" firing\n") && said.contains(" resolved\n")
    });
    let log = desk.log();
    assert!(!log.contains("secret"), "{log}");
}

#[test]
fn what_cannot_be_delivered_waits_over_a_restart_and_holds_up_nobody() {
    let [ill, well] = [Listener::here(), Listener::here()];
    ill.is_ill.store(true, Relaxed);
    let mut origin = Mortal::born("one");
    let ways = format!(
        "{{ webhook = \"http://{}/\" }}, {{ webhook = \"http://{}/\" }}",
        ill.address, well.address
    );
    let mut desk = Desk::run(&told(&ways, origin.address()));
    desk.wait_for_phase("a", "up");
    origin.kill();
    until("who is well is told", || well.kinds() == ["firing"]);
    until("it is told of who is ill", || {
        desk.log().contains("an alert cannot be delivered")
    });
    assert!(
        desk.log().contains("500 Internal Server Error"),
        "{}",
        desk.log()
    );
    desk.signal("KILL");
    desk.ended();
    origin.revive();
    ill.is_ill.store(false, Relaxed);
    desk.start();
    until("what waited is delivered", || ill.kinds() == ["firing"]);
    assert_eq!(well.kinds(), ["firing"], "nobody is told twice");
}

/// Messages that wait to be delivered, on disk.
fn waiting(desk: &Desk) -> i64 {
    let file = rusqlite::Connection::open(desk.path("state/alerts.db")).unwrap();
    let count = file.query_row("SELECT count(*) FROM message", [], |row| row.get(0));
    count.unwrap_or(-1)
}

#[test]
fn what_was_told_before_a_restart_is_told_to_be_over_after_it() {
    let webhook = Listener::here();
    let mut origin = Mortal::born("one");
    let ways = format!("{{ webhook = \"http://{}/\" }}", webhook.address);
    let mut desk = Desk::run(&told(&ways, origin.address()));
    desk.wait_for_phase("a", "up");
    origin.kill();
    until("it is told", || webhook.kinds() == ["firing"]);
    until("that is noted", || waiting(&desk) == 0);
    desk.signal("KILL");
    desk.ended();
    desk.start();
    desk.wait_for_phase("a", "down");
    origin.revive();
    until("its end is told, and it is not told again", || {
        let kinds = webhook.kinds();
        assert!(
            kinds.iter().filter(|kind| *kind == "firing").count() == 1,
            "{kinds:?}"
        );
        kinds == ["firing", "resolved"]
    });
}

#[test]
fn who_is_new_after_a_restart_is_told_of_what_lasts() {
    let (old, new) = (Listener::here(), Listener::here());
    let mut origin = Mortal::born("one");
    let way = |listener: &Listener| format!("{{ webhook = \"http://{}/\" }}", listener.address);
    let mut desk = Desk::run(&told(&way(&old), origin.address()));
    desk.wait_for_phase("a", "up");
    origin.kill();
    until("it is told", || old.kinds() == ["firing"]);
    desk.signal("KILL");
    desk.ended();
    desk.write(&told(
        &format!("{}, {}", way(&old), way(&new)),
        origin.address(),
    ));
    desk.start();
    until("who is new is told", || new.kinds() == ["firing"]);
}

#[test]
fn redirects_are_not_followed_and_a_test_says_who_would_hear() {
    let inside = Listener::here();
    let place = format!(
        "302 Found\r\nLocation: http://{}/private\r\n",
        inside.address
    );
    let redirects = Listener::at(TcpListener::bind("127.0.0.1:0").unwrap(), place.leak());
    let well = Listener::here();
    let ways = format!(
        "{{ webhook = \"http://{}/\" }}, {{ webhook = \"http://{}/\" }}, {{ exec = \"/nowhere/at/all\" }}",
        redirects.address, well.address
    );
    let desk = Desk::with(&told(&ways, line_server("one")));
    let output = desk.command(&["alerts", "test"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("which is not followed"), "{text}");
    assert!(!text.contains("/private"), "{text}");
    assert!(
        text.contains(&format!("taken  webhook at {}", well.address)),
        "{text}"
    );
    assert!(
        text.contains("not delivered  command /nowhere/at/all"),
        "{text}"
    );
    assert_eq!(well.kinds(), ["test"]);
    assert!(inside.heard().is_empty());
}

#[test]
fn a_changed_configuration_with_errors_is_told_of() {
    let webhook = Listener::here();
    let ways = format!("{{ webhook = \"http://{}/\" }}", webhook.address);
    let text = told(&ways, line_server("one"));
    let desk = Desk::run(&text);
    desk.wait_for_phase("a", "up");
    desk.write(&format!("{text}nonsense = 1\n"));
    assert_eq!(desk.command(&["reload"]).status.code(), Some(2));
    until("it is told", || webhook.kinds() == ["firing"]);
    let (_, body) = &webhook.heard()[0];
    assert!(
        body.contains("configuration_stale") && body.contains("nonsense"),
        "{body}"
    );
    desk.write(&text);
    assert!(desk.command(&["reload"]).status.success());
    until("its end is told", || {
        webhook.kinds() == ["firing", "resolved"]
    });
    // Who is taken out of the configuration hears nothing more.
    desk.write(&one(line_server("one")));
    assert!(desk.command(&["reload"]).status.success());
    assert!(desk.log().contains("alerts changed"), "{}", desk.log());
}

#[test]
fn hooks_are_called_with_the_facts_and_one_that_hangs_hinders_nobody() {
    let webhook = Listener::here();
    let (mut origin, mut other) = (Mortal::born("one"), Mortal::born("other"));
    let hooks = format!(
        "[origin.a.on]\ndown = {{ exec = \"hook.sh\" }}\nup = {{ exec = \"hook.sh\" }}\n\
         [origin.b]\naddress = \"{}\"\n[origin.b.on]\ndown = {{ webhook = \"http://{}/\" }}\nup = {{ exec = \"/nowhere/at/all\" }}\n",
        other.address(),
        webhook.address
    );
    let text = one(origin.address()).replace("[[listen]]", &format!("{hooks}[[listen]]"));
    let mut desk = Desk::with(&text);
    let (script, at) = (desk.path("hook.sh"), desk.path("hooked"));
    let text = format!(
        "#!/bin/sh\ncat >> {0}\necho \" $IPRECONNECT_EVENT $IPRECONNECT_ORIGIN $IPRECONNECT_LAYER\" >> {0}\n[ $IPRECONNECT_EVENT = up ] && sleep 60\n",
        at.display()
    );
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
    desk.start();
    desk.wait_for_phase("a", "up");
    desk.wait_for_phase("b", "up");
    origin.kill();
    let hooked = || std::fs::read_to_string(&at).unwrap_or_default();
    until("the hook is called", || {
        hooked().contains(" down a transport\n")
    });
    assert!(
        hooked().contains("\"cause\":\"connection refused\""),
        "{}",
        hooked()
    );
    origin.revive();
    until("it is called again", || hooked().contains(" up a \n"));
    other.kill();
    until("the other one is called meanwhile", || {
        let heard = webhook.heard();
        heard.iter().any(|(_, body)| {
            body.contains("\"event\":\"down\"") && body.contains("\"origin\":\"b\"")
        })
    });
    other.revive();
    until("one that cannot be called is told of", || {
        desk.log().contains("a hook has failed")
    });
}

#[test]
fn mistakes_are_told_where_they_are() {
    let check = |text: &str| {
        let desk = Desk::with(&format!("[alerts]\n{text}\n"));
        let output = desk.command(&["check"]);
        assert_eq!(output.status.code(), Some(2), "{text}");
        String::from_utf8(output.stderr).unwrap()
    };
    for (text, wanted) in [
        ("to = [{ webhook = \"example.com\" }]", "is no URL"),
        ("to = [{ webhok = \"http://h/\" }]", "must say one way"),
        (
            "to = [{ email = \"nobody\", smtp = \"smtp://h\" }]",
            "is no mail address",
        ),
        ("to = [{ email = \"a@example.com\" }]", "needs `smtp`"),
        (
            "to = [{ slack = { file = \"nowhere\" } }]",
            "cannot be read from",
        ),
        (
            "to = [{ exec = \"a\" }, { exec = \"a\" }]",
            "is there twice",
        ),
        ("after = \"5\"", "is not a duration"),
    ] {
        let said = check(text);
        assert!(said.contains(wanted), "{text}: {said}");
    }
}

#[test]
fn a_mail_server_takes_alerts() {
    let Some(msmtpd) = needed("a_mail_server_takes_alerts", "msmtpd") else {
        return;
    };
    let address = free_address();
    let letters = tempfile::tempdir().unwrap();
    let at = letters.path().join("mail");
    let command = format!("sh -c \"cat >> {}\" %F", at.display());
    let _server = Server::start(
        Command::new(msmtpd)
            .arg(format!("--port={}", address.port()))
            .arg("--interface=127.0.0.1")
            .arg(format!("--command={command}")),
    );
    until("it takes mail", || {
        std::net::TcpStream::connect(address).is_ok()
    });
    let ways = format!(
        "{{ email = \"ops@example.com\", from = \"gate@example.com\", smtp = \"smtp://{address}\" }}"
    );
    let mut origin = Mortal::born("one");
    let desk = Desk::run(&told(&ways, origin.address()));
    desk.wait_for_phase("a", "up");
    origin.kill();
    until("it has come", || {
        let mail = std::fs::read_to_string(&at).unwrap_or_default();
        mail.contains("Subject: [gate] origin a is down") && mail.contains("connection refused")
    });
}

#[test]
fn alertmanager_knows_what_fires_and_that_it_is_over() {
    let Some(program) = needed(
        "alertmanager_knows_what_fires_and_that_it_is_over",
        "prometheus-alertmanager",
    ) else {
        return;
    };
    let address = free_address();
    let directory = tempfile::tempdir().unwrap();
    let configuration = directory.path().join("alertmanager.yml");
    std::fs::write(
        &configuration,
        "route: { receiver: nobody }\nreceivers: [ { name: nobody } ]\n",
    )
    .unwrap();
    let _server = Server::start(
        Command::new(program)
            .arg(format!("--config.file={}", configuration.display()))
            .arg(format!("--storage.path={}", directory.path().display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--cluster.listen-address="),
    );
    until("it answers", || alerts_at(address).is_some());
    let mut origin = Mortal::born("one");
    let ways = format!("{{ alertmanager = \"http://{address}\" }}");
    let desk = Desk::run(&told(&ways, origin.address()));
    desk.wait_for_phase("a", "up");
    origin.kill();
    until("it fires", || {
        let alerts = alerts_at(address).unwrap_or_default();
        alerts.iter().any(|one| {
            one["labels"]["alertname"] == "origin_down"
                && one["labels"]["origin"] == "a"
                && one["status"]["state"] == "active"
        })
    });
    origin.revive();
    until("it is over", || {
        alerts_at(address).is_some_and(|alerts| alerts.is_empty())
    });
}

/// What Alertmanager holds to be wrong.
fn alerts_at(address: SocketAddr) -> Option<Vec<Value>> {
    let mut stream = std::net::TcpStream::connect(address).ok()?;
    let request =
        format!("GET /api/v2/alerts HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let begin = answer.find("\r\n\r\n")?;
    let body = &answer[begin..];
    let json = &body[body.find('[')?..=body.rfind(']')?];
    serde_json::from_str(json).ok()
}
