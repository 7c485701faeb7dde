//! Who may come in.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::process::Command;

use socket2::{Domain, Socket, Type};

use crate::desk::{Desk, ask, dial, line_server, one, until};
use crate::servers::needed;
use ipreconnect_lab::namespace::skipped;

/// A client that comes from this address of the loopback interface.
pub(crate) fn dial_from(front: SocketAddr, from: [u8; 4]) -> std::net::TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
    socket.connect(&front.into()).unwrap();
    let stream = std::net::TcpStream::from(socket);
    let timeout = std::time::Duration::from_secs(10);
    stream.set_read_timeout(Some(timeout)).unwrap();
    stream
}

/// What a client gets that comes from this address of the loopback interface.
pub(crate) fn said_to(front: SocketAddr, from: [u8; 4]) -> String {
    let mut stream = dial_from(front, from);
    // Whoever is refused may be so before it has said anything.
    let _ = stream.write_all(b"hello\n");
    let mut said = [0; 4096];
    let count = stream.read(&mut said).unwrap_or(0);
    String::from_utf8_lossy(&said[..count]).into_owned()
}

#[test]
fn the_first_rule_decides_and_why_tells_which() {
    let rules = |second: &str| {
        format!(
            "{}[[access]]\nfrom = \"127.0.0.2\"\nmethod = \"reject\"\n\
             [[access]]\nfrom = \"{second}\"\nmethod = \"trust\"\n",
            one(line_server("one"))
        )
    };
    let desk = Desk::run(&rules("loopback"));
    let front = desk.address("a");
    assert_ne!(said_to(front, [127, 0, 0, 1]), "");
    assert_eq!(said_to(front, [127, 0, 0, 2]), "");
    assert_ne!(said_to(front, [127, 0, 0, 3]), "");
    let why = |from: &str| {
        let output = desk.command(&["why", "a", "--from", from]);
        let text = String::from_utf8(output.stdout).unwrap();
        (output.status.code(), text)
    };
    let (code, text) = why("127.0.0.1");
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("a, from 127.0.0.1: let in"), "{text}");
    assert!(text.contains("the client comes from elsewhere"), "{text}");
    assert!(text.contains("=> "), "{text}");
    let (code, text) = why("127.0.0.2");
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("refused, the rule at "), "{text}");
    assert!(
        text.contains("method reject\n     this one decides"),
        "{text}"
    );
    let (code, text) = why("10.1.1.1");
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("no access rule is for it"), "{text}");
    let (code, _) = why("nonsense");
    assert_eq!(code, Some(2));
    let json = desk.command(&["--json", "why", "a", "--from", "127.0.0.2"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["schema"], 1);
    assert_eq!(
        (&json["admitted"], &json["rules"][0]["decides"]),
        (&false.into(), &true.into())
    );
    let status = desk.status();
    let refusals = status["listeners"]["listeners"][0]["refusals"]
        .as_array()
        .unwrap();
    assert_eq!(refusals.len(), 1, "{refusals:?}");
    assert_eq!(refusals[0]["count"], 1);
    assert!(
        refusals[0]["rule"]
            .as_str()
            .unwrap()
            .starts_with("from 127.0.0.2 ")
    );
    let text = String::from_utf8(desk.command(&["status"]).stdout).unwrap();
    assert!(text.contains("  1 refused by "), "{text}");
    let log = desk.log();
    assert!(log.contains("not let in: the rule at "), "{log}");
    assert!(log.contains("127.0.0.2"), "{log}");

    // Who is inside stays, whatever is written later.
    let mut inside = dial(front);
    assert_ne!(ask(&mut inside, "hello\n"), "");
    desk.write(&rules("10.0.0.0/8"));
    assert_eq!(desk.command(&["reload"]).status.code(), Some(0));
    assert_eq!(said_to(front, [127, 0, 0, 1]), "");
    assert_ne!(ask(&mut inside, "hello\n"), "");
    // What cannot be read changes nothing.
    desk.write(&rules("10.0.0.0/99"));
    assert_eq!(desk.command(&["reload"]).status.code(), Some(2));
    assert_eq!(said_to(front, [127, 0, 0, 1]), "");
}

#[test]
fn users_of_this_machine_are_known_at_the_door() {
    let test = "users_of_this_machine_are_known_at_the_door";
    let Some(curl) = needed(test, "curl") else {
        return;
    };
    if !rustix::process::geteuid().is_root() {
        skipped(test, "it needs root, to be somebody else");
        return;
    }
    let origin = crate::desk::line_server("one");
    let desk = Desk::run(&format!(
        "[origin.web]\naddress = \"http://{origin}\"\nhealth.check = \"tcp\"\n\
         [[listen]]\naddress = [\"127.0.0.1:auto\", \"[::1]:auto\", \"unix:web.sock\"]\norigin = \"web\"\n\
         [[listen.route]]\npath = \"/\"\norigin = \"web\"\nrequires = [\"nothing\"]\nfallback = {{ status = 200, body = \"come in\" }}\n\
         [origin.nothing]\naddress = \"127.0.0.1:1\"\n\
         [[access]]\nfrom = [\"local\", \"loopback\"]\nuser = \"app\"\nmethod = \"peer\"\nmap = \"staff\"\n\
         [access_map]\nstaff = [[\"nobody\", \"app\"]]\n"
    ));
    desk.wait_for_phase("nothing", "down");
    let path = desk.path("web.sock");
    let socket = path.display().to_string();
    std::fs::set_permissions(
        desk.directory.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    let front = desk.address("web");
    let urls = [
        vec![format!("http://{front}/")],
        vec![format!("http://[::1]:{}/", front.port())],
        vec!["--unix-socket".to_owned(), socket, "http://web/".to_owned()],
    ];
    const NOBODY: u32 = 65534;
    for arguments in &urls {
        for (uid, wanted) in [(NOBODY, "come in"), (0, ""), (1, "")] {
            let mut command = Command::new(&curl);
            command.args(["-s", "--max-time", "10"]).args(arguments);
            let output = command.uid(uid).gid(NOBODY).output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert_eq!(said, wanted, "{uid} {arguments:?}: {}", desk.log());
        }
    }
    let why = |user: &str| {
        let output = desk.command(&["why", "web", "--from", "local", "--user", user]);
        output.status.code()
    };
    assert_eq!(
        (why("nobody"), why("root"), why("app")),
        (Some(0), Some(1), Some(1))
    );
    until("the refusals are counted", || {
        let output = desk.command(&["--json", "status"]);
        let text = String::from_utf8(output.stdout).unwrap();
        text.contains("\"denied\": 6")
    });
}

#[test]
fn proxies_that_are_trusted_say_whose_connection_it_is() {
    let rules = |more: &str| {
        format!(
            "{}{more}[[access]]\nfrom = \"192.0.2.7\"\nmethod = \"trust\"\n[[access]]\nfrom = \"127.0.0.1\"\nmethod = \"trust\"\n",
            one(line_server("one"))
        )
    };
    const HEADER: &str = "PROXY TCP4 192.0.2.7 10.0.0.1 1 2\r\n";
    const OTHER: &str = "PROXY TCP4 192.0.2.8 10.0.0.1 1 2\r\n";
    let said = |front: SocketAddr, from: [u8; 4], parts: &[&str]| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
        socket.connect(&front.into()).unwrap();
        let mut stream = std::net::TcpStream::from(socket);
        stream.set_nodelay(true).unwrap();
        for part in parts {
            if stream.write_all(part.as_bytes()).is_err() {
                break;
            }
            std::thread::yield_now();
        }
        let timeout = std::time::Duration::from_secs(10);
        stream.set_read_timeout(Some(timeout)).unwrap();
        stream.read(&mut [0; 4096]).is_ok_and(|count| count > 0)
    };
    let (proxy, stranger) = ([127, 0, 0, 9], [127, 0, 0, 1]);
    for (protocol, plain, from_stranger) in [("accept", false, true), ("require", false, false)] {
        let desk = Desk::run(&rules(&format!(
            "proxy_protocol = \"{protocol}\"\nproxy_trust = [\"127.0.0.9\"]\n"
        )));
        let front = desk.address("a");
        assert!(said(front, proxy, &[HEADER, "hello\n"]), "{}", desk.log());
        assert!(said(front, proxy, &[&format!("{HEADER}hello\n")]));
        assert!(said(
            front,
            proxy,
            &["PROXY TCP4 192.0", ".2.7 10.0.0.1 1 2\r\nhel", "lo\n"]
        ));
        assert!(!said(front, proxy, &[OTHER, "hello\n"]));
        assert!(!said(front, proxy, &["PROXY nonsense\r\n", "hello\n"]));
        // Without a header the proxy is itself, whom no rule is for.
        assert_eq!(said(front, proxy, &["hello\n"]), plain);
        // Who is not trusted brings nobody; what he says is for the origin.
        assert_eq!(said(front, stranger, &["hello\n"]), from_stranger);
        let log = desk.log();
        assert!(log.contains("its line cannot be read"), "{log}");
    }
}

#[test]
fn haproxy_brings_its_clients() {
    let test = "haproxy_brings_its_clients";
    let Some(haproxy) = needed(test, "haproxy") else {
        return;
    };
    for version in ["send-proxy", "send-proxy-v2"] {
        let mut desk = Desk::with(&format!(
            "{}proxy_protocol = \"require\"\nproxy_trust = [\"loopback\"]\n\
             [[access]]\nfrom = \"127.0.0.5\"\nmethod = \"trust\"\n",
            one(line_server("one"))
        ));
        desk.start();
        let (front, behind) = (crate::desk::free_address(), desk.address("a"));
        let file = desk.path("haproxy.cfg");
        let text = format!(
            "defaults\n mode tcp\n timeout connect 5s\n timeout client 20s\n timeout server 20s\n\
             frontend f\n bind {front}\n default_backend b\nbackend b\n server s {behind} {version}\n"
        );
        std::fs::write(&file, text).unwrap();
        let mut child = Command::new(&haproxy)
            .arg("-f")
            .arg(&file)
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        until("haproxy listens", || {
            std::net::TcpStream::connect(front).is_ok()
        });
        let (good, bad) = (
            said_to(front, [127, 0, 0, 5]),
            said_to(front, [127, 0, 0, 6]),
        );
        child.kill().unwrap();
        child.wait().unwrap();
        assert_ne!(good, "", "{version}: {}", desk.log());
        assert_eq!(bad, "", "{version}");
        assert!(desk.log().contains("127.0.0.6"), "{}", desk.log());
    }
}

/// What curl gets: the status, and the body.
fn fetched(curl: &std::path::Path, url: &str, more: &[&str]) -> (String, String) {
    let output = Command::new(curl)
        .args(["-s", "--max-time", "30", "-w", "\n%{http_code}", url])
        .args(more)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, status) = text.rsplit_once('\n').unwrap();
    (status.to_owned(), body.to_owned())
}

/// An origin that answers with the head of the request.
fn echo() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut head = Vec::new();
                let mut buffer = [0; 4096];
                while !head.ends_with(b"\r\n\r\n") {
                    match stream.read(&mut buffer) {
                        Ok(count @ 1..) => head.extend_from_slice(&buffer[..count]),
                        _ => return,
                    }
                }
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
                    head.len()
                );
                let _ = stream.write_all(answer.as_bytes());
                let _ = stream.write_all(&head);
            });
        }
    });
    address
}

#[test]
fn requests_show_by_a_password_who_makes_them() {
    let test = "requests_show_by_a_password_who_makes_them";
    let Some(curl) = needed(test, "curl") else {
        return;
    };
    let text = format!(
        "[origin.web]\naddress = \"http://{}\"\nhealth.check = \"tcp\"\n\
         [[listen]]\naddress = \"127.0.0.1:auto\"\norigin = \"web\"\nusers = {{ file = \"users\" }}\nroles = \"roles\"\n\
         [[access]]\nfrom = \"127.0.0.2\"\nmethod = \"trust\"\n\
         [[access]]\nfrom = \"loopback\"\nuser = \"eve\"\nmethod = \"reject\"\n\
         [[access]]\nfrom = \"loopback\"\nuser = \"+staff\"\nmethod = \"scram-sha-256\"\n",
        echo()
    );
    let mut desk = Desk::with(&text);
    let mut lines = String::new();
    for (name, password) in [("ann", "open:sesame"), ("bob", "swördfish"), ("eve", "x")] {
        let verifier = ipreconnect_proxy::verifier(password.as_bytes()).unwrap();
        lines.push_str(&format!("{name}:{verifier}\n"));
    }
    std::fs::write(desk.path("users"), lines).unwrap();
    std::fs::write(desk.path("roles"), "staff ann,crew\ncrew bob, staff\n").unwrap();
    let own = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(desk.path("users"), own).unwrap();
    desk.start();
    desk.wait_for_phase("web", "up");
    let url = format!("http://{}/", desk.address("web"));
    let fetch = |more: &[&str]| fetched(&curl, &url, more);

    let (status, head) = fetch(&["-i"]);
    assert_eq!(status, "401");
    let challenge = "WWW-Authenticate: Basic realm=\"ipreconnect\", charset=\"UTF-8\"";
    assert!(head.contains(challenge), "{head}");
    for user in ["ann:open:sesame", "bob:swördfish"] {
        let (status, head) = fetch(&["-u", user]);
        assert_eq!(status, "200", "{user}");
        // What was shown here is nothing to the origin.
        assert!(!head.to_lowercase().contains("authorization"), "{head}");
    }
    let (status, _) = fetch(&["--http2-prior-knowledge", "-u", "ann:open:sesame"]);
    assert_eq!(status, "200");
    for user in ["ann:open", "ann:", "eve:x", "nobody:x"] {
        assert_eq!(fetch(&["-u", user]).0, "401", "{user}");
    }
    for field in ["Basic !", "Basic YW5u", "Bearer x", "Basic"] {
        let field = format!("Authorization: {field}");
        assert_eq!(fetch(&["-H", &field]).0, "401", "{field}");
    }
    // Who comes from there is let in by an earlier rule, and what he shows is the origin's affair.
    let (status, head) = fetch(&["--interface", "127.0.0.2", "-u", "eve:y"]);
    assert_eq!(status, "200");
    assert!(head.contains("Authorization: Basic"), "{head}");
    let log = desk.log();
    assert!(
        log.contains("not let in: the password of user \"ann\" is another one"),
        "{log}"
    );
}

/// Whether a connection is served: one that is refused is closed.
fn is_served(front: SocketAddr) -> Option<std::net::TcpStream> {
    let mut stream = dial(front);
    // Whoever is refused may be so before it has said anything.
    stream.write_all(b"hello\n").ok()?;
    let mut said = [0; 64];
    matches!(stream.read(&mut said), Ok(1..)).then_some(stream)
}

#[test]
fn a_source_has_no_more_connections_than_it_may() {
    let text = |limits: &str| {
        format!(
            "{}limits = {{ {limits} }}\n[origin.other]\naddress = \"h:1\"\n",
            one(line_server("one"))
        )
    };
    let desk = Desk::run(&text("clients_per_source = 2"));
    let front = desk.address("a");
    let first = is_served(front).unwrap();
    let _second = is_served(front).unwrap();
    assert!(is_served(front).is_none());
    assert!(
        said_to(front, [127, 0, 0, 2]).starts_with("one "),
        "another source"
    );
    drop(first);
    until("its place is free again", || is_served(front).is_some());
    let log = desk.log();
    assert!(
        log.contains("it has 2 connections open, and `limits.clients_per_source` allows no more"),
        "{log}"
    );

    // Who is here counts for the new limits, and stays.
    desk.write(&text("clients_per_source = 1"));
    assert!(desk.command(&["reload"]).status.success());
    assert!(is_served(front).is_none());
    desk.write(&text("connects_per_source = \"2/h\""));
    assert!(desk.command(&["reload"]).status.success());
    let served = (0..4).filter(|_| is_served(front).is_some()).count();
    assert_eq!(served, 2);
    assert!(said_to(front, [127, 0, 0, 3]).starts_with("one "));
    assert!(desk.status()["listeners"]["listeners"][0]["denied"].as_u64() >= Some(4));
}

#[test]
fn a_full_listener_lets_others_wait() {
    let text = format!("{}limits = {{ clients = 2 }}\n", one(line_server("one")));
    let desk = Desk::run(&text);
    let front = desk.address("a");
    let first = is_served(front).unwrap();
    let _second = is_served(front).unwrap();
    // There may be one more for each other worker; the rest waits, and nobody is sent away.
    let waiting: Vec<_> = (0..4)
        .map(|_| std::thread::spawn(move || is_served(front).is_some()))
        .collect();
    let inside = || {
        desk.status()["listeners"]["listeners"][0]["carrying"]
            .as_u64()
            .unwrap()
    };
    until("those who may are inside", || inside() >= 2);
    assert!(inside() <= 3);
    drop(first);
    let mut served = 0;
    for one in waiting {
        // Each makes room for the next.
        served += usize::from(one.join().unwrap());
    }
    assert_eq!(served, 4);
}

#[test]
fn the_denied_are_refused_and_their_list_is_read_again() {
    let text = format!(
        "{}deny = [\"127.0.0.2\", {{ file = \"deny.txt\" }}]\n",
        one(line_server("one"))
    );
    let mut desk = Desk::with(&text);
    std::fs::write(desk.path("deny.txt"), "# nobody yet\n").unwrap();
    desk.start();
    let front = desk.address("a");
    assert_eq!(said_to(front, [127, 0, 0, 2]), "");
    assert!(said_to(front, [127, 0, 0, 3]).starts_with("one "));
    std::fs::write(
        desk.path("deny.txt"),
        "127.0.0.3  # since today\n10.0.0.0/8\n",
    )
    .unwrap();
    assert!(desk.command(&["reload"]).status.success());
    assert_eq!(said_to(front, [127, 0, 0, 3]), "");
    assert!(said_to(front, [127, 0, 0, 4]).starts_with("one "));
    std::fs::write(desk.path("deny.txt"), "127.0.0.4\n10.0.0.0/33\n").unwrap();
    let reload = desk.command(&["reload"]);
    assert_eq!(reload.status.code(), Some(2));
    let told =
        String::from_utf8(reload.stderr).unwrap() + &String::from_utf8(reload.stdout).unwrap();
    assert!(
        told.contains("deny.txt:2:1: this is no address and no network: \"10.0.0.0/33\""),
        "{told}"
    );
    assert!(said_to(front, [127, 0, 0, 4]).starts_with("one "));
}

#[test]
fn who_says_nothing_costs_the_origin_nothing() {
    let origin = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = origin.local_addr().unwrap();
    let text = format!(
        "[origin.a]\naddress = \"{address}\"\nhealth.check = \"off\"\n[[listen]]\naddress = \"127.0.0.1:auto\"\norigin = \"a\"\n\
         limits = {{ first_byte = \"200ms\" }}\n"
    );
    let desk = Desk::run(&text);
    let mut silent = dial(desk.address("a"));
    assert_eq!(silent.read(&mut [0; 1]).unwrap(), 0);
    origin.set_nonblocking(true).unwrap();
    assert!(origin.accept().is_err(), "nothing was opened for it");
}

#[test]
fn who_is_denied_later_does_not_stay() {
    let text = |more: &str| {
        format!(
            "[origin.web]\naddress = \"http://{}\"\nhealth.check = \"tcp\"\n[[listen]]\naddress = \"127.0.0.1:auto\"\norigin = \"web\"\n\
             limits.clients_per_source = 2\n{more}",
            echo()
        )
    };
    let desk = Desk::run(&text(""));
    desk.wait_for_phase("web", "up");
    let mut kept = dial(desk.address("web"));
    let mut fetch = || {
        kept.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        // The head, and the body, which is the head of the request.
        while answer.matches("\r\n\r\n").count() < 2 {
            let mut some = [0; 4096];
            let count = kept.read(&mut some).unwrap();
            assert!(count > 0, "{answer}");
            answer.push_str(&String::from_utf8_lossy(&some[..count]));
        }
        answer
    };
    let says_close = |answer: &str| {
        let head = answer.split("\r\n\r\n").next().unwrap_or_default();
        head.to_lowercase().contains("connection: close")
    };
    assert!(!says_close(&fetch()));
    desk.write(&text("deny = \"127.0.0.1\"\n"));
    assert!(desk.command(&["reload"]).status.success());
    // It is answered once more, and has to come again.
    let answer = fetch();
    assert!(says_close(&answer), "{answer}");
}

#[test]
fn a_connection_of_http2_counts_as_long_as_it_is_there() {
    let test = "a_connection_of_http2_counts_as_long_as_it_is_there";
    let Some(curl) = needed(test, "curl") else {
        return;
    };
    let origin = echo();
    let text = |more: &str| {
        format!(
            "[origin.web]\naddress = \"http://{origin}\"\nhealth.check = \"tcp\"\n[[listen]]\naddress = \"127.0.0.1:auto\"\norigin = \"web\"\n\
             limits.clients_per_source = 1\n{more}"
        )
    };
    let desk = Desk::run(&text(""));
    desk.wait_for_phase("web", "up");
    let front = desk.address("web");
    // The preface, and an empty SETTINGS.
    let mut kept = dial(front);
    kept.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .unwrap();
    assert!(kept.read(&mut [0; 1024]).unwrap() > 0);
    let url = format!("http://{front}/");
    let other = || fetched(&curl, &url, &["--retry", "0"]).0;
    assert_eq!(other(), "000");
    desk.write(&text("compress = true\n"));
    assert!(desk.command(&["reload"]).status.success());
    // It hears of that, and stays.
    kept.write_all(b"\0\0\x08\x06\0\0\0\0\x0012345678").unwrap();
    assert!(kept.read(&mut [0; 1024]).unwrap() > 0);
    assert_eq!(other(), "000");
    drop(kept);
    until("its place is free", || other() == "200");
}
