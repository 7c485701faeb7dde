//! What stands before programs of this machine: the shield, kept ports, and applications that are run with their
//! origins.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use ipreconnect_lab::namespace::skipped;
use serde_json::Value;

use crate::desk::{Desk, Mortal, PROGRAM, dial, free_address, signal, until};
use crate::servers::needed;

/// A command of the program that goes on, with a state directory of its own.
struct Going {
    home: PathBuf,
    child: Child,
    out: BufReader<std::process::ChildStdout>,
}

impl Going {
    fn start(home: &Path, arguments: &[&str]) -> Self {
        let mut child = of(home, arguments)
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(home.join("stderr")).unwrap())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Self {
            home: home.to_owned(),
            child,
            out,
        }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// What it has told beside.
    fn told(&self) -> String {
        std::fs::read_to_string(self.home.join("stderr")).unwrap_or_default()
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn ended(&mut self) -> Option<i32> {
        let mut code = None;
        until("it ends", || {
            code = self.child.try_wait().unwrap();
            code.is_some()
        });
        code.unwrap().code()
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- what it told\n{}", self.told());
        }
    }
}

fn of(home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command
        .args(arguments)
        .current_dir(home)
        .env("XDG_STATE_HOME", home)
        .env_remove("STATE_DIRECTORY")
        .env("NO_COLOR", "1");
    command
}

fn done(home: &Path, arguments: &[&str]) -> Output {
    of(home, arguments).output().unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A tool that tells everybody its secret, whatever page asks.
fn tool() -> SocketAddr {
    pages("SECRET-42")
}

/// A small server of HTTP that has one page.
fn pages(page: impl Into<String>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let page = page.into();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let page = page.clone();
            std::thread::spawn(move || answer(stream, &page));
        }
    });
    address
}

fn answer(mut stream: TcpStream, page: &str) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return,
        }
    }
    let _ = stream.write_all(
        format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nAccess-Control-Allow-Origin: *\r\n\
             Access-Control-Allow-Headers: *\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{page}",
            page.len()
        )
        .as_bytes(),
    );
}

/// The status of an answer, and all of it.
fn get(address: SocketAddr, lines: &str) -> (u16, String) {
    let mut stream = dial(address);
    let head = format!("GET /x HTTP/1.1\r\nConnection: close\r\n{lines}\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let status = text
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    (status.unwrap_or_default(), text)
}

fn shielded(home: &Path, tool: SocketAddr, more: &[&str]) -> (Going, SocketAddr) {
    let port = tool.port().to_string();
    let mut arguments = vec!["shield", &port, "--json"];
    arguments.extend(more);
    let mut going = Going::start(home, &arguments);
    let mut text = String::new();
    let shown: Value = loop {
        text.push_str(&going.line());
        if let Ok(shown) = serde_json::from_str(&text) {
            break shown;
        }
    };
    assert_eq!(shown["tool"], tool.to_string());
    let address = shown["address"].as_str().unwrap().parse().unwrap();
    (going, address)
}

#[test]
fn a_shield_stands_before_a_tool_with_one_command() {
    let home = tempfile::tempdir().unwrap();
    let tool = tool();
    let (mut going, shield) = shielded(home.path(), tool, &["--allow", "https://app.example.com"]);
    let port = shield.port();
    for fine in [
        format!("Host: {shield}\r\n"),
        format!("Host: localhost:{port}\r\nOrigin: http://localhost:{port}\r\n"),
        "Host: localhost\r\nOrigin: http://localhost:3000\r\n".to_owned(),
        "Host: localhost\r\nOrigin: https://app.example.com\r\nSec-Fetch-Site: cross-site\r\n"
            .to_owned(),
    ] {
        let (status, text) = get(shield, &fine);
        assert!(
            status == 200 && text.contains("SECRET-42"),
            "{fine}: {text}"
        );
    }
    for foreign in [
        format!("Host: evil.example:{port}\r\n"),
        "Host: localhost\r\nOrigin: http://evil.example\r\n".to_owned(),
        "Host: localhost\r\nOrigin: null\r\n".to_owned(),
        "Host: localhost\r\nSec-Fetch-Site: cross-site\r\n".to_owned(),
    ] {
        let (status, text) = get(shield, &foreign);
        assert!(
            status == 403 && !text.contains("SECRET"),
            "{foreign}: {text}"
        );
        assert!(text.contains("shield_origins"), "{text}");
    }
    signal(going.pid(), "TERM");
    assert_eq!(going.ended(), Some(0));
    // It stands at the same port when it stands there again.
    let (_going, again) = shielded(home.path(), tool, &[]);
    assert_eq!(again, shield);
    let wrong = done(home.path(), &["shield", "192.0.2.1:80"]);
    assert_eq!(wrong.status.code(), Some(2));
}

#[test]
fn listeners_on_loopback_are_shielded_by_themselves() {
    let tool = tool();
    let mut desk = Desk::with("");
    let text = |more: &str| {
        format!(
            "[origin.a]\naddress = \"{tool}\"\nprotocol = \"http\"\n\
             [[listen]]\naddress = \"127.0.0.1:auto\"\norigin = \"a\"\n{more}"
        )
    };
    desk.write(&text(""));
    desk.start();
    let front = desk.address("a");
    assert_eq!(get(front, "Host: evil.example\r\n").0, 403);
    assert_eq!(get(front, "Host: localhost\r\n").0, 200);
    let check = desk.command(&["check"]);
    assert!(String::from_utf8_lossy(&check.stdout).contains("`shield`"));
    // A name that a route is for leads here; one that is allowed may also be asked for.
    for (more, host) in [
        (
            "[[listen.route]]\nhost = \"shop.test\"\norigin = \"a\"\n",
            "shop.test",
        ),
        ("shield_origins = [\"http://friend.test\"]\n", "friend.test"),
        ("shield = false\n", "evil.example"),
        ("forwarded = { trust = [\"127.0.0.1\"] }\n", "evil.example"),
    ] {
        desk.write(&text(more));
        assert!(desk.command(&["reload"]).status.success(), "{more}");
        until("the listener goes by the new word", || {
            get(front, &format!("Host: {host}\r\n")).0 == 200
        });
    }
}

#[test]
fn a_real_page_cannot_read_what_is_shielded() {
    let name = "a_real_page_cannot_read_what_is_shielded";
    let Some(chromium) = needed(name, "chromium") else {
        return;
    };
    let home = tempfile::tempdir().unwrap();
    let tool = tool();
    let (_going, shield) = shielded(home.path(), tool, &[]);
    let profile = format!("--user-data-dir={}", home.path().join("profile").display());
    let browse = |url: &str| {
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            // Its name leads to this machine, as the name of an attacker does who has got so far.
            "--host-resolver-rules=MAP evil.example 127.0.0.1",
            "--timeout=20000",
            "--dump-dom",
            &profile,
            url,
        ];
        let output = Command::new(&chromium).args(arguments).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    // A page of another site asks, and writes down what it is told.
    let asking = |whom: SocketAddr| {
        let page = format!(
            "<body><script>let told; try {{ const ask = new XMLHttpRequest(); \
             ask.open('GET', 'http://127.0.0.1:{}/x', false); ask.send(); told = ask.status + ' ' + ask.responseText; \
             }} catch (error) {{ told = 'failed: ' + error.name; }} document.body.textContent = 'told ' + told;</script>",
            whom.port()
        );
        browse(&format!("http://evil.example:{}/", pages(page).port()))
    };
    let bare = asking(tool);
    assert!(
        bare.contains("told 200 SECRET-42"),
        "the page can do that: {bare}"
    );
    let told = asking(shield);
    assert!(
        told.contains("told failed") && !told.contains("SECRET"),
        "{told}"
    );
    // The page's own name leads to the port itself: the browser takes it for the same origin.
    let bare = browse(&format!("http://evil.example:{}/", tool.port()));
    assert!(bare.contains("SECRET-42"), "{bare}");
    let told = browse(&format!("http://evil.example:{}/", shield.port()));
    assert!(
        told.contains("403 Forbidden") && !told.contains("SECRET"),
        "{told}"
    );
    // Whoever opens it himself sees it.
    let own = browse(&format!("http://127.0.0.1:{}/", shield.port()));
    assert!(own.contains("SECRET-42"), "{own}");
}

#[test]
fn a_kept_port_is_the_same_at_every_start() {
    let home = tempfile::tempdir().unwrap();
    let port = |name: &str| {
        json(&done(home.path(), &["ports", "lease", name, "--json"]))["leases"][0]["port"].clone()
    };
    let web = port("web");
    assert_eq!(port("web"), web);
    assert_ne!(port("api"), web);
    let all = json(&done(home.path(), &["ports", "lease", "--json"]));
    assert_eq!(all["leases"].as_array().unwrap().len(), 2);
    assert_eq!(
        all["leases"][1]["url"],
        format!("http://web.localhost:{web}/")
    );
    let released = done(home.path(), &["ports", "release", "web"]);
    assert!(released.status.success());
    assert_eq!(
        done(home.path(), &["ports", "release", "web"])
            .status
            .code(),
        Some(1)
    );
    for wrong in ["UPPER", "a.b", "-x", "../x"] {
        let refused = done(home.path(), &["ports", "lease", wrong]);
        assert_eq!(refused.status.code(), Some(2), "{wrong}");
    }
    let other = done(home.path(), &["ports", "lease", "api", "--port", "9"]);
    assert!(
        String::from_utf8_lossy(&other.stderr).contains("it has port"),
        "{other:?}"
    );
}

/// A server that tells its process number, and ends without an answer where it is told to.
const SERVER: &str = "import os, socket, sys
if 'LISTEN_FDS' in os.environ:
    assert os.environ['LISTEN_PID'] == str(os.getpid()) and os.environ['LISTEN_FDS'] == '1'
    assert os.environ['LISTEN_FDNAMES'] == 'web'
    listener = socket.socket(fileno=3)
else:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((os.environ['HOST'], int(os.environ['PORT'])))
    listener.listen()
while True:
    client, _ = listener.accept()
    try:
        if client.recv(100) == b'end\\n':
            os._exit(7)
        client.sendall(str(os.getpid()).encode() + b'\\n')
    except OSError:
        pass
    client.close()
";

#[test]
fn clients_of_a_kept_port_do_not_see_that_its_program_is_started_again() {
    let name = "clients_of_a_kept_port_do_not_see_that_its_program_is_started_again";
    let Some(python) = needed(name, "python3") else {
        return;
    };
    let python = python.display().to_string();
    for mode in [&["--socket"][..], &[]] {
        let home = tempfile::tempdir().unwrap();
        let mut arguments = vec!["ports", "lease", "web"];
        arguments.extend(mode);
        arguments.extend(["--", &python, "-c", SERVER]);
        let mut going = Going::start(home.path(), &arguments);
        let kept =
            || json(&done(home.path(), &["ports", "lease", "web", "--json"]))["leases"][0].clone();
        until("somebody listens", || {
            !kept()["held_by"].as_array().unwrap().is_empty()
        });
        let address = SocketAddr::from((
            [127, 0, 0, 1],
            kept()["port"].as_u64().unwrap().try_into().unwrap(),
        ));
        let ask = |word: &str| {
            let mut stream = dial(address);
            stream.write_all(word.as_bytes()).unwrap();
            let mut told = String::new();
            // The connection of the one that ends is broken.
            let _ = stream.read_to_string(&mut told);
            told
        };
        let first = ask("who\n");
        assert!(!first.is_empty());
        assert_eq!(ask("end\n"), "");
        // It comes while nobody is there, and waits.
        let second = ask("who\n");
        assert!(!second.is_empty() && second != first, "{mode:?}: {second}");
        signal(going.pid(), "TERM");
        assert_eq!(going.ended(), Some(128 + 15), "{mode:?}");
        assert!(TcpStream::connect(address).is_err(), "{mode:?}");
    }
}

#[test]
fn kept_ports_have_names_at_one_port() {
    let tool = tool();
    let desk = Desk::with("[[listen]]\naddress = \"127.0.0.1:auto\"\nmode = \"leases\"\n");
    let mut desk = desk;
    desk.start();
    let front = desk.address("leases");
    assert_eq!(get(front, "Host: tool.localhost\r\n").0, 404);
    let port = tool.port().to_string();
    let kept = desk.command(&["ports", "lease", "tool", "--port", &port]);
    assert!(kept.status.success(), "{kept:?}");
    until("its name leads there", || {
        let (status, text) = get(front, &format!("Host: tool.localhost:{}\r\n", front.port()));
        status == 200 && text.contains("SECRET-42")
    });
    assert_eq!(get(front, "Host: other.localhost\r\n").0, 404);
    assert_eq!(get(front, "Host: tool.evil.example\r\n").0, 403);
    // What cannot be read changes nothing, and is told.
    let file = desk.path("state/leases.json");
    let whole = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, "[{").unwrap();
    until("it is told", || desk.log().contains("they cannot be read"));
    assert_eq!(get(front, "Host: tool.localhost\r\n").0, 200);
    let check = desk.command(&["check"]);
    let told = String::from_utf8_lossy(&check.stderr).into_owned();
    assert!(told.contains("the kept ports cannot be read"), "{told}");
    std::fs::write(&file, whole).unwrap();
    // A change of the configuration that is not finished is none of a lease's business.
    desk.write(
        "[[listen]]\naddress = \"127.0.0.1:auto\"\nmode = \"leases\"\n[dns]\nno-such-key = 1\n",
    );
    assert!(desk.command(&["ports", "release", "tool"]).status.success());
    until("its name leads nowhere", || {
        get(front, "Host: tool.localhost\r\n").0 == 404
    });
}

fn two_origins(first: SocketAddr, second: SocketAddr) -> String {
    format!(
        "[origin.orders-db]\naddress = \"{first}\"\n[[listen]]\naddress = \"127.0.0.1:auto\"\norigin = \"orders-db\"\n\
         [origin.api]\naddress = \"http://{second}\"\nrequired = false\n\
         [[listen]]\naddress = \"127.0.0.1:auto\"\norigin = \"api\"\n"
    )
}

#[test]
fn an_application_has_its_origins_in_its_environment() {
    let origin = Mortal::born("one");
    let home = tempfile::tempdir().unwrap();
    let text = format!(
        "[gateway]\nstate_dir = \"state\"\nshutdown = \"1s\"\n{}",
        two_origins(origin.address(), free_address())
    );
    std::fs::write(home.path().join("ipreconnect.toml"), text).unwrap();
    let shell = |code: &str| done(home.path(), &["exec", "--wait", "--", "sh", "-c", code]);
    let told = shell(
        "echo $ORDERS_DB_ADDR $ORDERS_DB_HOST:$ORDERS_DB_PORT $API_URL $API_ADDR $ORDERS_DB_URL",
    );
    let told = String::from_utf8(told.stdout).unwrap();
    let told: Vec<&str> = told.split_whitespace().collect();
    assert_eq!(told.len(), 4, "{told:?}");
    assert_eq!(told[0], told[1]);
    assert_eq!(told[2], format!("http://{}", told[3]));
    // Its end is the command's.
    assert_eq!(shell("exit 9").status.code(), Some(9));
    assert_eq!(shell("kill -KILL $$").status.code(), Some(137));
    let missing = done(home.path(), &["exec", "--", "/nonexistent/program"]);
    assert_eq!(missing.status.code(), Some(127));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("cannot be started"));
    // It reaches its origin there, by the gateway that lives as long as it does.
    let code = "exec 3<>/dev/tcp/$ORDERS_DB_HOST/$ORDERS_DB_PORT; echo hello >&3; head -n 1 <&3";
    let told = done(home.path(), &["exec", "--", "bash", "-c", code]);
    assert_eq!(
        String::from_utf8_lossy(&told.stdout),
        "one hello\n",
        "{told:?}"
    );
}

#[test]
fn an_application_is_started_when_what_it_requires_is_there() {
    let mut origin = Mortal::born("one");
    origin.kill();
    let mut desk = Desk::with(&two_origins(origin.address(), free_address()));
    desk.start();
    let late = desk.command(&[
        "exec",
        "--wait",
        "--timeout",
        "300ms",
        "--",
        "echo",
        "started",
    ]);
    assert_eq!(late.status.code(), Some(1));
    assert!(late.stdout.is_empty());
    let told = String::from_utf8_lossy(&late.stderr).into_owned();
    assert!(
        told.contains("waiting for orders-db") && told.contains("refused"),
        "{told}"
    );
    assert!(
        !told.contains("api"),
        "what is not required is not waited for: {told}"
    );
    let mut going = Going::start(
        desk.directory.path(),
        &["exec", "--wait", "--", "echo", "started"],
    );
    origin.revive();
    assert_eq!(going.line(), "started");
    assert_eq!(going.ended(), Some(0));
    // The gateway that was there is there still, and was used.
    assert!(desk.command(&["status"]).status.success());
}

#[test]
fn an_application_is_told_signals_and_started_again_when_its_origin_is_back() {
    let mut origin = Mortal::born("one");
    let mut desk = Desk::with(&two_origins(origin.address(), free_address()));
    desk.start();
    desk.wait_for_phase("orders-db", "up");
    let code = "trap 'echo hup' HUP; trap 'echo term; exit 3' TERM; echo started; while :; do sleep 0.05; done";
    let mut going = Going::start(
        desk.directory.path(),
        &["exec", "--restart", "on-recovery", "--", "sh", "-c", code],
    );
    assert_eq!(going.line(), "started");
    signal(going.pid(), "HUP");
    assert_eq!(going.line(), "hup");
    origin.kill();
    desk.wait_for_phase("orders-db", "down");
    std::thread::sleep(Duration::from_millis(500));
    origin.revive();
    assert_eq!(going.line(), "term");
    assert_eq!(going.line(), "started");
    signal(going.pid(), "TERM");
    assert_eq!(going.line(), "term");
    assert_eq!(going.ended(), Some(3));
}

#[test]
fn a_gateway_that_ends_with_another_application_has_an_heir() {
    let origin = Mortal::born("one");
    let home = tempfile::tempdir().unwrap();
    let text = format!(
        "[gateway]\nstate_dir = \"state\"\nshutdown = \"1s\"\n{}",
        two_origins(origin.address(), free_address())
    );
    std::fs::write(home.path().join("ipreconnect.toml"), text).unwrap();
    let code = "echo $ORDERS_DB_ADDR; while :; do sleep 0.05; done";
    let start = || Going::start(home.path(), &["exec", "--wait", "--", "sh", "-c", code]);
    let mut first = start();
    let address: SocketAddr = first.line().parse().unwrap();
    let (mut second, mut third) = (start(), start());
    for other in [&mut second, &mut third] {
        assert_eq!(other.line(), address.to_string());
    }
    let is_served = || {
        let Ok(mut stream) = TcpStream::connect(address) else {
            return false;
        };
        stream
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        let mut answer = [0; 7];
        stream.write_all(b"hi\n").is_ok()
            && stream.read_exact(&mut answer).is_ok()
            && &answer == b"one hi\n"
    };
    assert!(is_served());
    signal(first.pid(), "TERM");
    assert_eq!(first.ended(), Some(143));
    until("another one serves", is_served);
    assert!(second.told().contains("goes on in its place"));
    // One of them does, and the other one after it.
    let lock = std::fs::read_to_string(home.path().join("state/lock")).unwrap();
    let (mut heir, mut last) = match lock.trim() == second.pid().to_string() {
        true => (second, third),
        false => (third, second),
    };
    signal(heir.pid(), "TERM");
    assert_eq!(heir.ended(), Some(143));
    until("the last one serves", is_served);
    signal(last.pid(), "TERM");
    assert_eq!(last.ended(), Some(143));
}

#[test]
fn an_application_ends_with_whoever_runs_it() {
    let home = tempfile::tempdir().unwrap();
    let desk = Desk::run("");
    let mut going = Going::start(
        desk.directory.path(),
        &[
            "exec",
            "--",
            "sh",
            "-c",
            "echo $$; while :; do sleep 0.05; done",
        ],
    );
    let pid: u32 = going.line().parse().unwrap();
    signal(going.pid(), "KILL");
    going.ended();
    until("it is gone", || {
        !Path::new(&format!("/proc/{pid}")).exists()
    });
    drop(home);
}

#[test]
fn what_an_application_has_started_ends_with_it() {
    let desk = Desk::run("");
    let home = desk.directory.path();
    let is_there = |pid: &str| {
        let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        !state.is_empty() && !state.contains(") Z ")
    };
    // Told to end.
    let code = "sh -c 'echo $$; exec sleep 300' & sleep 300; wait";
    let mut going = Going::start(home, &["exec", "--", "sh", "-c", code]);
    let left = going.line();
    signal(going.pid(), "TERM");
    assert_eq!(going.ended(), Some(143));
    assert!(!is_there(&left), "{left}");
    // Before it is started again, and also what does not listen.
    let code = "sh -c 'trap \"\" TERM; echo $$; while :; do sleep 0.05; done' & sleep 0.3; exit 1";
    let mut going = Going::start(
        home,
        &["exec", "--restart", "on-failure", "--", "sh", "-c", code],
    );
    let first = going.line();
    let second = going.line();
    assert!(!is_there(&first), "{first}");
    signal(going.pid(), "TERM");
    going.ended();
    assert!(!is_there(&second), "{second}");
    // What ends by itself, and is not started again, may leave something.
    let code = "sh -c 'echo $$; exec sleep 300' & sleep 0.3";
    let mut going = Going::start(home, &["exec", "--", "sh", "-c", code]);
    let left = going.line();
    assert_eq!(going.ended(), Some(0));
    assert!(is_there(&left));
    signal(left.parse().unwrap(), "KILL");
}

#[test]
fn an_application_has_the_limits_that_it_would_have_had() {
    let origin = Mortal::born("one");
    let home = tempfile::tempdir().unwrap();
    let text = format!(
        "[gateway]\nstate_dir = \"state\"\n{}",
        two_origins(origin.address(), free_address())
    );
    std::fs::write(home.path().join("ipreconnect.toml"), text).unwrap();
    let shell = format!("ulimit -S -n 321; exec {PROGRAM} exec -- sh -c 'ulimit -S -n'");
    let told = Command::new("sh")
        .args(["-c", &shell])
        .current_dir(home.path())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&told.stdout), "321\n", "{told:?}");
}

#[test]
fn waiting_for_what_is_missing_can_be_ended() {
    let mut origin = Mortal::born("one");
    origin.kill();
    let home = tempfile::tempdir().unwrap();
    let text = format!(
        "[gateway]\nstate_dir = \"state\"\nshutdown = \"1s\"\n{}",
        two_origins(origin.address(), free_address())
    );
    std::fs::write(home.path().join("ipreconnect.toml"), text).unwrap();
    for (name, code) in [("TERM", 143), ("INT", 130), ("HUP", 129)] {
        let mut going = Going::start(home.path(), &["exec", "--wait", "--", "echo", "started"]);
        until("it waits", || {
            going.told().contains("waiting for orders-db")
        });
        signal(going.pid(), name);
        assert_eq!(going.ended(), Some(code), "{name}");
    }
}

#[test]
fn an_application_may_live_on_after_it_was_interrupted() {
    let desk = Desk::run("");
    let home = desk.directory.path();
    let code =
        "trap 'echo int' INT; trap 'echo hup' HUP; echo started; while :; do sleep 0.05; done";
    let mut going = Going::start(
        home,
        &["exec", "--restart", "always", "--", "sh", "-c", code],
    );
    assert_eq!(going.line(), "started");
    // Each is told once, and neither ends it.
    for (name, said) in [("INT", "int"), ("HUP", "hup"), ("INT", "int")] {
        signal(going.pid(), name);
        assert_eq!(going.line(), said);
    }
    signal(going.pid(), "TERM");
    assert_eq!(going.ended(), Some(143));
    // Who ends by it was to end.
    let code = "echo started; exec sleep 300";
    for (name, ends) in [("INT", 130), ("HUP", 129), ("QUIT", 131)] {
        let mut going = Going::start(
            home,
            &["exec", "--restart", "always", "--", "sh", "-c", code],
        );
        assert_eq!(going.line(), "started");
        signal(going.pid(), name);
        assert_eq!(going.ended(), Some(ends), "{name}");
    }
}

#[test]
fn what_is_typed_at_a_terminal_is_told_once() {
    let test = "what_is_typed_at_a_terminal_is_told_once";
    let Some(script) = needed(test, "script") else {
        return;
    };
    let desk = Desk::run("");
    let code = "trap 'echo interrupted' INT; echo started; while :; do sleep 0.05; done";
    let line = format!("{PROGRAM} exec --restart always -- sh -c \"{code}\"");
    let mut child = Command::new(script)
        .args(["-q", "-e", "-c", &line, "/dev/null"])
        .current_dir(desk.directory.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut keys = child.stdin.take().unwrap();
    let mut shown = BufReader::new(child.stdout.take().unwrap());
    let mut next = || {
        let mut line = String::new();
        shown.read_line(&mut line).unwrap();
        line.trim().trim_start_matches("^C").to_owned()
    };
    assert_eq!(next(), "started");
    for _ in 0..3 {
        keys.write_all(b"\x03").unwrap();
        assert_eq!(next(), "interrupted");
    }
    // Ctrl+\ is no trap of it: it ends, and is not started again.
    keys.write_all(b"\x1c").unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(131));
}

#[test]
fn what_comes_to_all_of_a_group_comes_to_an_application_once() {
    let desk = Desk::run("");
    for name in ["TERM", "INT"] {
        let code = format!(
            "trap 'echo told; over=1' {name}; echo started; while [ -z \"$over\" ]; do sleep 0.05; done; sleep 0.5; echo over"
        );
        let mut command = of(
            desk.directory.path(),
            &["exec", "--restart", "always", "--"],
        );
        command.args(["sh", "-c", &code]).stdout(Stdio::piped());
        let mut child = std::os::unix::process::CommandExt::process_group(&mut command, 0)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .map_while(Result::ok);
        assert_eq!(lines.next().as_deref(), Some("started"));
        let group = format!("-{}", child.id());
        let killed = Command::new("kill")
            .args(["-s", name, "--", &group])
            .status();
        assert!(killed.unwrap().success());
        assert_eq!(lines.collect::<Vec<_>>(), ["told", "over"], "{name}");
        assert_eq!(child.wait().unwrap().code(), Some(0), "{name}");
    }
}

/// As in a container: whoever has begun the session, and the process group, has no number there.
#[test]
fn signals_are_told_where_the_session_began_outside() {
    let test = "signals_are_told_where_the_session_began_outside";
    let new = ["--pid", "--fork", "--kill-child", "--mount-proc"];
    let may = Command::new("unshare").args(new).arg("true").status();
    if !may.is_ok_and(|status| status.success()) {
        skipped(test, "it needs root and unshare");
        return;
    }
    let desk = Desk::run("");
    let script = r#"
        mkfifo told
        "$0" exec --restart always -- sh -c '
            trap "echo hup" HUP; trap "echo term; exit 3" TERM
            echo started; while :; do sleep 0.05; done' >told &
        pid=$!
        while read -r line; do
            echo "$line"
            case $line in started) kill -HUP $pid ;; hup) kill -TERM $pid ;; esac
        done <told
        wait $pid
        echo "ended with $?""#;
    let output = Command::new("unshare")
        .args(new)
        .args(["sh", "-c", script, PROGRAM])
        .current_dir(desk.directory.path())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    let told: Vec<_> = told.lines().collect();
    assert_eq!(
        told,
        ["started", "hup", "term", "ended with 3"],
        "{output:?}"
    );
}

#[test]
fn what_was_to_be_ignored_is_ignored() {
    let desk = Desk::run("");
    let code = "echo started; while :; do sleep 0.05; done";
    let mut child = Command::new("sh")
        .args(["-c", "trap '' HUP INT; exec \"$@\"", "sh", PROGRAM])
        .args(["exec", "--", "sh", "-c", code])
        .current_dir(desk.directory.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok);
    assert_eq!(lines.next().as_deref(), Some("started"));
    let ignored = |pid: u32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let mask = status
            .lines()
            .find_map(|line| line.strip_prefix("SigIgn:\t"));
        u64::from_str_radix(mask.unwrap(), 16).unwrap() & 0b11
    };
    let mut pids = vec![child.id()];
    while let Some(pid) = pids.pop() {
        assert_eq!(ignored(pid), 0b11, "process {pid}");
        let children = Command::new("pgrep")
            .args(["-P", &pid.to_string()])
            .output()
            .unwrap();
        let children = String::from_utf8_lossy(&children.stdout).into_owned();
        let shell = children.lines().filter_map(|pid| pid.parse().ok());
        // What the shell starts comes and goes.
        let names = |pid: &u32| {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm"));
            name.is_ok_and(|name| name.trim() != "sleep")
        };
        pids.extend(shell.filter(names));
    }
    signal(child.id(), "HUP");
    signal(child.id(), "TERM");
    assert_eq!(child.wait().unwrap().code(), Some(143));
}

#[test]
fn who_is_told_to_end_while_it_is_started_again_ends() {
    let mut origin = Mortal::born("one");
    let mut desk = Desk::with(&two_origins(origin.address(), free_address()));
    desk.start();
    desk.wait_for_phase("orders-db", "up");
    let code = "trap 'echo term; sleep 2; exit 0' TERM; echo started; while :; do sleep 0.05; done";
    let mut going = Going::start(
        desk.directory.path(),
        &["exec", "--restart", "on-recovery", "--", "sh", "-c", code],
    );
    assert_eq!(going.line(), "started");
    origin.kill();
    desk.wait_for_phase("orders-db", "down");
    std::thread::sleep(Duration::from_millis(500));
    origin.revive();
    assert_eq!(going.line(), "term");
    signal(going.pid(), "TERM");
    assert!(going.ended().is_some());
    assert_eq!(going.line(), "", "it is not started again");
}

#[test]
fn who_has_left_the_terminal_is_told_what_is_typed() {
    let test = "who_has_left_the_terminal_is_told_what_is_typed";
    let (Some(script), Some(_)) = (needed(test, "script"), needed(test, "setsid")) else {
        return;
    };
    let desk = Desk::run("");
    let code = "trap 'echo interrupted' INT; echo started; while :; do sleep 0.05; done";
    let line = format!("{PROGRAM} exec -- setsid sh -c \"{code}\"");
    let mut child = Command::new(script)
        .args(["-q", "-e", "-c", &line, "/dev/null"])
        .current_dir(desk.directory.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut keys = child.stdin.take().unwrap();
    let shown = BufReader::new(child.stdout.take().unwrap());
    let mut shown = shown.lines().map_while(Result::ok);
    let mut next = || {
        shown
            .next()
            .map(|line| line.trim().trim_start_matches("^C").to_owned())
    };
    assert_eq!(next().as_deref(), Some("started"));
    keys.write_all(b"\x03").unwrap();
    assert_eq!(next().as_deref(), Some("interrupted"));
    keys.write_all(b"\x1c").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(131));
}
