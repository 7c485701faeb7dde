//! Real resolvers: BIND with zones that are signed, unsigned and broken, and unbound before it, over
//! UDP, TLS and HTTPS.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::desk::{Desk, PROGRAM, ask, dial, find, free_address, line_server, until};
use crate::servers::{Server, needed};

/// A root of one's own: `db.secure` is signed, `db.plain` is not, `db.bogus` is signed by a key that its
/// parent does not know, and `db.turn` is as it is told to be.
struct Root {
    directory: tempfile::TempDir,
    address: SocketAddr,
    anchor: String,
    turn_key: String,
    bogus_ds: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    Signed,
    Unsigned,
}

fn run(program: &str, arguments: &[&str], directory: &Path) -> String {
    let output = Command::new(find(program).unwrap())
        .args(arguments)
        .current_dir(directory)
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {words}");
    String::from_utf8(output.stdout).unwrap()
}

impl Root {
    fn make() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        let key = |zone: &str| {
            let arguments = ["-q", "-a", "ECDSAP256SHA256", "-f", "KSK", zone];
            run("dnssec-keygen", &arguments, at).trim().to_owned()
        };
        let (root, turn, bogus, other) = (key("."), key("turn"), key("bogus"), key("bogus"));
        let ds = run("dnssec-dsfromkey", &["-2", &other], at);
        // What signs the zone is the one that the parent does not know.
        for end in ["key", "private"] {
            std::fs::remove_file(at.join(format!("{other}.{end}"))).unwrap();
        }
        let anchor = std::fs::read_to_string(at.join(format!("{root}.key"))).unwrap();
        let root = Self {
            address: free_address(),
            anchor,
            turn_key: turn,
            bogus_ds: ds,
            directory,
        };
        root.sign("bogus", "");
        std::fs::write(root.path("plain.zone"), zone("plain", "")).unwrap();
        drop(bogus);
        root
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn sign(&self, name: &str, more: &str) {
        let file = if name == "." { "root" } else { name };
        std::fs::write(self.path(file), zone(name, more)).unwrap();
        let (out, origin) = (
            format!("{file}.zone"),
            format!("{}.", name.trim_end_matches('.')),
        );
        let arguments = ["-S", "-z", "-K", ".", "-o", &origin, "-f", &out, file];
        run("dnssec-signzone", &arguments, self.directory.path());
    }

    /// The name server, with the zone `turn` signed or not.
    fn serve(&self, turn: Turn) -> Server {
        let mut more = format!("db.secure IN A 127.0.0.1\n{}", self.bogus_ds);
        for child in ["bogus", "plain", "turn"] {
            writeln!(more, "{child} IN NS ns").unwrap();
        }
        match turn {
            Turn::Signed => {
                self.sign("turn", "");
                let ds = ["-2", self.turn_key.as_str()];
                more.push_str(&run("dnssec-dsfromkey", &ds, self.directory.path()));
            }
            Turn::Unsigned => {
                std::fs::write(self.path("turn.zone"), zone("turn", "")).unwrap();
            }
        }
        self.sign(".", &more);
        let mut conf = format!(
            "options {{ directory \"{at}\"; listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }};\n\
             recursion no; pid-file none; session-keyfile none; lock-file none; dnssec-validation no; }};\n\
             controls {{ }};\n",
            at = self.directory.path().display(),
            port = self.address.port(),
        );
        for (name, file) in [
            (".", "root"),
            ("plain", "plain"),
            ("bogus", "bogus"),
            ("turn", "turn"),
        ] {
            let line = format!("zone \"{name}\" {{ type primary; file \"{file}.zone\"; }};\n");
            conf.push_str(&line);
        }
        std::fs::write(self.path("named.conf"), conf).unwrap();
        let named = find("named").unwrap();
        let server = Server::start(
            Command::new(named)
                .arg("-g")
                .arg("-c")
                .arg(self.path("named.conf")),
        );
        listens("named", self.address);
        server
    }

    /// `[dns]` by this root's own keys.
    fn dns(&self, servers: &str, dnssec: &str) -> String {
        std::fs::write(self.path("anchor"), &self.anchor).unwrap();
        format!(
            "[dns]\nservers = [{servers}]\ndnssec = \"{dnssec}\"\ntrust_anchor = \"{}\"\n",
            self.path("anchor").display()
        )
    }
}

fn zone(name: &str, more: &str) -> String {
    let origin = name.trim_end_matches('.');
    format!(
        "$ORIGIN {origin}.\n$TTL 2\n@ IN SOA ns. admin. 1 3600 600 86400 2\n@ IN NS ns.\n{}{more}",
        if origin.is_empty() {
            "ns IN A 127.0.0.1\n"
        } else {
            "db IN A 127.0.0.1\n"
        }
    )
}

fn listens(who: &str, address: SocketAddr) {
    until(&format!("{who} listens"), || {
        std::net::TcpStream::connect(address).is_ok()
    });
}

/// An origin behind a listener of the same name, that may lead to this machine.
fn origin(name: &str, target: &str) -> String {
    format!(
        "[origin.{name}]\naddress = \"{target}\"\n[origin.{name}.connect]\nallow_ips = [\"127.0.0.0/8\"]\n\
         [[listen]]\naddress = \"127.0.0.1:auto\"\norigin = \"{name}\"\n"
    )
}

fn has_bind(test: &str) -> bool {
    needed(test, "named").is_some() && needed(test, "dnssec-signzone").is_some()
}

fn name_of(desk: &Desk, origin: &str) -> serde_json::Value {
    desk.origin(origin)["names"][0].clone()
}

fn answers(desk: &Desk, origin: &str) {
    let mut stream = dial(desk.address(origin));
    assert_eq!(ask(&mut stream, "hello\n"), "x hello\n", "{origin}");
}

#[test]
fn only_what_is_not_false_is_used() {
    if !has_bind("only_what_is_not_false_is_used") {
        return;
    }
    let (root, x) = (Root::make(), line_server("x"));
    let _named = root.serve(Turn::Signed);
    let origins: String = ["secure", "plain", "bogus"]
        .map(|name| origin(name, &format!("db.{name}:{}", x.port())))
        .concat();
    let server = format!("\"{}\"", root.address);
    let mut desk = Desk::run(&format!("{}{origins}", root.dns(&server, "validate")));
    for (name, dnssec) in [("secure", "secure"), ("plain", "insecure")] {
        desk.wait_for_phase(name, "up");
        assert_eq!(name_of(&desk, name)["dnssec"], dnssec, "{name}");
        answers(&desk, name);
    }
    // A probe says it of each resolver.
    for (name, dnssec) in [("secure", Some("secure")), ("bogus", None)] {
        let output = desk.command(&["probe", name, "--json"]);
        let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let rows = told["probes"][0]["resolvers"].as_array().unwrap();
        let v4 = rows.iter().find(|row| row["kind"] == "A").unwrap();
        assert_eq!(v4["dnssec"].as_str(), dnssec, "{v4}");
        assert_eq!(v4["failure"].is_null(), dnssec.is_some(), "{v4}");
    }
    desk.wait_for_phase("bogus", "down");
    let bogus = desk.origin("bogus");
    assert_eq!(bogus["endpoints"].as_array().unwrap().len(), 0);
    let cause = bogus["failure"]["cause"].as_str().unwrap();
    assert!(
        cause.starts_with("the answer is false by DNSSEC (db.bogus"),
        "{cause}"
    );
    // Where proof is required, an unsigned zone is not enough, not even its earlier answer.
    desk.write(&format!("{}{origins}", root.dns(&server, "require")));
    assert!(desk.command(&["reload"]).status.success());
    until("the unsigned name is refused", || {
        let failure = &name_of(&desk, "plain")["failure"]["cause"];
        failure
            .as_str()
            .is_some_and(|cause| cause.starts_with("the answer is not proven"))
    });
    desk.wait_for_phase("plain", "down");
    answers(&desk, "secure");
    // What an earlier run kept of it is not, either.
    desk.signal("KILL");
    assert_eq!(desk.ended(), None);
    desk.start();
    desk.wait_for_phase("plain", "down");
    desk.wait_for_phase("secure", "up");
    let text = String::from_utf8(desk.command(&["status"]).stdout).unwrap();
    assert!(text.contains("proven by DNSSEC"), "{text}");
}

#[test]
fn a_name_that_is_no_longer_signed_is_told() {
    if !has_bind("a_name_that_is_no_longer_signed_is_told") {
        return;
    }
    let (root, x) = (Root::make(), line_server("x"));
    let named = root.serve(Turn::Signed);
    let server = format!("\"{}\"", root.address);
    let target = format!("db.turn:{}", x.port());
    let text = format!("{}{}", root.dns(&server, "validate"), origin("a", &target));
    let desk = Desk::run(&text);
    desk.wait_for_phase("a", "up");
    assert_eq!(name_of(&desk, "a")["dnssec"], "secure");
    named.kill();
    let _named = root.serve(Turn::Unsigned);
    until("it is seen", || {
        name_of(&desk, "a")["turned_insecure"] == true
    });
    let log = desk.log();
    assert!(
        log.contains("proven by DNSSEC is not signed any more"),
        "{log}"
    );
    answers(&desk, "a");
    let text = String::from_utf8(desk.command(&["status"]).stdout).unwrap();
    assert!(text.contains("is not signed any more"), "{text}");
}

/// Unbound before the root, on three ports: plain, TLS and HTTPS.
struct Unbound {
    directory: tempfile::TempDir,
    plain: SocketAddr,
    tls: SocketAddr,
    https: SocketAddr,
}

impl Unbound {
    fn make(root: &Root) -> Self {
        let made = Self {
            directory: tempfile::tempdir().unwrap(),
            plain: free_address(),
            tls: free_address(),
            https: free_address(),
        };
        let certificate = rcgen::generate_simple_self_signed(["dns.example".to_owned()]).unwrap();
        std::fs::write(made.path("cert.pem"), certificate.cert.pem()).unwrap();
        std::fs::write(
            made.path("key.pem"),
            certificate.signing_key.serialize_pem(),
        )
        .unwrap();
        let (at, port) = (made.directory.path().display(), |at: SocketAddr| at.port());
        let conf = format!(
            "server:\n interface: 127.0.0.1@{}\n interface: 127.0.0.1@{tls}\n interface: 127.0.0.1@{https}\n\
             tls-port: {tls}\n https-port: {https}\n tls-service-key: {at}/key.pem\n tls-service-pem: {at}/cert.pem\n\
             username: \"\"\n chroot: \"\"\n directory: {at}\n pidfile: \"\"\n use-syslog: no\n do-daemonize: no\n\
             do-not-query-localhost: no\n do-ip6: no\n module-config: \"iterator\"\n cache-max-ttl: 2\n\
             cache-max-negative-ttl: 1\n num-threads: 1\nremote-control:\n control-enable: no\n\
             stub-zone:\n name: \".\"\n stub-addr: 127.0.0.1@{}\n",
            port(made.plain),
            port(root.address),
            tls = port(made.tls),
            https = port(made.https),
        );
        std::fs::write(made.path("unbound.conf"), conf).unwrap();
        made
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn serve(&self) -> Server {
        let unbound = find("unbound").unwrap();
        let conf = self.path("unbound.conf");
        let server = Server::start(Command::new(unbound).arg("-d").arg("-c").arg(conf));
        for address in [self.plain, self.tls, self.https] {
            listens("unbound", address);
        }
        server
    }

    /// A gateway that trusts its certificate, and no other.
    fn gateway(&self, configuration: &str) -> Desk {
        let mut desk = Desk::with(configuration);
        let mut command = Command::new(PROGRAM);
        desk.start_by(
            command
                .arg("run")
                .env("SSL_CERT_FILE", self.path("cert.pem")),
        );
        desk
    }
}

#[test]
fn resolvers_over_tls_and_https_are_proven_and_found_again() {
    let test = "resolvers_over_tls_and_https_are_proven_and_found_again";
    if !has_bind(test) || needed(test, "unbound").is_none() {
        return;
    }
    let (root, x) = (Root::make(), line_server("x"));
    let _named = root.serve(Turn::Signed);
    let unbound = Unbound::make(&root);
    let mut server = unbound.serve();
    let (tls, https) = (unbound.tls, unbound.https);
    let target = format!("db.secure:{}", x.port());
    for resolver in [
        format!("tls://{tls}#dns.example"),
        format!("https://{https}/dns-query#dns.example"),
    ] {
        let dns = root.dns(&format!("\"{resolver}\""), "validate");
        let desk = unbound.gateway(&format!("{dns}{}", origin("a", &target)));
        desk.wait_for_phase("a", "up");
        let name = name_of(&desk, "a");
        assert_eq!(
            (&name["dnssec"], &name["resolver"]),
            (&"secure".into(), &resolver.into())
        );
        answers(&desk, "a");
        // Stopped, so that the connection to it stands and carries nothing, it is left and found again.
        server.signal("STOP");
        until("its answer is stale", || {
            name_of(&desk, "a")["knowledge"] == "stale"
        });
        server.signal("CONT");
        until("it is found again", || {
            name_of(&desk, "a")["knowledge"] == "fresh"
        });
        // Killed, it is missed by nobody; started again, it is found without a restart of ours.
        server.kill();
        until("its answer is stale", || {
            name_of(&desk, "a")["knowledge"] == "stale"
        });
        answers(&desk, "a");
        server = unbound.serve();
        until("it is found again", || {
            name_of(&desk, "a")["knowledge"] == "fresh"
        });
    }
    // A certificate for another name is nobody's.
    let dns = root.dns(&format!("\"tls://{tls}#other.example\""), "off");
    let dns = dns.lines().filter(|line| !line.starts_with("trust_anchor"));
    let dns: String = dns.map(|line| format!("{line}\n")).collect();
    let desk = unbound.gateway(&format!("{dns}{}", origin("a", &target)));
    desk.wait_for_phase("a", "down");
    let cause = desk.origin("a")["failure"]["cause"].to_string();
    assert!(cause.contains("certificate"), "{cause}");
}

#[test]
fn a_resolver_that_is_killed_or_stopped_is_not_missed() {
    let test = "a_resolver_that_is_killed_or_stopped_is_not_missed";
    if !has_bind(test) || needed(test, "unbound").is_none() {
        return;
    }
    let (root, x) = (Root::make(), line_server("x"));
    let _named = root.serve(Turn::Signed);
    let unbound = Unbound::make(&root);
    let first = unbound.serve();
    let servers = format!("\"{}\", \"{}\"", unbound.plain, root.address);
    let target = format!("db.plain:{}", x.port());
    let text = format!("[dns]\nservers = [{servers}]\n{}", origin("a", &target));
    let desk = Desk::run(&text);
    desk.wait_for_phase("a", "up");
    let by = |who: SocketAddr| {
        let name = name_of(&desk, "a");
        name["resolver"] == who.to_string() && name["knowledge"] == "fresh"
    };
    until("the first answers", || by(unbound.plain));
    first.signal("STOP");
    until(
        "the second answers for the stopped one",
        || by(root.address),
    );
    first.signal("CONT");
    until("the first answers again", || by(unbound.plain));
    first.kill();
    until("the second answers for the dead one", || by(root.address));
    answers(&desk, "a");
}
