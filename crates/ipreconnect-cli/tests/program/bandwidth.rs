//! How many bytes a second, of whom.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::access::dial_from;
use crate::desk::{Desk, dial, one, until};
use crate::servers::needed;

const MIB: usize = 1 << 20;

/// Says so much to whoever comes, once it was told anything.
fn talks(length: usize) -> SocketAddr {
    let origin = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = origin.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in origin.incoming() {
            std::thread::spawn(move || {
                let mut stream = stream.unwrap();
                if stream.read(&mut [0; 64]).is_ok_and(|count| count > 0) {
                    let _ = stream.write_all(&vec![7; length]);
                }
            });
        }
    });
    address
}

/// Reads all that comes.
fn listens(length: usize) -> SocketAddr {
    let origin = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = origin.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in origin.incoming() {
            std::thread::spawn(move || {
                let mut stream = stream.unwrap();
                let mut all = vec![0; length];
                if stream.read_exact(&mut all).is_ok() {
                    let _ = stream.write_all(b"k");
                }
            });
        }
    });
    address
}

/// Answers each request over HTTP with so many bytes, after all of its body.
fn answers(length: usize) -> SocketAddr {
    let origin = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = origin.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in origin.incoming() {
            std::thread::spawn(move || {
                let mut stream = stream.unwrap();
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") {
                    if stream.read(&mut byte).unwrap_or(0) == 0 {
                        return;
                    }
                    head.push(byte[0]);
                }
                let head = String::from_utf8(head).unwrap().to_lowercase();
                let body = head.split("content-length: ").nth(1);
                let body = body.and_then(|rest| rest.lines().next()?.parse().ok());
                let mut body = vec![0; body.unwrap_or(0)];
                if stream.read_exact(&mut body).is_ok() {
                    let head = format!(
                        "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
                    );
                    let _ = stream.write_all(head.as_bytes());
                    let _ = stream.write_all(&vec![7; length]);
                }
            });
        }
    });
    address
}

/// What somebody gets that says this, and how long it takes.
fn takes(front: SocketAddr, from: [u8; 4], says: &[u8]) -> (usize, Duration) {
    let began = Instant::now();
    let mut stream = dial_from(front, from);
    stream.write_all(says).unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    (all.len(), began.elapsed())
}

/// The same of several at once; the time is that of all together.
fn take(front: SocketAddr, from: &[[u8; 4]], says: &[u8]) -> (Vec<usize>, Duration) {
    let began = Instant::now();
    let took = std::thread::scope(|scope| {
        let threads: Vec<_> = from
            .iter()
            .map(|from| scope.spawn(move || takes(front, *from, says).0))
            .collect();
        threads.into_iter().map(|one| one.join().unwrap()).collect()
    });
    (took, began.elapsed())
}

#[test]
fn connections_of_one_source_share_what_it_may_carry() {
    let desk = Desk::run(&format!(
        "{}limits = {{ bandwidth_per_source = \"2MiB\" }}\n",
        one(talks(MIB))
    ));
    let front = desk.address("a");
    let others = std::thread::spawn(move || {
        let began = Instant::now();
        for _ in 0..4 {
            assert_eq!(takes(front, [127, 0, 0, 9], b"x").0, MIB);
        }
        began.elapsed()
    });
    let (took, time) = take(front, &[[127, 0, 0, 1]; 6], b"x");
    assert_eq!(took, [MIB; 6]);
    // Six together are held to the rate, and so is one after the other.
    assert!(time > Duration::from_millis(2_800), "{time:?}");
    let time = others.join().unwrap();
    assert!(time > Duration::from_millis(1_800), "{time:?}");
    // We did not read: the origin is as good as ever.
    assert!(!desk.log().contains("suspect"), "{}", desk.log());
    assert_eq!(desk.origin("a")["phase"], "up");

    desk.write(&format!(
        "{}limits = {{ bandwidth_per_source = \"2GiB\" }}\n",
        one(talks(MIB))
    ));
    assert!(desk.command(&["reload"]).status.success());
    let (_, free) = take(front, &[[127, 0, 0, 1]; 6], b"x");
    assert!(free < time, "{free:?}");
}

#[test]
fn all_clients_of_a_listener_share_what_it_may_carry() {
    let desk = Desk::run(&format!(
        "{}limits = {{ bandwidth = \"2MiB\" }}\n",
        one(listens(MIB))
    ));
    let from = [
        [127, 0, 0, 1],
        [127, 0, 0, 2],
        [127, 0, 0, 3],
        [127, 0, 0, 4],
    ];
    let said = vec![7; MIB];
    let (took, time) = take(desk.address("a"), &from, &said);
    assert_eq!(took, [1; 4]);
    assert!(time > Duration::from_millis(1_800), "{time:?}");
}

#[test]
fn answers_and_requests_over_http_share_it_too() {
    let text = |limits: &str| {
        format!(
            "[origin.a]\naddress = \"{}\"\n[[listen]]\naddress = \"127.0.0.1:auto\"\nmode = \"http\"\norigin = \"a\"\n\
             limits = {{ {limits} }}\n",
            answers(MIB)
        )
    };
    let desk = Desk::run(&text("bandwidth_per_source = \"2MiB\", stall = \"200ms\""));
    let front = desk.address("a");
    let get = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let (took, time) = take(front, &[[127, 0, 0, 1]; 4], get);
    assert!(took.iter().all(|length| *length > MIB), "{took:?}");
    assert!(time > Duration::from_millis(1_800), "{time:?}");

    let head = format!(
        "POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {MIB}\r\n\r\n"
    );
    let mut post = head.into_bytes();
    post.extend(vec![7; MIB]);
    let (took, time) = take(front, &[[127, 0, 0, 2]; 4], &post);
    assert!(took.iter().all(|length| *length > MIB), "{took:?}");
    assert!(time > Duration::from_millis(1_800), "{time:?}");
    assert!(!desk.log().contains("suspect"), "{}", desk.log());
}

#[test]
fn clients_of_http2_and_of_tls_share_it_too() {
    let Some(curl) = needed("clients_of_http2_and_of_tls_share_it_too", "curl") else {
        return;
    };
    let listen = |name: &str, mode: &str, more: &str| {
        format!(
            "[[listen]]\nname = \"{name}\"\naddress = \"127.0.0.1:auto\"\nmode = \"{mode}\"\norigin = \"a\"\n\
             limits = {{ bandwidth_per_source = \"2MiB\" }}\n{more}"
        )
    };
    let desk = Desk::run(&format!(
        "[origin.a]\naddress = \"http://{}\"\n{}{}",
        answers(MIB),
        listen("h2", "http", ""),
        listen("sealed", "tcp", "tls = \"internal\"\n")
    ));
    for (listener, arguments) in [
        ("h2", ["--http2-prior-knowledge", "http"]),
        ("sealed", ["--insecure", "https"]),
    ] {
        let [option, scheme] = arguments;
        let url = format!("{scheme}://{}/", desk.address(listener));
        let began = Instant::now();
        let children: Vec<_> = (0..4)
            .map(|_| {
                Command::new(&curl)
                    .args([
                        "--silent",
                        "--fail",
                        "--max-time",
                        "60",
                        "--output",
                        "/dev/null",
                    ])
                    .args(["--write-out", "%{size_download}", option, &url])
                    .stdout(Stdio::piped())
                    .spawn()
                    .unwrap()
            })
            .collect();
        let outputs = children
            .into_iter()
            .map(|child| child.wait_with_output().unwrap());
        for output in outputs.collect::<Vec<_>>() {
            assert!(output.status.success(), "{listener}: {output:?}");
            assert_eq!(output.stdout, MIB.to_string().as_bytes(), "{listener}");
        }
        let time = began.elapsed();
        assert!(time > Duration::from_millis(1_700), "{listener}: {time:?}");
    }
    assert!(!desk.log().contains("suspect"), "{}", desk.log());
}

#[test]
fn connections_to_a_listener_come_at_its_rate() {
    let desk = Desk::run(&format!(
        "{}limits = {{ connects = \"20/s\" }}\n",
        one(talks(1))
    ));
    let from: Vec<_> = (0..30).map(|last| [127, 0, 1, last]).collect();
    let (took, time) = take(desk.address("a"), &from, b"x");
    assert_eq!(took, [1; 30], "nobody is sent away");
    assert!(time > Duration::from_millis(1_000), "{time:?}");
    until("all have gone", || {
        desk.status()["listeners"]["listeners"][0]["carrying"] == 0
    });
}

#[test]
fn the_kernel_paces_a_connection() {
    const LENGTH: usize = 4 << 20;
    let origin = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = origin.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in origin.incoming() {
            std::thread::spawn(move || stream.unwrap().write_all(&vec![7; LENGTH]));
        }
    });
    let desk = Desk::run(&format!(
        "{}limits = {{ bandwidth_per_connection = \"2MiB\" }}\n",
        one(address)
    ));
    let began = Instant::now();
    let mut stream = dial(desk.address("a"));
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    assert_eq!(all.len(), LENGTH);
    // The first segments go at once; without a limit it takes some milliseconds.
    assert!(
        began.elapsed() > Duration::from_millis(1_000),
        "{:?}",
        began.elapsed()
    );
}
