//! UDP through the program: real name servers, the reload, what is shown.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::desk::{Desk, PROGRAM, free_address, until};
use crate::servers::{Server, needed};

fn client(front: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(front).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    socket
}

/// A server that answers each datagram with its name and what it was asked.
fn server(name: &'static str) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 2_048];
        while let Ok((count, from)) = socket.recv_from(&mut buffer) {
            let answer = [name.as_bytes(), &buffer[..count]].concat();
            let _ = socket.send_to(&answer, from);
        }
    });
    address
}

fn ask(socket: &UdpSocket, question: &str) -> String {
    socket.send(question.as_bytes()).unwrap();
    let mut answer = [0; 2_048];
    let count = socket.recv(&mut answer).unwrap();
    String::from_utf8_lossy(&answer[..count]).into_owned()
}

fn origin(addresses: &[SocketAddr]) -> String {
    let quoted: Vec<String> = addresses.iter().map(|one| format!("\"{one}\"")).collect();
    format!(
        "[origin.a]\naddress = [{}]\nprotocol = \"udp\"\n\
         [[listen]]\naddress = \"127.0.0.1:auto\"\norigin = \"a\"\n",
        quoted.join(", ")
    )
}

fn name_server(program: &Path, at: SocketAddr, answer: Ipv4Addr) -> Server {
    let server = Server::start(Command::new(program).args([
        "--no-daemon",
        "--conf-file=/dev/null",
        "--no-resolv",
        "--no-hosts",
        "--user=root",
        "--pid-file=",
        "--bind-interfaces",
        &format!("--listen-address={}", at.ip()),
        &format!("--port={}", at.port()),
        &format!("--address=/who.test/{answer}"),
    ]));
    until("the name server answers", || look_up(&client(at)).is_some());
    server
}

/// Asks for the address of `who.test` (RFC 1035, section 4); of an answer, its last four bytes.
fn look_up(socket: &UdpSocket) -> Option<Ipv4Addr> {
    let mut question = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in ["who", "test"] {
        question.push(label.len() as u8);
        question.extend(label.as_bytes());
    }
    question.extend([0, 0, 1, 0, 1]);
    socket.send(&question).ok()?;
    let mut answer = [0; 512];
    let count = socket.recv(&mut answer).ok()?;
    let last: [u8; 4] = answer[..count].last_chunk().copied()?;
    (answer[..2] == question[..2]).then_some(last.into())
}

#[test]
fn a_name_server_that_is_killed_is_not_missed() {
    let test = "a_name_server_that_is_killed_is_not_missed";
    let Some(program) = needed(test, "dnsmasq") else {
        return;
    };
    let (first, second) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
    let (one, two) = (free_address(), free_address());
    let preferred = name_server(&program, one, first);
    let _backup = name_server(&program, two, second);
    let desk = Desk::run(&origin(&[one, two]));
    let front = desk.address("a");
    let resolver = client(front);
    assert_eq!(look_up(&resolver), Some(first));
    preferred.kill();
    for _ in 0..20 {
        let began = Instant::now();
        assert_eq!(look_up(&resolver), Some(second));
        assert!(
            began.elapsed() < Duration::from_secs(1),
            "{:?}",
            began.elapsed()
        );
    }
    let _preferred = name_server(&program, one, first);
    until("new clients go to the preferred one again", || {
        look_up(&client(front)) == Some(first)
    });
}

#[test]
fn udp_is_shown_checked_and_reloaded() {
    let (x, y) = (server("x"), server("y"));
    let desk = Desk::run(&origin(&[x]));
    let front = desk.address("a");
    let one = client(front);
    assert_eq!(ask(&one, "1"), "x1");

    let text = String::from_utf8(desk.command(&["status"]).stdout).unwrap();
    assert!(text.contains(&format!("{front}/udp -> a")), "{text}");
    assert!(text.contains("1 carried now, 1 accepted"), "{text}");
    assert!(text.contains(&format!("{x}/udp")), "{text}");
    let text = String::from_utf8(desk.command(&["check"]).stdout).unwrap();
    assert!(text.contains("127.0.0.1:auto/udp"), "{text}");

    desk.write(&origin(&[y]));
    assert!(desk.command(&["reload"]).status.success());
    until("the session goes to the new server", || {
        ask(&one, "2") == "y2"
    });
    assert_eq!(desk.address("a"), front);
}

#[test]
fn a_listener_changes_from_tcp_to_udp() {
    let x = server("x");
    let tcp = format!(
        "[origin.a]\naddress = \"{x}\"\n[[listen]]\naddress = \"{}\"\norigin = \"a\"\n",
        free_address()
    );
    let desk = Desk::run(&tcp);
    let front = desk.address("a");
    desk.write(&tcp.replace("[[listen]]", "protocol = \"udp\"\n[[listen]]"));
    let output = desk.command(&["reload"]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    until("udp is listened on", || ask(&client(front), "1") == "x1");
}

#[test]
fn an_origin_on_the_command_line_may_speak_udp() {
    let (x, front) = (server("x"), free_address());
    let home = tempfile::tempdir().unwrap();
    let _gateway = Server::start(
        Command::new(PROGRAM)
            .args(["run", "--listen", &front.to_string(), "--origin"])
            .arg(format!("udp://{x}"))
            .env("XDG_STATE_HOME", home.path())
            .current_dir(home.path()),
    );
    let asker = client(front);
    until("it answers", || {
        asker.send(b"1").is_ok() && asker.recv(&mut [0; 16]).is_ok()
    });
    assert_eq!(ask(&asker, "2"), "x2");
}
