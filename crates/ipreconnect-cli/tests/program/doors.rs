//! Where it listens: ports that are kept, sockets that were opened for it, files of Unix sockets.

use std::net::{Ipv6Addr, SocketAddr, TcpListener};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::Command;
use std::time::Duration;

use ipreconnect_lab::namespace::skipped;

use crate::desk::{Desk, PROGRAM, ask, dial, free_address, line_server, one, until};
use crate::servers::{is_root, needed};

#[test]
fn a_port_is_kept_over_restarts_and_another_one_is_taken_when_it_is_gone() {
    let text = one(line_server("one"));
    let mut desk = Desk::run(&text);
    let front = desk.address("a");
    let ephemeral = ipreconnect_ports::ephemeral().unwrap();
    assert!(
        !ephemeral.contains(&front.port()) || ephemeral.contains(&65_535),
        "the kernel may give {front} to a connection"
    );
    desk.signal("TERM");
    assert_eq!(desk.ended(), Some(0));
    desk.start();
    assert_eq!(desk.address("a"), front);
    desk.signal("TERM");
    assert_eq!(desk.ended(), Some(0));

    let holder = TcpListener::bind(front).unwrap();
    desk.start();
    let other = desk.address("a");
    assert_ne!(other, front);
    let log = desk.log();
    assert!(
        log.contains("the port that it had is taken, and it has moved"),
        "{log}"
    );
    assert!(log.contains(&format!("before={}", front.port())), "{log}");
    assert!(
        log.contains(&format!("pid {}", std::process::id())),
        "{log}"
    );
    assert_eq!(ask(&mut dial(other), "hello\n"), "one hello\n");
    // A reload does not move it.
    desk.write(&format!("{text}# changed\n"));
    assert!(desk.command(&["reload"]).status.success());
    assert_eq!(desk.address("a"), other);
    desk.signal("TERM");
    assert_eq!(desk.ended(), Some(0));
    drop(holder);
    desk.start();
    assert_eq!(desk.address("a"), other, "the last one counts");
    desk.signal("TERM");
    assert_eq!(desk.ended(), Some(0));

    let _holder = TcpListener::bind(other).unwrap();
    desk.write(&text.replace(
        "origin = \"a\"\n",
        "origin = \"a\"\non_conflict = \"refuse\"\n",
    ));
    let refused = desk.command(&["run"]);
    assert_eq!(refused.status.code(), Some(2));
    let told = String::from_utf8(refused.stderr).unwrap();
    assert!(
        told.contains(&format!("cannot listen on {other}: it is held by")),
        "{told}"
    );
}

#[test]
fn files_of_unix_sockets_are_for_whom_they_are_meant() {
    let listen = |mode: &str| {
        format!(
            "[origin.a]\naddress = \"{}\"\n[[listen]]\naddress = [\"unix:a.sock\", \"unix:@ipreconnect-test-{}\"]\norigin = \"a\"\nunix = {{ {mode} }}\n",
            line_server("one"),
            std::process::id()
        )
    };
    let mut desk = Desk::run(&listen("mode = \"0620\""));
    let path = desk.path("a.sock");
    let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(), 0o620);
    let mut stream = UnixStream::connect(&path).unwrap();
    let said = |stream: &mut UnixStream| {
        use std::io::{Read, Write};
        stream.write_all(b"hello\n").unwrap();
        let mut answer = [0; 10];
        stream.read_exact(&mut answer).unwrap();
        String::from_utf8(answer.to_vec()).unwrap()
    };
    assert_eq!(said(&mut stream), "one hello\n");
    let name = format!("ipreconnect-test-{}", std::process::id());
    let hidden = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let mut hidden = UnixStream::connect_addr(&hidden).unwrap();
    assert_eq!(said(&mut hidden), "one hello\n");
    // A reload changes the file, and not who is connected.
    desk.write(&listen("mode = \"0600\""));
    assert!(desk.command(&["reload"]).status.success());
    assert_eq!(mode(), 0o600);
    assert_eq!(said(&mut stream), "one hello\n");
    if is_root() {
        desk.write(&listen("owner = \"nobody\", group = \"daemon\""));
        assert!(desk.command(&["reload"]).status.success());
        assert_eq!(
            Some(std::fs::metadata(&path).unwrap().uid()),
            ipreconnect_ports::user_id("nobody")
        );
        assert_eq!(
            Some(std::fs::metadata(&path).unwrap().gid()),
            ipreconnect_ports::group_id("daemon")
        );
    }
    desk.write(&listen("owner = \"nobody at all\""));
    let told = String::from_utf8(desk.command(&["check"]).stderr).unwrap();
    assert!(told.contains("is nobody on this machine"), "{told}");

    // What is no longer said is as it was made, and whoever may write there leads nobody to another file.
    desk.write(&listen(""));
    assert!(desk.command(&["reload"]).status.success());
    let made = mode();
    assert!(made & 0o600 == 0o600 && made != 0o620, "{made:o}");
    let secret = desk.path("secret");
    std::fs::write(&secret, "mine").unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::rename(&path, desk.path("aside")).unwrap();
    std::os::unix::fs::symlink(&secret, &path).unwrap();
    desk.write(&listen("mode = \"0666\""));
    desk.command(&["reload"]);
    let found = std::fs::metadata(&secret).unwrap().permissions().mode() & 0o777;
    assert_eq!(found, 0o600);
    std::fs::rename(desk.path("aside"), &path).unwrap();

    // A second gateway does not take the name of one that runs; what a killed one left it replaces.
    let second = Desk::with(&listen("mode = \"0600\""));
    let refused = second.command(&["run"]);
    assert_eq!(refused.status.code(), Some(2));
    let told = String::from_utf8(refused.stderr).unwrap();
    assert!(
        told.contains(&format!("cannot listen on unix:@{name}: it is held by")),
        "{told}"
    );
    desk.write(&listen("mode = \"0600\""));
    desk.signal("KILL");
    desk.ended();
    assert!(path.exists());
    desk.start();
    assert_eq!(
        said(&mut UnixStream::connect(&path).unwrap()),
        "one hello\n"
    );
}

#[test]
fn another_program_on_the_other_localhost_is_told_of() {
    let test = "another_program_on_the_other_localhost_is_told_of";
    let address = free_address();
    let twin = SocketAddr::from((Ipv6Addr::LOCALHOST, address.port()));
    let Ok(_twin) = TcpListener::bind(twin) else {
        skipped(test, "there is no [::1] here");
        return;
    };
    let desk = Desk::run(&one(line_server("one")).replace("127.0.0.1:auto", &address.to_string()));
    let log = desk.log();
    assert!(
        log.contains("whoever asks for localhost may reach another program"),
        "{log}"
    );
    assert!(
        log.contains(&format!("pid {}", std::process::id())),
        "{log}"
    );
    // `localhost` is both, and so the same port must be free in both.
    let both = Desk::with(
        &one(line_server("one"))
            .replace("127.0.0.1:auto", &format!("localhost:{}", address.port())),
    );
    let refused = both.command(&["run"]);
    assert_eq!(refused.status.code(), Some(2));
    let told = String::from_utf8(refused.stderr).unwrap();
    assert!(told.contains("is held by"), "{told}");
}

#[test]
fn sockets_of_the_service_manager_are_taken_over() {
    let test = "sockets_of_the_service_manager_are_taken_over";
    let Some(activate) = needed(test, "systemd-socket-activate") else {
        return;
    };
    let address = free_address();
    let mut desk =
        Desk::with(&one(line_server("one")).replace("127.0.0.1:auto", &address.to_string()));
    let notices = UnixDatagram::bind(desk.path("notify")).unwrap();
    notices
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let heard = || {
        let mut buffer = [0; 512];
        let count = notices.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..count]).into_owned()
    };
    let mut first = None;
    // It is started by the first who connects.
    let client = std::thread::spawn(move || {
        until("the socket is open", || {
            first = std::net::TcpStream::connect(address).ok();
            first.is_some()
        });
        ask(&mut first.unwrap(), "hello\n")
    });
    let notify = desk.path("notify");
    desk.start_by(
        Command::new(activate)
            .args([
                "-l",
                &address.to_string(),
                "-E",
                "NOTIFY_SOCKET",
                "-E",
                "WATCHDOG_USEC",
                PROGRAM,
                "run",
            ])
            .env("NOTIFY_SOCKET", &notify)
            .env("WATCHDOG_USEC", "400000"),
    );
    assert_eq!(client.join().unwrap(), "one hello\n");
    assert_eq!(heard(), "READY=1\n");
    assert_eq!(heard(), "WATCHDOG=1\n");
    let changed =
        |more: &str| one(line_server("two")).replace("127.0.0.1:auto", &address.to_string()) + more;
    desk.write(&changed(""));
    assert!(desk.command(&["reload"]).status.success());
    until("the reload is told", || {
        let told = heard();
        assert!(
            told == "WATCHDOG=1\n" || told.starts_with("RELOADING=1\nMONOTONIC_USEC="),
            "{told}"
        );
        told.starts_with("RELOADING")
    });
    until("it is ready again", || heard() == "READY=1\n");
    until("the other origin answers", || {
        ask(&mut dial(address), "hello\n") == "two hello\n"
    });
    // A listener that goes away and comes again has the socket that was passed.
    let elsewhere = changed("").replace(&address.to_string(), "127.0.0.1:auto");
    desk.write(&elsewhere);
    assert!(desk.command(&["reload"]).status.success());
    desk.write(&changed(""));
    assert!(desk.command(&["reload"]).status.success());
    until("the other origin answers", || {
        ask(&mut dial(address), "hello\n") == "two hello\n"
    });
    desk.signal("TERM");
    until("its end is told", || heard() == "STOPPING=1\n");
    assert_eq!(desk.ended(), Some(0));
}

#[test]
fn sockets_that_nobody_listens_on_are_told_of() {
    let test = "sockets_that_nobody_listens_on_are_told_of";
    let Some(activate) = needed(test, "systemd-socket-activate") else {
        return;
    };
    let (wanted, other) = (free_address(), free_address());
    let mut desk = Desk::with(&format!("{}name = \"front\"\n", one(line_server("one"))));
    let client = std::thread::spawn(move || {
        until("the socket is open", || {
            std::net::TcpStream::connect(other).is_ok()
        });
    });
    desk.start_by(Command::new(activate).args([
        "-l",
        &wanted.to_string(),
        "-l",
        &other.to_string(),
        "--fdname=front:spare",
        PROGRAM,
        "run",
    ]));
    client.join().unwrap();
    // One has its name, and takes any port.
    assert_eq!(desk.address("front"), wanted);
    let log = desk.log();
    assert!(
        log.contains("a socket was passed to us, and no listener is for it"),
        "{log}"
    );
    assert!(log.contains("spare"), "{log}");
}
