//! A network with another machine in it, in namespaces of the test's own: who is a neighbour, and what names are
//! worth.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ipreconnect_lab::namespace::{self, run};

use crate::desk::{Desk, PROGRAM, line_server, one, until};
use crate::servers::Server;

/// Another machine: a network namespace that lives as long as this.
struct Neighbour(Child);

impl Neighbour {
    /// Joined to this one by a link, on which it has some addresses.
    fn join(here: &str, there: &[&str]) -> Self {
        let child = Command::new("unshare")
            .args(["-n", "sleep", "600"])
            .spawn()
            .unwrap();
        let neighbour = Self(child);
        let pid = neighbour.0.id().to_string();
        let own = std::fs::read_link("/proc/self/ns/net").unwrap();
        until("it has a namespace of its own", || {
            std::fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|its| its != own)
        });
        run(
            "ip",
            &[
                "link", "add", "lan", "type", "veth", "peer", "name", "lan", "netns", &pid,
            ],
        );
        run("ip", &["address", "add", here, "dev", "lan"]);
        run("ip", &["link", "set", "lan", "up"]);
        for address in there {
            neighbour.run(&["ip", "address", "add", address, "dev", "lan"]);
        }
        neighbour.run(&["ip", "link", "set", "lan", "up"]);
        neighbour
    }

    fn run(&self, words: &[&str]) {
        let pid = self.0.id().to_string();
        run("nsenter", &[&["-t", &pid, "-n"], words].concat());
    }

    /// What it is told that says hello from one of its addresses.
    fn hears(&self, from: &str, to: &str, port: u16) -> String {
        let pid = self.0.id().to_string();
        let script = format!(
            "import socket\ns = socket.create_connection(('{to}', {port}), 10, ('{from}', 0))\n\
             try:\n s.sendall(b'hello\\n')\n print(s.recv(64).decode(), end='')\nexcept OSError: pass\n"
        );
        let output = Command::new("nsenter")
            .args(["-t", &pid, "-n", "python3", "-c", &script])
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn neighbours_are_known_by_their_network_and_by_names_that_lead_back() {
    let test = "lan::neighbours_are_known_by_their_network_and_by_names_that_lead_back";
    let needs: [(&str, &[&str]); 4] = [
        ("nsenter", &["-V"]),
        ("dnsmasq", &["--version"]),
        ("python3", &["-V"]),
        ("unshare", &["-m", "true"]),
    ];
    if !namespace::inside(test, &needs) {
        return;
    }
    let near = [
        "10.77.0.2/24",
        "10.77.0.3/24",
        "10.77.0.4/24",
        "10.88.0.2/24",
    ];
    let neighbour = Neighbour::join("10.77.0.1/24", &near);
    run("ip", &["route", "add", "10.88.0.0/24", "dev", "lan"]);
    // The name of the third leads elsewhere: whoever owns an address may call it what he likes.
    let _names = Server::start(Command::new("dnsmasq").args([
        "--keep-in-foreground",
        "--no-resolv",
        "--no-hosts",
        "--listen-address=127.0.0.1",
        "--bind-interfaces",
        "--user=root",
        "--pid-file=",
        "--address=/db.example.test/10.77.0.2",
        "--ptr-record=2.0.77.10.in-addr.arpa,db.example.test",
        "--ptr-record=3.0.77.10.in-addr.arpa,db.example.test",
    ]));
    let text = |rules: &str| {
        format!(
            "{}public = true\n{rules}",
            one(line_server("one")).replace("127.0.0.1:auto", "10.77.0.1:7000")
        )
    };
    let mut desk = Desk::with(&text(
        "[[access]]\nfrom = \"samenet\"\nmethod = \"trust\"\n",
    ));
    std::fs::write(
        desk.path("resolv.conf"),
        "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n",
    )
    .unwrap();
    let resolv = desk.path("resolv.conf").display().to_string();
    let script = format!("mount --bind {resolv} /etc/resolv.conf && exec {PROGRAM} run");
    desk.start_by(Command::new("unshare").args(["-m", "sh", "-c", &script]));
    let hears = |from: &str| neighbour.hears(from, "10.77.0.1", 7000);
    assert_eq!(hears("10.77.0.2"), "one hello\n");
    assert_eq!(hears("10.88.0.2"), "", "another network");
    // A network that is joined later is one, too.
    run("ip", &["address", "add", "10.88.0.1/24", "dev", "lan"]);
    until("it is seen", || hears("10.88.0.2") == "one hello\n");

    let by_name = "[[access]]\nfrom = \"db.example.test\"\nmethod = \"trust\"\n[[access]]\nfrom = \".other.test\"\nmethod = \"trust\"\n";
    desk.write(&text(by_name));
    assert!(desk.command(&["reload"]).status.success());
    assert_eq!(hears("10.77.0.2"), "one hello\n");
    assert_eq!(hears("10.77.0.3"), "", "its name leads elsewhere");
    assert_eq!(hears("10.77.0.4"), "", "it has no name");
    let why = desk.command(&["why", "a", "--from", "10.77.0.3"]);
    let told = String::from_utf8(why.stdout).unwrap();
    assert!(told.contains("or none that leads back to it"), "{told}");

    // A resolver that never answers holds nobody up but those whose name is needed, and them not for long.
    std::fs::write(
        desk.path("resolv.conf"),
        "nameserver 10.77.0.99\noptions timeout:30 attempts:3\n",
    )
    .unwrap();
    desk.write(&text(&format!(
        "[[access]]\nfrom = \"10.77.0.2\"\nmethod = \"trust\"\n{by_name}"
    )));
    assert!(desk.command(&["reload"]).status.success());
    let began = std::time::Instant::now();
    let slow = std::thread::scope(|scope| {
        let slow = scope.spawn(|| neighbour.hears("10.88.0.2", "10.77.0.1", 7000));
        assert_eq!(hears("10.77.0.2"), "one hello\n");
        slow.join().unwrap()
    });
    assert_eq!(slow, "");
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "{:?}",
        began.elapsed()
    );
}
