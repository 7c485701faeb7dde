//! The ports of this machine, with programs that people run.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Command, Output};

use ipreconnect_lab::namespace::inside;
use serde_json::Value;

use crate::desk::{Desk, PROGRAM, free_address, until};
use crate::servers::{Server, needed};

fn ports(arguments: &[&str]) -> Output {
    Command::new(PROGRAM)
        .arg("ports")
        .args(arguments)
        .env("NO_COLOR", "1")
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn json(arguments: &[&str]) -> Value {
    let output = ports(&[arguments, &["--json"]].concat());
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found["schema"], 1);
    found
}

/// What is listed of a port of this network namespace.
fn listed(port: u16) -> Vec<Value> {
    let found = json(&["list", "--own", "--port", &port.to_string()]);
    found["sockets"].as_array().unwrap().clone()
}

#[test]
fn redis_is_found_and_told_of_where_it_is_open_to_all() {
    let test = "redis_is_found_and_told_of_where_it_is_open_to_all";
    let Some(redis) = needed(test, "redis-server") else {
        return;
    };
    for (bind, exposure, is_concern) in [
        ("127.0.0.1", "loopback", false),
        ("0.0.0.0", "everywhere", true),
    ] {
        let port = free_address().port();
        let _server = Server::start(Command::new(&redis).args([
            "--bind",
            bind,
            "--port",
            &port.to_string(),
            "--save",
            "",
            "--protected-mode",
            "no",
        ]));
        until("redis listens", || {
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
        });
        let found = listed(port);
        assert_eq!(found.len(), 1, "{found:?}");
        let one = &found[0];
        assert_eq!(one["exposure"], exposure);
        assert_eq!(one["processes"][0]["name"], "redis-server");
        assert!(
            one["processes"][0]["for_ms"].as_u64().unwrap() < 60_000,
            "{one}"
        );
        assert_eq!(one["concern"].is_string(), is_concern, "{one}");
        let output = ports(&["list", "--own", "--port", &port.to_string()]);
        assert_eq!(output.status.code(), Some(i32::from(is_concern)));
        let shown = text(&output);
        assert!(shown.contains("redis-server"), "{shown}");
        let wanted = "Redis is a database, and is open to every network of this machine";
        assert_eq!(shown.contains(wanted), is_concern, "{shown}");
    }
}

#[test]
fn what_is_asked_for_is_listed_and_nothing_else() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let own = std::process::id().to_string();
    let all = json(&["list", "--own", "--of", &own]);
    let is_it = |one: &Value| one["port"] == port;
    assert!(
        all["sockets"].as_array().unwrap().iter().any(is_it),
        "{all}"
    );
    for (arguments, is_there) in [
        (&["--tcp"][..], true),
        (&["--udp"], false),
        (&["--exposed"], false),
        (&["--user", "nobody-of-that-name"], false),
        (&["--of", "init"], false),
        (&["--sort", "exposure"], true),
        (&["--sort", "queue"], true),
    ] {
        let found = json(&[&["list", "--own", "--port", &port.to_string()], arguments].concat());
        let count = found["sockets"].as_array().unwrap().len();
        assert_eq!(count, usize::from(is_there), "{arguments:?}: {found}");
    }
    for wrong in [
        &["list", "--port", "x"][..],
        &["list", "--port", "9-3"],
        &["list", "--tcp", "--udp"],
    ] {
        assert_eq!(ports(wrong).status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn an_address_is_explained() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let _client = TcpStream::connect(address).unwrap();
    let output = ports(&["explain", &address.to_string()]);
    let shown = text(&output);
    let own = format!("pid {}", std::process::id());
    for wanted in [
        "is a loopback address",
        &own,
        "1 of 128 connections wait to be accepted",
        "would fail: EADDRINUSE",
        "[::1]",
        "ESTABLISHED",
    ] {
        assert!(shown.contains(wanted), "{wanted} in {shown}");
    }
    // Whoever asks before he starts a server is told, though its twin would be free.
    assert_eq!(output.status.code(), Some(1));
    let found = json(&["explain", &address.to_string()]);
    assert_eq!(found["connected"], 1);
    assert_eq!(found["connections"][0]["pid"], std::process::id());
    drop(listener);
    // One that nobody has, and that no connection is given by the kernel.
    let output = ports(&["explain", "62893"]);
    let shown = text(&output);
    for wanted in [
        "a dynamic port",
        "nobody, neither over TCP nor over UDP",
        "would work",
    ] {
        assert!(shown.contains(wanted), "{wanted} in {shown}");
    }
    assert_eq!(output.status.code(), Some(0));
    let shown = text(&ports(&["explain", "203.0.113.1:5432"]));
    for wanted in ["a reserved address", "`postgresql`", "EADDRNOTAVAIL"] {
        assert!(shown.contains(wanted), "{wanted} in {shown}");
    }
    let shown = text(&ports(&["explain", "255.255.255.255:67"]));
    assert!(shown.contains("the broadcast address"), "{shown}");
    let shown = text(&ports(&["explain", "[fe80::1%lo]:80"]));
    assert!(shown.contains("a link-local address"), "{shown}");
    for (wrong, why) in [
        ("example.com:80", "the host is no address"),
        ("0", "port 0"),
        ("127.0.0.1", "the port"),
        ("127.0.0.1:99999", "the port is none from 1 to 65535"),
        ("[fe80::1%nowhere]:80", "no such interface"),
    ] {
        let output = ports(&["explain", wrong]);
        assert_eq!(output.status.code(), Some(2), "{wrong}");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(told.contains(why), "{why} in {told}");
    }
}

#[test]
fn an_output_that_is_full_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    for arguments in [&["list"][..], &["explain", &port], &["list", "--json"]] {
        let full = std::fs::File::options().write(true).open("/dev/full");
        let output = std::process::Command::new(crate::desk::PROGRAM)
            .arg("ports")
            .args(arguments)
            .stdout(full.unwrap())
            .stderr(std::process::Stdio::piped())
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(told.contains("standard output takes no more"), "{told}");
    }
}

#[test]
fn an_address_of_ipv4_is_one_however_it_is_written() {
    let listener = TcpListener::bind("[::ffff:127.0.0.1]:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let own = format!("pid {}", std::process::id());
    for place in [port.to_string(), format!("[::ffff:127.0.0.1]:{port}")] {
        let shown = text(&ports(&["explain", &place]));
        assert!(shown.contains(&own), "{place}: {shown}");
        assert!(shown.contains("has it"), "{place}: {shown}");
    }
}

#[test]
fn the_end_of_the_ports_is_told() {
    let test = "ports::the_end_of_the_ports_is_told";
    if !inside(test, &[]) {
        return;
    }
    std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40019").unwrap();
    let listener = TcpListener::bind("127.0.0.1:7000").unwrap();
    let at = listener.local_addr().unwrap();
    let mut kept: Vec<TcpStream> = (0..10).map(|_| TcpStream::connect(at).unwrap()).collect();
    let output = ports(&["pressure", "--for", "1"]);
    let shown = text(&output);
    assert!(
        shown.contains("50 %") && shown.contains("no destination is near its end"),
        "{shown}"
    );
    assert_eq!(output.status.code(), Some(0));
    // Those that are over do not count within the machine: the kernel gives their ports again.
    let _served: Vec<_> = (0..10).map(|_| listener.accept().unwrap()).collect();
    for _ in 0..60 {
        until("a port is given again", || match TcpStream::connect(at) {
            Ok(one) => {
                let (server, _) = listener.accept().unwrap();
                drop(one);
                drop(server);
                true
            }
            Err(_) => false,
        });
    }
    let found = json(&["pressure", "--for", "1"]);
    let used = found["destinations"][0]["used_percent"].as_u64().unwrap();
    assert!(used < 80, "{found}");
    while let Ok(one) = TcpStream::connect(at) {
        kept.push(one);
    }
    let found = json(&["pressure", "--for", "1"]);
    assert_eq!(found["room"], 20);
    let one = &found["destinations"][0];
    assert_eq!(
        (&one["to"], &one["used_percent"]),
        (&at.to_string().into(), &100.into()),
        "{found}"
    );
    let output = ports(&["pressure", "--for", "1"]);
    let shown = text(&output);
    for wanted in [
        "there are no ports left",
        "EADDRNOTAVAIL",
        "ip_local_port_range = 40000 40019",
    ] {
        assert!(shown.contains(wanted), "{wanted} in {shown}");
    }
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn the_gateway_tells_the_same() {
    let desk = Desk::run(
        "[[listen]]\nname = \"a\"\naddress = \"127.0.0.1:auto\"\norigin = \"a\"\n[origin.a]\naddress = \"127.0.0.1:1\"\n",
    );
    let port = desk.address("a").port();
    let mut stream =
        std::os::unix::net::UnixStream::connect(desk.path("state/admin.sock")).unwrap();
    let asks = "GET /v1/ports HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    std::io::Write::write_all(&mut stream, asks.as_bytes()).unwrap();
    let mut heard = String::new();
    std::io::Read::read_to_string(&mut stream, &mut heard).unwrap();
    let (_, body) = heard.split_once("\r\n\r\n").unwrap();
    let body = &body[body.find('{').unwrap()..=body.rfind('}').unwrap()];
    let found: Value = serde_json::from_str(body).unwrap();
    let is_ours = |one: &Value| one["port"] == port && one["processes"][0]["pid"] == desk.pid();
    assert!(
        found["sockets"].as_array().unwrap().iter().any(is_ours),
        "{found}"
    );
}

#[test]
fn who_comes_and_goes_is_told_as_it_happens() {
    let mut child = std::process::Command::new(crate::desk::PROGRAM)
        .args(["ports", "watch", "--json", "--for", "20"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut next = |what: &str, port: u16| -> serde_json::Value {
        loop {
            let mut line = String::new();
            assert!(
                std::io::BufRead::read_line(&mut lines, &mut line).unwrap() > 0,
                "{what} is never told"
            );
            let told: serde_json::Value = serde_json::from_str(&line).unwrap();
            if told["what"] == what
                && told["here"]
                    .as_str()
                    .unwrap()
                    .ends_with(&format!(":{port}"))
            {
                return told;
            }
        }
    };
    // It tells of what is there already, which is when it looks.
    let first = TcpListener::bind("127.0.0.1:0").unwrap();
    let first_at = first.local_addr().unwrap();
    let _early = std::net::TcpStream::connect(first_at).unwrap();
    next("came", first_at.port());
    let late = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = late.local_addr().unwrap();
    let listens = next("listens", address.port());
    assert_eq!(listens["pid"], std::process::id());
    let client = std::net::TcpStream::connect(address).unwrap();
    let came = next("came", address.port());
    assert_eq!(came["pid"], std::process::id());
    assert_eq!(came["peer"], client.local_addr().unwrap().to_string());
    assert!(came["user"].is_string());
    drop(client);
    drop(late);
    next("left", address.port());
    next("gone", address.port());
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn connections_are_made_from_the_ports_that_are_given() {
    let test = "connections_are_made_from_the_ports_that_are_given";
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut version = release
        .split(['.', '-'])
        .map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (version.next().unwrap_or(0), version.next().unwrap_or(0));
    let mut bounds = range
        .split_whitespace()
        .map(|port| port.parse::<u16>().unwrap());
    let (first, last) = (bounds.next().unwrap(), bounds.next().unwrap());
    if version < (6, 3) || first > 40_000 || last < 40_499 {
        ipreconnect_lab::namespace::skipped(
            test,
            "it takes Linux 6.3 and its usual range of ports",
        );
        return;
    }
    for host in ["127.0.0.1", "[::1]"] {
        let Ok(listener) = TcpListener::bind(format!("{host}:0")) else {
            continue;
        };
        let address = listener.local_addr().unwrap();
        let desk = crate::desk::Desk::run(&format!(
            "[origin.a]\naddress = \"{address}\"\nhealth.check = \"off\"\n\
             connect.local_ports = \"40000-40499\"\n\
             [[listen]]\naddress = \"127.0.0.1:auto\"\norigin = \"a\"\n"
        ));
        let front = desk.address("a");
        let clients: Vec<_> = (0..20).map(|_| crate::desk::dial(front)).collect();
        // What asks at the start whether the origin is there comes from those ports, too.
        for _ in &clients {
            let (_, from) = listener.accept().unwrap();
            assert!((40_000..=40_499).contains(&from.port()), "{from}");
        }
    }
}

#[test]
fn what_proc_hides_is_told() {
    let test = "ports::what_proc_hides_is_told";
    let tools = [
        ("unshare", &["-m", "true"][..]),
        ("setpriv", &["--version"]),
        ("mount", &["--version"]),
    ];
    if !inside(test, &tools) {
        return;
    }
    // A file system of its own: that of this machine stays as it is.
    let code = format!(
        "mount -t proc -o hidepid=2 proc /proc && setpriv --reuid 65534 --regid 65534 --clear-groups \
         --inh-caps=-all {PROGRAM} ports list; exit $?"
    );
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let output = Command::new("unshare")
        .args(["-m", "-p", "-f", "sh", "-c", &code])
        .env("NO_COLOR", "1")
        .output()
        .unwrap();
    let shown = text(&output);
    assert!(shown.contains("hidepid"), "{output:?}");
    let port = listener.local_addr().unwrap().port();
    assert!(shown.contains(&format!("127.0.0.1:{port}")), "{shown}");
}
