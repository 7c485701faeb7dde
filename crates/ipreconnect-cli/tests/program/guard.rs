//! The guard of local ports, before real servers.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Output};

use ipreconnect_lab::namespace::{inside, skipped};
use serde_json::Value;

use crate::desk::{Desk, PROGRAM, dial, free_address, line_server, until};
use crate::servers::{Server, needed};

fn view(desk: &Desk) -> Value {
    let mut socket =
        std::os::unix::net::UnixStream::connect(desk.path("state/admin.sock")).unwrap();
    let asks = "GET /v1/guard HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    socket.write_all(asks.as_bytes()).unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).unwrap();
    serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap()
}

fn port(view: &Value, port: u16) -> Value {
    let ports = view["ports"].as_array().unwrap();
    ports
        .iter()
        .find(|one| one["port"] == port)
        .cloned()
        .unwrap_or_default()
}

fn found(desk: &Desk, kind: &str, port: u16) -> Option<Value> {
    let view = view(desk);
    let findings = view["findings"].as_array().unwrap();
    findings
        .iter()
        .find(|one| one["kind"] == kind && one["port"] == port)
        .cloned()
}

/// Somebody who is not root says a line to a port, and is told the answer.
fn as_nobody(address: SocketAddr, line: &str) -> Output {
    let code = format!(
        "exec 3<>/dev/tcp/{}/{} && echo '{line}' >&3 && timeout 5 head -n 1 <&3",
        address.ip(),
        address.port()
    );
    Command::new("setpriv")
        .args(["--reuid", "65534", "--clear-groups", "bash", "-c", &code])
        .output()
        .unwrap()
}

fn is_root(test: &str) -> bool {
    let is_root = rustix_uid() == 0;
    if !is_root {
        skipped(test, "it needs root");
    }
    is_root
}

fn rustix_uid() -> u32 {
    let output = Command::new("id").arg("-u").output().unwrap();
    String::from_utf8_lossy(&output.stdout)
        .trim()
        .parse()
        .unwrap()
}

fn redis(directory: &Path, address: SocketAddr) -> Server {
    let program = crate::desk::find("redis-server").unwrap();
    let port = address.port().to_string();
    let mut command = Command::new(program);
    command.args([
        "--port",
        &port,
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--dir",
    ]);
    let server = Server::start(command.arg(directory));
    until("redis answers", || TcpStream::connect(address).is_ok());
    server
}

#[test]
fn who_was_seen_while_it_learned_is_allowed_and_nobody_else() {
    let test = "who_was_seen_while_it_learned_is_allowed_and_nobody_else";
    if !is_root(test)
        || needed(test, "redis-server").is_none()
        || needed(test, "redis-cli").is_none()
    {
        return;
    }
    let address = free_address();
    let mut desk = Desk::run(&format!("[guard]\nwatch = [{}]\n", address.port()));
    let _redis = redis(desk.directory.path(), address);
    let port_text = address.port().to_string();
    let mut client = Command::new(crate::desk::find("redis-cli").unwrap())
        .args(["-p", &port_text, "BLPOP", "none", "5"])
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let learned = desk.path("state/guard-learned.toml");
    until("it has learned who comes", || {
        let rules = std::fs::read_to_string(&learned).unwrap_or_default();
        rules.contains("redis-cli") && rules.contains(&port_text)
    });
    client.kill().unwrap();
    client.wait().unwrap();
    assert_eq!(
        view(&desk)["findings"],
        Value::Array(Vec::new()),
        "while it learns nothing is told"
    );
    // What it has learned it knows at the next start.
    desk.signal("TERM");
    assert_eq!(desk.ended(), Some(0));
    let before = std::fs::read_to_string(&learned).unwrap();
    desk.start();
    until("it looks again", || {
        view(&desk)["learned"].as_u64() > Some(0)
    });
    assert_eq!(std::fs::read_to_string(&learned).unwrap(), before);
    // What it has written is configuration.
    let rules = std::fs::read_to_string(&learned).unwrap();
    desk.write(&format!(
        "[guard]\nmode = \"enforce\"\ndefault = \"close\"\nwatch = [{port_text}]\n{rules}"
    ));
    assert!(desk.command(&["reload"]).status.success());
    until("it goes by them", || view(&desk)["mode"] == "enforce");
    let asked = Command::new(crate::desk::find("redis-cli").unwrap())
        .args(["-p", &port_text, "BLPOP", "none", "1"])
        .output()
        .unwrap();
    assert!(asked.status.success(), "{asked:?}");
    let refused = as_nobody(address, "PING");
    assert!(
        !String::from_utf8_lossy(&refused.stdout).contains("PONG"),
        "{refused:?}"
    );
    until("that is told", || {
        let text = desk.command(&["history"]);
        String::from_utf8_lossy(&text.stdout).contains("unknown peer")
    });
    assert!(desk.log().contains("guard: "), "{}", desk.log());
}

#[test]
fn a_rule_that_names_a_user_refuses_the_first_packet_and_goes_with_the_gateway() {
    let test = "guard::a_rule_that_names_a_user_refuses_the_first_packet_and_goes_with_the_gateway";
    if !inside(
        test,
        &[
            ("nft", &["list", "tables"]),
            ("setpriv", &["--version"]),
            ("pgrep", &["--version"]),
        ],
    ) {
        return;
    }
    let address = line_server("one");
    let desk = Desk::run(&format!(
        "[guard]\nmode = \"enforce\"\ndefault = \"allow\"\n\
         [[guard.rule]]\nport = {}\nuser = \"nobody\"\naction = \"close\"\n",
        address.port()
    ));
    until("the rules are in force", || {
        desk.log().contains("at_the_first_packet=true")
    });
    let refused = as_nobody(address, "hello");
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(told.contains("refused"), "{told}");
    // Whom no rule names comes in.
    assert_eq!(
        crate::desk::ask(&mut dial(address), "hello\n"),
        "one hello\n"
    );
    assert_eq!(
        crate::desk::ask(&mut dial(line_server("two")), "x\n"),
        "two x\n"
    );
    until("it is told", || {
        let finding = found(&desk, "rule", address.port()).unwrap_or_default();
        finding["user"] == "nobody" && finding["rule"] == 1
    });
    let tables = || {
        let output = Command::new("nft")
            .args(["list", "tables"])
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let before = tables();
    assert!(before.contains("ipreconnect_"));
    // Whoever ends what holds the rules does not end the guard.
    let nft = Command::new("pgrep")
        .args(["-P", &desk.pid().to_string(), "nft"])
        .output()
        .unwrap();
    let nft: u32 = String::from_utf8_lossy(&nft.stdout).trim().parse().unwrap();
    crate::desk::signal(nft, "KILL");
    until("another table is in force", || {
        let now = tables();
        now.contains("ipreconnect_") && now != before
    });
    let refused = as_nobody(address, "hello");
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(told.contains("refused"), "{told}");
    // However it ends, nobody stays shut out.
    desk.signal("KILL");
    until("its table is gone", || !tables().contains("ipreconnect_"));
    assert_eq!(
        String::from_utf8_lossy(&as_nobody(address, "hello").stdout),
        "one hello\n"
    );
}

#[test]
fn a_rule_that_names_a_program_closes_what_is_open_and_no_other_one() {
    let test = "a_rule_that_names_a_program_closes_what_is_open_and_no_other_one";
    if !is_root(test) {
        return;
    }
    let address = line_server("one");
    let desk = Desk::run(&format!(
        "[guard]\nmode = \"enforce\"\nwatch = [{0}]\n\
         [[guard.rule]]\nport = {0}\nprogram = \"bash\"\naction = \"close\"\n",
        address.port()
    ));
    let mut ours = dial(address);
    assert_eq!(crate::desk::ask(&mut ours, "hello\n"), "one hello\n");
    let code = format!(
        "exec 3<>/dev/tcp/127.0.0.1/{}; timeout 20 cat <&3; echo over",
        address.port()
    );
    let bash = Command::new("bash").args(["-c", &code]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&bash.stdout), "over\n");
    until("it is told", || {
        let finding = found(&desk, "rule", address.port()).unwrap_or_default();
        finding["told"]
            .as_str()
            .is_some_and(|told| told.contains("was closed"))
            && finding["program"]
                .as_str()
                .is_some_and(|program| program.ends_with("bash"))
    });
    // What no rule names is told of, and goes on.
    until("the others are told of", || {
        found(&desk, "unknown peer", address.port()).is_some()
    });
    assert_eq!(crate::desk::ask(&mut ours, "still\n"), "one still\n");
    let counts = port(&view(&desk), address.port());
    assert_eq!(counts["closed"], 1);
}

#[test]
fn what_is_over_between_two_looks_is_counted() {
    let address = line_server("one");
    let desk = Desk::run(&format!("[guard]\nwatch = [{}]\n", address.port()));
    until("it looks", || view(&desk)["looks"].as_u64() > Some(0));
    // It has to know that somebody listens there.
    let mut first = dial(address);
    until("it sees", || {
        port(&view(&desk), address.port())["seen"] == 1
    });
    assert_eq!(crate::desk::ask(&mut first, "x\n"), "one x\n");
    for _ in 0..500 {
        drop(dial(address));
    }
    until("all are counted", || {
        port(&view(&desk), address.port())["seen"] == 501
    });
    assert!(view(&desk)["counts_all"].as_bool().unwrap());
    assert!(
        port(&view(&desk), address.port())["attributed"]
            .as_u64()
            .unwrap()
            >= 1
    );
}

#[test]
fn new_listeners_and_relays_are_told() {
    let test = "guard::new_listeners_and_relays_are_told";
    if !inside(test, &[("ip", &["-V"]), ("python3", &["--version"])]) {
        return;
    }
    // Another machine, which answers as long as it is asked.
    let code = "import socket,sys
listener = socket.create_server(('0.0.0.0', 7000))
print('up', flush=True)
while True:
    client, _ = listener.accept()
    while client.recv(65536):
        client.sendall(b'x' * 65536)";
    let mut far = Command::new("unshare")
        .args(["-n", "python3", "-c", code])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut up = [0; 2];
    far.stdout.as_mut().unwrap().read_exact(&mut up).unwrap();
    let far = Killed(far);
    let pid = far.0.id().to_string();
    let ip = |arguments: &[&str]| ipreconnect_lab::namespace::run("ip", arguments);
    ip(&[
        "link", "add", "near", "type", "veth", "peer", "name", "far", "netns", &pid,
    ]);
    ip(&["addr", "add", "10.9.0.1/24", "dev", "near"]);
    ip(&["link", "set", "near", "up"]);
    let inside_far = |arguments: &[&str]| {
        let mut all = vec!["-t", &pid, "-n", "ip"];
        all.extend(arguments);
        ipreconnect_lab::namespace::run("nsenter", &all);
    };
    inside_far(&["addr", "add", "10.9.0.2/24", "dev", "far"]);
    inside_far(&["link", "set", "far", "up"]);
    let desk = Desk::run("[guard]\nmode = \"enforce\"\ndefault = \"allow\"\n");
    until("it has looked", || view(&desk)["looks"].as_u64() > Some(0));
    // A relay is somebody who listens here and carries what comes to another machine.
    let relay_at = free_address();
    let relay_desk = Desk::with("");
    let _relay = Server::start(
        Command::new(PROGRAM)
            .args([
                "run",
                "--listen",
                &relay_at.to_string(),
                "--origin",
                "10.9.0.2:7000",
            ])
            .current_dir(relay_desk.directory.path())
            .env("XDG_STATE_HOME", relay_desk.directory.path()),
    );
    until("it is told", || {
        found(&desk, "unknown listener", relay_at.port()).is_some()
    });
    assert!(
        desk.log().contains(&format!("listens on {relay_at}")),
        "{}",
        desk.log()
    );
    let mut client = dial(relay_at);
    until("the relay is told", || {
        client.write_all(b"more").unwrap();
        client.read_exact(&mut [0; 65_536]).unwrap();
        found(&desk, "relay", relay_at.port()).is_some()
    });
    let relay = found(&desk, "relay", relay_at.port()).unwrap();
    assert_eq!(relay["peer"], "10.9.0.2:7000");
    assert!(
        relay["program"].as_str().unwrap().ends_with("ipreconnect"),
        "{relay}"
    );
}

struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_guard_that_cannot_be_is_told() {
    for (wrong, why) in [
        ("mode = \"learning\"\n", "did you mean `learn`?"),
        ("default = \"drop\"\n", "allow, report, close"),
        ("watch = [\"lo\"]\n", "62000-62999"),
        ("watch = [0]\n", "from 1 to 65535"),
        ("[[guard.rule]]\nport = 1\n", "needs `action`"),
        (
            "[[guard.rule]]\nuser = \"no-such-user\"\naction = \"close\"\n",
            "nobody on this machine",
        ),
        (
            "[[guard.rule]]\nuser = []\naction = \"close\"\n",
            "names nobody",
        ),
        (
            "[[guard.rule]]\nprogram = \"bin/x\"\naction = \"close\"\n",
            "/usr/bin/psql",
        ),
        (
            "[[guard.rule]]\naddress = \"10.0.0.0/99\"\naction = \"close\"\n",
            "10.0.0.0/99",
        ),
    ] {
        let desk = Desk::with(&format!("[guard]\n{wrong}"));
        let output = Command::new(PROGRAM)
            .args(["check"])
            .current_dir(desk.directory.path())
            .env("NO_COLOR", "1")
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned()
            + &String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(2), "{wrong}: {told}");
        assert!(told.contains(why), "{wrong}: {told}");
    }
}
