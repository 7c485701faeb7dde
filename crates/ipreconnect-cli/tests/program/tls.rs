//! TLS with real peers: OpenSSL and nginx as servers, OpenSSL and curl as clients.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use crate::desk::{Desk, ask, dial, free_address, line_server, until};
use crate::servers::{Postgres, Server, is_root, needed};

/// A directory with a CA and what it issued.
pub(crate) struct Papers {
    directory: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Papers {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "Test CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        std::fs::write(directory.path().join("ca.pem"), pem).unwrap();
        Self {
            issuer: Issuer::new(params, key),
            directory,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn at(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Writes `FILE.pem` and `FILE.key` for some names, in one step each.
    pub(crate) fn issue(&self, file: &str, names: &[&str]) {
        self.issue_with(file, names, |_| {});
    }

    pub(crate) fn issue_with(
        &self,
        file: &str,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        self.put(&format!("{file}.key"), &key.serialize_pem(), 0o600);
        self.put(&format!("{file}.pem"), &certificate.pem(), 0o644);
    }

    /// A pair as a listener names it.
    pub(crate) fn pair(&self, file: &str, more: &str) -> String {
        let at = |ending: &str| self.at(&format!("{file}.{ending}"));
        format!(
            "{{ cert = \"{}\", key = \"{}\"{more} }}",
            at("pem"),
            at("key")
        )
    }

    /// Replaces a file by another one, as careful tools do.
    fn put(&self, name: &str, text: &str, mode: u32) {
        let new = self.path("new");
        std::fs::write(&new, text).unwrap();
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(mode)).unwrap();
        std::fs::rename(new, self.path(name)).unwrap();
    }

    /// An origin with TLS that trusts this CA, behind a plain listener.
    fn origin(&self, addresses: &[SocketAddr], more: &str) -> String {
        let quoted: Vec<String> = addresses.iter().map(|one| format!("\"{one}\"")).collect();
        format!(
            "[[listen]]\naddress = \"127.0.0.1:auto\"\norigin = \"a\"\n[origin.a]\naddress = [{}]\n\
             [origin.a.tls]\nca = \"{}\"\nserver_name = \"db.test\"\n{more}\n",
            quoted.join(", "),
            self.at("ca.pem")
        )
    }

    /// `openssl s_server` that answers each request for a page.
    pub(crate) fn openssl(&self, file: &str, address: SocketAddr, more: &[&str]) -> Server {
        let mut command = Command::new("openssl");
        command.args(["s_server", "-quiet", "-www", "-accept"]);
        command.arg(address.to_string());
        command.arg("-cert").arg(self.path(&format!("{file}.pem")));
        command.arg("-key").arg(self.path(&format!("{file}.key")));
        let server = Server::start(command.args(more).stdin(Stdio::piped()));
        listens(address);
        server
    }
}

fn listens(address: SocketAddr) {
    until("the server listens", || TcpStream::connect(address).is_ok());
}

/// The page that `openssl s_server -www` gives, through a plain listener.
fn page(front: SocketAddr) -> String {
    let mut stream = dial(front);
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut text = Vec::new();
    // It ends as its server likes; what came is what counts.
    let _ = stream.read_to_end(&mut text);
    String::from_utf8_lossy(&text).into_owned()
}

#[test]
fn openssl_is_verified_spoken_to_and_resumed() {
    let test = "openssl_is_verified_spoken_to_and_resumed";
    if needed(test, "openssl").is_none() {
        return;
    }
    let papers = Papers::new();
    papers.issue("site", &["db.test"]);
    for version in ["-tls1_2", "-tls1_3"] {
        let address = free_address();
        let _server = papers.openssl("site", address, &[version]);
        let desk = Desk::run(&papers.origin(&[address], ""));
        desk.wait_for_phase("a", "up");
        let front = desk.address("a");
        let first = page(front);
        assert!(first.contains("Secure Renegotiation"), "{first}");
        until("a session is resumed", || page(front).contains("Reused, "));
        let status = String::from_utf8(desk.command(&["status"]).stdout).unwrap();
        assert!(status.contains("(proven)"), "{status}");
    }
}

#[test]
fn a_probe_shows_who_answers_and_what_a_resumed_session_saves() {
    let test = "a_probe_shows_who_answers_and_what_a_resumed_session_saves";
    if needed(test, "openssl").is_none() {
        return;
    }
    let papers = Papers::new();
    papers.issue("site", &["db.test"]);
    papers.issue("other", &["other.test"]);
    let address = free_address();
    let _server = papers.openssl("site", address, &[]);
    let desk = Desk::with(&papers.origin(&[address], ""));
    let output = desk.command(&["probe", "a", "--cold", "3", "--warm", "3", "--json"]);
    assert!(output.status.success());
    let shown: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let probe = &shown["probes"][0];
    let tls = &probe["tls"];
    assert!(
        tls["version"].as_str().unwrap().starts_with("TLS 1.3"),
        "{tls}"
    );
    assert_eq!(tls["certificate"]["names"][0], "db.test");
    assert!(tls["resumed_us"].is_u64(), "{tls}");
    assert_eq!(probe["first_byte"]["who"], "client");
    for rounds in ["cold", "warm"] {
        assert!(
            probe[rounds]["tls_us"]["median"].as_u64().unwrap() > 0,
            "{probe}"
        );
        assert_eq!(probe[rounds]["failed"], 0, "{probe}");
    }
    // What it shows is what can be pinned.
    let pin = format!("pins = [{}]", tls["certificate"]["key"]);
    desk.write(&papers.origin(&[address], &pin));
    let output = desk.command(&["probe", "a"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    for word in [
        "full handshake",
        "resumed handshake",
        "issued by CN=Test CA",
        "pin sha256/",
    ] {
        assert!(text.contains(word), "{word}: {text}");
    }
    let elsewhere = free_address();
    let _other = papers.openssl("other", elsewhere, &[]);
    desk.write(&papers.origin(&[elsewhere], ""));
    let output = desk.command(&["probe", "a"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text.contains("expected one for db.test"), "{text}");
}

#[test]
fn what_openssl_shows_wrongly_is_told_with_what_to_do() {
    let test = "what_openssl_shows_wrongly_is_told_with_what_to_do";
    if needed(test, "openssl").is_none() {
        return;
    }
    let papers = Papers::new();
    papers.issue("named", &["other.test"]);
    papers.issue_with("expired", &["db.test"], |params| {
        params.not_after = rcgen::date_time_ymd(2021, 2, 3);
    });
    papers.issue("site", &["db.test"]);
    let weak = Command::new("openssl")
        .args([
            "req", "-x509", "-newkey", "rsa:1024", "-nodes", "-days", "9",
        ])
        .args([
            "-subj",
            "/CN=db.test",
            "-addext",
            "subjectAltName=DNS:db.test",
            "-keyout",
        ])
        .arg(papers.path("weak.key"))
        .arg("-out")
        .arg(papers.path("weak.pem"))
        .output()
        .unwrap();
    assert!(weak.status.success());
    let pin = "pins = [\"sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\"]";
    // By SNI another certificate than the usual one is shown.
    papers.issue("usual", &["usual.test"]);
    let by_name = [
        "-servername",
        "db.test",
        "-cert2",
        &papers.at("named.pem"),
        "-key2",
        &papers.at("named.key"),
    ];
    for (file, server, origin, layer, words) in [
        (
            "named",
            &[][..],
            "",
            "identity",
            ["expected one for db.test", "a certificate for other.test"],
        ),
        (
            "expired",
            &[],
            "",
            "identity",
            ["has expired", "to 2021-02-03"],
        ),
        (
            "weak",
            &["-cipher", "ALL:@SECLEVEL=0"],
            "",
            "identity",
            ["RSA key of 1024 bits", "sound certificate"],
        ),
        (
            "site",
            &[],
            pin,
            "identity",
            ["none of those pinned", "sha256/AAAA"],
        ),
        (
            "usual",
            &by_name,
            "",
            "identity",
            ["expected one for db.test", "other.test"],
        ),
        (
            "site",
            &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"],
            "",
            "tls",
            ["TLS handshake failed", "compare versions"],
        ),
    ] {
        let address = free_address();
        let _server = papers.openssl(file, address, server);
        let desk = Desk::run(&papers.origin(&[address], origin));
        desk.wait_for_phase("a", "down");
        let failure = desk.origin("a")["failure"].clone();
        assert_eq!(failure["layer"], layer, "{file}: {failure}");
        let log = desk.log();
        for word in words {
            let told = format!("{failure}").contains(word);
            assert!(told, "{file}: {word}: {failure}");
        }
        let told = log
            .lines()
            .find(|line| line.contains(&address.to_string()))
            .unwrap();
        assert!(told.contains("origin=\"a\""), "{told}");
        if layer == "identity" {
            assert!(log.contains("impersonated?"), "{log}");
            assert_eq!(desk.origin("a")["identity"], "impersonated?");
            assert_eq!(desk.command(&["identity"]).status.code(), Some(1));
        }
    }
}

#[test]
fn a_server_that_is_killed_fails_over_and_a_stopped_one_does_too() {
    let test = "a_server_that_is_killed_fails_over_and_a_stopped_one_does_too";
    if needed(test, "openssl").is_none() {
        return;
    }
    let papers = Papers::new();
    papers.issue("site", &["db.test"]);
    let (one, two) = (free_address(), free_address());
    let first = papers.openssl("site", one, &[]);
    let second = papers.openssl("site", two, &[]);
    let desk = Desk::run(&papers.origin(&[one, two], ""));
    desk.wait_for_phase("a", "up");
    let front = desk.address("a");
    first.kill();
    for _ in 0..20 {
        assert!(page(front).contains("Secure Renegotiation"));
    }
    let _first = papers.openssl("site", one, &[]);
    until("the preferred one is back", || {
        desk.origin("a")["endpoints"][0]["takes_work"] == true
    });
    // Its kernel accepts, and nobody makes the handshake.
    second.signal("STOP");
    for _ in 0..5 {
        assert!(page(front).contains("Secure Renegotiation"));
    }
    second.signal("CONT");
}

#[test]
fn a_rotated_key_is_noted_and_where_it_must_not_change_it_is_refused_until_accepted() {
    let test = "a_rotated_key_is_noted_and_where_it_must_not_change_it_is_refused_until_accepted";
    if needed(test, "openssl").is_none() {
        return;
    }
    let papers = Papers::new();
    papers.issue("site", &["db.test"]);
    let address = free_address();
    let server = papers.openssl("site", address, &[]);
    let mut desk = Desk::run(&papers.origin(&[address], ""));
    desk.wait_for_phase("a", "up");
    let shown = || String::from_utf8(desk.command(&["identity", "a"]).stdout).unwrap();
    until("the first key is kept", || {
        shown().contains("issued by CN=Test CA")
    });
    server.kill();
    papers.issue("site", &["db.test"]);
    let server = papers.openssl("site", address, &[]);
    until("the rotation is noted", || {
        page(desk.address("a"));
        desk.log().contains("rotated: a new key")
    });
    until("both are kept", || shown().matches("sha256/").count() == 2);

    desk.write(&papers.origin(&[address], "on_key_change = \"refuse\""));
    assert!(desk.command(&["reload"]).status.success());
    server.kill();
    papers.issue("site", &["db.test"]);
    let _server = papers.openssl("site", address, &[]);
    until("the change is refused", || {
        let origin = desk.origin("a");
        origin["identity"] == "key changed"
            && origin["failure"].to_string().contains("identity accept")
    });
    // A restart forgets nothing.
    desk.signal("TERM");
    desk.ended();
    desk.start();
    desk.wait_for_phase("a", "down");
    let none = format!("sha256/{}=", "A".repeat(43));
    let output = desk.command(&["identity", "accept", "a", &none]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("no such key"));
    assert_eq!(
        desk.command(&["identity", "accept", "a", "x"])
            .status
            .code(),
        Some(1)
    );
    let output = desk.command(&["identity", "accept", "a"]);
    assert!(output.status.success());
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        told.contains("accepted sha256/") && told.contains("CN=Test CA"),
        "{told}"
    );
    desk.wait_for_phase("a", "up");
    assert!(page(desk.address("a")).contains("Secure Renegotiation"));
    assert_eq!(desk.command(&["identity"]).status.code(), Some(0));
    let again = desk.command(&["identity", "accept", "a"]);
    assert!(String::from_utf8_lossy(&again.stdout).contains("no such key that waits"));
}

#[test]
fn postgres_is_reached_through_its_own_way_into_tls() {
    let test = "postgres_is_reached_through_its_own_way_into_tls";
    let (Some(control), Some(client)) = (needed(test, "pg_ctl"), needed(test, "psql")) else {
        return;
    };
    let papers = Papers::new();
    papers.issue("site", &["db.test"]);
    let cluster = Postgres::new(control);
    for file in ["site.pem", "site.key"] {
        let to = Path::new(&cluster.data()).join(file);
        std::fs::copy(papers.path(file), &to).unwrap();
        std::fs::set_permissions(&to, std::fs::Permissions::from_mode(0o600)).unwrap();
        if is_root() {
            let chown = Command::new("chown").arg("postgres").arg(&to).status();
            assert!(chown.unwrap().success());
        }
    }
    let conf = Path::new(&cluster.data()).join("postgresql.conf");
    let mut text = std::fs::read_to_string(&conf).unwrap();
    text.push_str("\nssl = on\nssl_cert_file = 'site.pem'\nssl_key_file = 'site.key'\n");
    std::fs::write(&conf, text).unwrap();
    cluster.start();
    let address = SocketAddr::from(([127, 0, 0, 1], cluster.port));
    let desk = Desk::run(&papers.origin(&[address], "starttls = \"postgres\""));
    desk.wait_for_phase("a", "up");
    let front = desk.address("a");
    let query = format!(
        "host=127.0.0.1 port={} user=postgres sslmode=disable",
        front.port()
    );
    let output = Command::new(&client)
        .args([
            &query,
            "-Atc",
            "select ssl, version from pg_stat_ssl where pid = pg_backend_pid()",
        ])
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        told.starts_with("t|TLSv1.3"),
        "{told} {}",
        String::from_utf8_lossy(&output.stderr)
    );

    // Without that way PostgreSQL 16 and older take the handshake for garbage.
    desk.write(&papers.origin(&[address], ""));
    assert!(desk.command(&["reload"]).status.success());
    until("it is refused", || {
        let failure = desk.origin("a")["endpoints"][0]["failure"].clone();
        ["tls", "transport"]
            .iter()
            .any(|layer| failure["layer"] == *layer)
    });
}

/// A listener with TLS before a server of lines.
fn terminated(tls: &str) -> (Desk, SocketAddr) {
    let origin = line_server("inside");
    let text = format!(
        "[origin.a]\naddress = \"{origin}\"\n[[listen]]\naddress = \"127.0.0.1:auto\"\norigin = \"a\"\ntls = {tls}\n"
    );
    let desk = Desk::run(&text);
    desk.wait_for_phase("a", "up");
    let front = desk.address("a");
    (desk, front)
}

/// What `openssl s_client` says, and what it is told, after it sent a line.
fn s_client(papers: &Papers, front: SocketAddr, more: &[&str]) -> String {
    let ca = papers.at("ca.pem");
    let mut arguments = vec!["-verify_return_error", "-CAfile", &ca];
    arguments.extend(more);
    unverified(front, &arguments)
}

/// The same, whoever issued the certificate.
fn unverified(front: SocketAddr, more: &[&str]) -> String {
    let mut command = Command::new("openssl");
    command
        .args(["s_client", "-ign_eof", "-connect"])
        .arg(front.to_string())
        .args(more);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    // A client that was refused reads nothing.
    let _ = input.write_all(b"hello\n");
    let (sender, said) = std::sync::mpsc::channel::<String>();
    let (output, errors) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let streams: [Box<dyn Read + Send>; 2] = [Box::new(output), Box::new(errors)];
    for mut stream in streams {
        let sender = sender.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
                if sender.send(text).is_err() {
                    return;
                }
            }
        });
    }
    drop(sender);
    let (mut text, deadline) = (String::new(), Instant::now() + Duration::from_secs(15));
    while !text.contains("inside hello") {
        match said.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(more) => text.push_str(&more),
            Err(_) => break,
        }
    }
    let _ = child.kill();
    let _ = child.wait();
    text
}

#[test]
fn openssl_as_a_client_is_let_in_by_name_version_and_certificate() {
    let test = "openssl_as_a_client_is_let_in_by_name_version_and_certificate";
    if needed(test, "openssl").is_none() {
        return;
    }
    let papers = Papers::new();
    papers.issue("site", &["site.test"]);
    papers.issue("shop", &["shop.test", "*.shop.test"]);
    papers.issue("me", &["me.test"]);
    papers.put("staple", "no response at all", 0o644);
    let staple = format!(
        ", ocsp = \"{}\", alpn = [\"h2\", \"http/1.1\"]",
        papers.at("staple")
    );
    let both = format!(
        "[{}, {}]",
        papers.pair("site", &staple),
        papers.pair("shop", "")
    );
    let (_desk, front) = terminated(&both);
    for asked in ["site.test", "shop.test", "a.shop.test"] {
        let told = s_client(
            &papers,
            front,
            &["-servername", asked, "-verify_hostname", asked],
        );
        assert!(told.contains("inside hello"), "{asked}: {told}");
    }
    // A session that was had at the door is resumed there.
    let kept = papers.at("session");
    for (option, word) in [
        ("-sess_out", "New, TLSv1.3"),
        ("-sess_in", "Reused, TLSv1.3"),
    ] {
        let told = s_client(&papers, front, &["-servername", "shop.test", option, &kept]);
        assert!(
            told.contains(word) && told.contains("inside hello"),
            "{option}: {told}"
        );
    }
    // A name that nobody has gets the first one.
    let told = s_client(
        &papers,
        front,
        &["-servername", "x.test", "-verify_hostname", "site.test"],
    );
    assert!(told.contains("inside hello"), "{told}");
    let told = s_client(
        &papers,
        front,
        &[
            "-servername",
            "site.test",
            "-status",
            "-alpn",
            "h3,http/1.1",
        ],
    );
    assert!(told.contains("ALPN protocol: http/1.1"), "{told}");
    assert!(told.contains("OCSP"), "{told}");
    let told = s_client(&papers, front, &["-tls1_2", "-servername", "site.test"]);
    assert!(told.contains("inside hello"), "{told}");
    let told = s_client(&papers, front, &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]);
    assert!(!told.contains("inside hello"), "{told}");

    let ca = papers.at("ca.pem");
    let strict = papers.pair(
        "site",
        &format!(", client_ca = \"{ca}\", min_version = \"1.3\""),
    );
    let (desk, front) = terminated(&strict);
    let told = s_client(&papers, front, &[]);
    assert!(told.contains("certificate required"), "{told}");
    let (cert, key) = (papers.at("me.pem"), papers.at("me.key"));
    let told = s_client(&papers, front, &["-cert", &cert, "-key", &key]);
    assert!(told.contains("inside hello"), "{told}");
    let told = s_client(&papers, front, &["-tls1_2", "-cert", &cert, "-key", &key]);
    assert!(told.contains("protocol version"), "{told}");
    assert_eq!(desk.status()["listeners"]["listeners"][0]["unserved"], 2);
}

#[test]
fn every_name_of_a_certificate_counts_however_many_there_are() {
    let test = "every_name_of_a_certificate_counts_however_many_there_are";
    if needed(test, "openssl").is_none() {
        return;
    }
    let papers = Papers::new();
    papers.issue("site", &["site.test"]);
    let many: Vec<String> = (0..100).map(|number| format!("n{number}.test")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    papers.issue("many", &many);
    let both = format!("[{}, {}]", papers.pair("site", ""), papers.pair("many", ""));
    let (_desk, front) = terminated(&both);
    for asked in ["n0.test", "n99.test"] {
        let arguments = ["-servername", asked, "-verify_hostname", asked];
        let told = s_client(&papers, front, &arguments);
        assert!(told.contains("inside hello"), "{asked}: {told}");
    }
}

#[test]
fn a_certificate_that_is_replaced_is_shown_and_garbage_is_not() {
    let test = "a_certificate_that_is_replaced_is_shown_and_garbage_is_not";
    if needed(test, "openssl").is_none() {
        return;
    }
    let papers = Papers::new();
    papers.issue("site", &["old.test"]);
    let tls = papers.pair("site", "");
    let (desk, front) = terminated(&tls);
    let shows = |name: &str| {
        let told = s_client(&papers, front, &["-verify_hostname", name]);
        told.contains("inside hello")
    };
    assert!(shows("old.test"));
    let mut long_lived = Command::new("openssl")
        .args(["s_client", "-quiet", "-connect", &front.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();

    // By renaming, as certbot does.
    papers.issue("site", &["new.test"]);
    until("the new one is shown", || shows("new.test"));
    assert!(!shows("old.test"));
    // In place, as through a bind mount, where no other file can take its place.
    papers.issue("other", &["other.test"]);
    for ending in ["key", "pem"] {
        let text = std::fs::read(papers.path(&format!("other.{ending}"))).unwrap();
        std::fs::write(papers.path(&format!("site.{ending}")), text).unwrap();
    }
    until("the one after it is shown", || shows("other.test"));

    papers.put("site.pem", "garbage\n", 0o644);
    until("the garbage is told", || {
        desk.log().contains("the one before stays in use")
    });
    assert!(shows("other.test"));
    papers.issue("site", &["last.test"]);
    until("the last one is shown", || shows("last.test"));

    // All the while, a stream goes on.
    long_lived
        .stdin
        .as_mut()
        .unwrap()
        .write_all(b"still\n")
        .unwrap();
    let mut answer = [0; 12];
    long_lived
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut answer)
        .unwrap();
    assert_eq!(&answer, b"inside still");
    long_lived.kill().unwrap();
    long_lived.wait().unwrap();
}

#[test]
fn what_is_no_handshake_ends_in_time_and_hinders_nobody() {
    let test = "what_is_no_handshake_ends_in_time_and_hinders_nobody";
    if needed(test, "openssl").is_none() {
        return;
    }
    let papers = Papers::new();
    papers.issue("site", &["site.test"]);
    let tls = papers.pair("site", "");
    let (desk, front) = terminated(&tls);
    let serves = || s_client(&papers, front, &[]).contains("inside hello");

    let mut garbage = dial(front);
    garbage.write_all(&[0x5a; 4000]).unwrap();
    let mut rest = Vec::new();
    // Ended, in order or not.
    let _ = garbage.read_to_end(&mut rest);
    assert!(!String::from_utf8_lossy(&rest).contains("inside"));

    // A ClientHello that says it has sixteen million bytes.
    let mut huge = dial(front);
    // What only waits in this side's kernel was not taken.
    rustix::net::sockopt::set_socket_send_buffer_size(&huge, 65_536).unwrap();
    huge.write_all(&[22, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff])
        .unwrap();
    let mut sent = 0;
    while sent < 16 << 20 && huge.write_all(&[0; 16_384]).is_ok() {
        sent += 16_384;
    }
    let _ = huge.read_to_end(&mut rest);
    assert!(sent < 2 << 20, "{sent} bytes were taken");

    // One byte a second, of a hello that is right as far as it goes.
    let mut slow = dial(front);
    let began = Instant::now();
    let mut hello = vec![22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
    hello.extend([0; 40]);
    let mut closed = false;
    for byte in hello {
        closed = slow.write_all(&[byte]).is_err();
        slow.set_read_timeout(Some(Duration::from_millis(1000)))
            .unwrap();
        closed |= slow.read(&mut [0; 64]).is_ok();
        if closed {
            break;
        }
        assert!(serves());
    }
    assert!(closed, "still open after {:?}", began.elapsed());
    assert!(serves());
    assert_eq!(desk.origin("a")["phase"], "up");
}

#[test]
fn tls_passes_through_by_the_name_that_is_asked_for() {
    let test = "tls_passes_through_by_the_name_that_is_asked_for";
    if needed(test, "openssl").is_none() {
        return;
    }
    let papers = Papers::new();
    let (one, two) = (free_address(), free_address());
    papers.issue("one", &["one.test"]);
    papers.issue("two", &["two.test", "a.two.test"]);
    let _one = papers.openssl("one", one, &[]);
    let _two = papers.openssl("two", two, &[]);
    let plain = line_server("inside");
    let text = format!(
        "[origin.one]\naddress = \"{one}\"\n[origin.two]\naddress = \"{two}\"\n[origin.plain]\naddress = \"{plain}\"\n\
         [[listen]]\nname = \"strict\"\naddress = \"127.0.0.1:auto\"\n\
         [[listen.route]]\nhost = \"one.test\"\norigin = \"one\"\n[[listen.route]]\nhost = [\"two.test\", \"*.two.test\"]\norigin = \"two\"\n\
         [[listen]]\nname = \"open\"\naddress = \"127.0.0.1:auto\"\norigin = \"plain\"\n\
         [[listen.route]]\nhost = \"one.test\"\norigin = \"one\"\n"
    );
    let desk = Desk::run(&text);
    for origin in ["one", "two", "plain"] {
        desk.wait_for_phase(origin, "up");
    }
    let front = desk.address("strict");
    let fetch = |name: &str, front: SocketAddr| {
        Command::new("curl")
            .args(["-s", "-m", "10", "--cacert"])
            .arg(papers.path("ca.pem"))
            .args(["--resolve", &format!("{name}:{}:127.0.0.1", front.port())])
            .arg(format!("https://{name}:{}/", front.port()))
            .output()
            .unwrap()
    };
    if needed(test, "curl").is_some() {
        for name in ["one.test", "two.test", "a.two.test"] {
            let output = fetch(name, front);
            let page = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(
                page.contains("Secure Renegotiation"),
                "{name}: {:?}",
                output.status
            );
        }
    }
    let told = s_client(&papers, front, &["-servername", "three.test"]);
    assert!(told.contains("unrecognized name"), "{told}");
    let told = s_client(&papers, front, &["-noservername"]);
    assert!(told.contains("unrecognized name"), "{told}");

    // What has no name, or is no TLS at all, goes where everything else goes.
    let mut plain = dial(desk.address("open"));
    assert_eq!(ask(&mut plain, "hello"), "inside hello");
    assert!(!desk.log().contains("panicked"));
}

#[test]
fn a_local_authority_serves_whoever_trusts_its_root() {
    let test = "a_local_authority_serves_whoever_trusts_its_root";
    if needed(test, "openssl").is_none() {
        return;
    }
    let papers = Papers::new();
    let (mut desk, front) = terminated("\"internal\"");
    let export = |desk: &Desk| {
        let output = desk.command(&["ca", "export"]);
        assert!(output.status.success());
        papers.put("ca.pem", &String::from_utf8(output.stdout).unwrap(), 0o644);
    };
    export(&desk);
    for (option, name) in [
        ("-verify_ip", "127.0.0.1"),
        ("-verify_hostname", "localhost"),
    ] {
        let told = s_client(&papers, front, &[option, name]);
        assert!(told.contains("inside hello"), "{name}: {told}");
    }
    // A client that offers protocols is none the worse for it.
    let told = s_client(&papers, front, &["-alpn", "h2,http/1.1"]);
    assert!(told.contains("inside hello"), "{told}");
    // The root stays over a restart: who trusts it need not be asked again.
    desk.signal("TERM");
    desk.ended();
    desk.start();
    let front = desk.address("a");
    let told = s_client(&papers, front, &["-verify_ip", "127.0.0.1"]);
    assert!(told.contains("inside hello"), "{told}");
}

/// All of a reload, or nothing.
#[test]
fn a_reload_whose_certificates_cannot_be_made_changes_nothing() {
    let test = "a_reload_whose_certificates_cannot_be_made_changes_nothing";
    if needed(test, "openssl").is_none() {
        return;
    }
    let (one, two) = (line_server("one"), line_server("inside"));
    let text = |origin: SocketAddr, tls: &str| {
        format!(
            "[origin.a]\naddress = \"{origin}\"\n[[listen]]\naddress = \"127.0.0.1:auto\"\norigin = \"a\"\n{tls}\n"
        )
    };
    let desk = Desk::run(&text(one, ""));
    desk.wait_for_phase("a", "up");
    let front = desk.address("a");
    std::fs::create_dir_all(desk.path("state/ca")).unwrap();
    std::fs::write(desk.path("state/ca/root.key"), "garbage").unwrap();
    desk.write(&text(two, "tls = \"internal\""));
    let output = desk.command(&["reload"]);
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8_lossy(&output.stderr).into_owned()
        + &String::from_utf8_lossy(&output.stdout);
    assert!(told.contains("root.key"), "{told}");
    assert_eq!(ask(&mut dial(front), "hello"), "one hello");
    std::fs::remove_file(desk.path("state/ca/root.key")).unwrap();
    assert!(desk.command(&["reload"]).status.success());
    let told = unverified(front, &[]);
    assert!(told.contains("inside hello"), "{told}");
}

/// Debian's `pebble`, which looks for proofs at the ports it is told.
struct Pebble {
    _server: Server,
    directory: String,
}

impl Pebble {
    /// Its certificates are valid for so many seconds.
    fn start(papers: &Papers, program: &Path, (http, tls): (u16, u16), validity: u32) -> Self {
        papers.issue("pebble", &["127.0.0.1", "localhost"]);
        let (listen, management) = (free_address(), free_address());
        let config = serde_json::json!({ "pebble": {
            "listenAddress": listen.to_string(),
            "managementListenAddress": management.to_string(),
            "certificate": papers.at("pebble.pem"),
            "privateKey": papers.at("pebble.key"),
            "httpPort": http,
            "tlsPort": tls,
            "certificateValidityPeriod": validity,
        }});
        papers.put("pebble.json", &config.to_string(), 0o644);
        let server = Server::start(
            Command::new(program)
                .arg("-config")
                .arg(papers.path("pebble.json"))
                .env("PEBBLE_VA_NOSLEEP", "1")
                .env("PEBBLE_WFE_NONCEREJECT", "0"),
        );
        listens(listen);
        Self {
            _server: server,
            directory: format!("https://{listen}/dir"),
        }
    }
}

#[test]
fn an_acme_server_gives_a_certificate_for_a_proof_on_either_way() {
    let test = "an_acme_server_gives_a_certificate_for_a_proof_on_either_way";
    let (Some(pebble), Some(_)) = (needed(test, "pebble"), needed(test, "openssl")) else {
        return;
    };
    let origin = line_server("inside");
    for challenge in ["tls-alpn-01", "http-01"] {
        let papers = Papers::new();
        let (front, http) = (free_address(), free_address());
        let ports = (http.port(), front.port());
        let server = Pebble::start(&papers, &pebble, ports, 86_400);
        let more = match challenge {
            "http-01" => format!("http = \"{http}\"\n"),
            _ => String::new(),
        };
        let text = format!(
            "[origin.a]\naddress = \"{origin}\"\n[[listen]]\naddress = \"{front}\"\norigin = \"a\"\n\
             [listen.tls.acme]\nnames = [\"localhost\"]\ndirectory = \"{}\"\nca = \"{}\"\n\
             contact = \"ops@example.com\"\nterms_agreed = true\nchallenge = \"{challenge}\"\n",
            server.directory,
            papers.at("ca.pem")
        ) + &more;
        let mut desk = Desk::run(&text);
        until("the certificate is there", || {
            desk.log().contains("certificate obtained")
        });
        let told = |front| unverified(front, &["-servername", "localhost"]);
        let shown = told(front);
        assert!(
            shown.contains("Pebble Intermediate CA"),
            "{challenge}: {shown}"
        );
        assert!(shown.contains("inside hello"), "{challenge}: {shown}");
        // What was had once is used again, and nothing is ordered.
        desk.signal("TERM");
        desk.ended();
        desk.start();
        let shown = told(front);
        assert!(shown.contains("inside hello"), "{challenge}: {shown}");
        assert!(!desk.log().contains("certificate obtained"));
        let key = desk.path("state/acme/a/key.pem");
        let mode = std::fs::metadata(key).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

/// As on a machine that slept: nobody looks at the clock before somebody connects.
#[test]
fn a_certificate_of_an_acme_server_is_renewed_when_it_is_asked_for_in_its_last_third() {
    let test = "a_certificate_of_an_acme_server_is_renewed_when_it_is_asked_for_in_its_last_third";
    let (Some(pebble), Some(_)) = (needed(test, "pebble"), needed(test, "openssl")) else {
        return;
    };
    let papers = Papers::new();
    let front = free_address();
    let server = Pebble::start(&papers, &pebble, (1, front.port()), 12);
    let origin = line_server("inside");
    let desk = Desk::run(&format!(
        "[origin.a]\naddress = \"{origin}\"\n[[listen]]\naddress = \"{front}\"\norigin = \"a\"\n\
         [listen.tls.acme]\nnames = [\"localhost\"]\ndirectory = \"{}\"\nca = \"{}\"\nterms_agreed = true\n",
        server.directory,
        papers.at("ca.pem")
    ));
    let obtained = || desk.log().matches("certificate obtained").count();
    until("the first certificate is there", || obtained() == 1);
    until("another one is there", || {
        unverified(front, &["-servername", "localhost"]);
        obtained() >= 2
    });
    let told = unverified(front, &["-servername", "localhost"]);
    assert!(told.contains("inside hello"), "{told}");
}

/// What testers of TLS look for at a server.
#[test]
fn nothing_weak_is_spoken_at_the_door() {
    let test = "nothing_weak_is_spoken_at_the_door";
    if needed(test, "openssl").is_none() {
        return;
    }
    let papers = Papers::new();
    papers.issue("site", &["site.test"]);
    let tls = papers.pair("site", "");
    let (_desk, front) = terminated(&tls);
    let level = "-cipher";
    for version in ["-tls1", "-tls1_1"] {
        let told = s_client(&papers, front, &[version, level, "ALL:@SECLEVEL=0"]);
        assert!(!told.contains("inside hello"), "{version}: {told}");
    }
    for weak in [
        "kRSA",
        "aNULL",
        "eNULL",
        "3DES",
        "CAMELLIA",
        "SEED",
        "AES128-SHA",
        "ECDHE-ECDSA-AES128-SHA",
        "ECDHE-ECDSA-AES256-SHA384",
        "DHE",
        "PSK",
    ] {
        let suites = format!("{weak}:@SECLEVEL=0");
        let told = s_client(&papers, front, &["-tls1_2", level, &suites]);
        assert!(!told.contains("inside hello"), "{weak}: {told}");
    }
    for strong in [
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
    ] {
        let told = s_client(&papers, front, &["-tls1_2", level, strong]);
        assert!(told.contains("inside hello"), "{strong}: {told}");
        for word in [
            "Compression: NONE",
            "Secure Renegotiation IS supported",
            "Extended master secret: yes",
        ] {
            assert!(told.contains(word), "{strong}: {word}: {told}");
        }
    }
    // A renegotiation that a client asks for ends the connection.
    let mut child = Command::new("openssl")
        .args(["s_client", "-tls1_2", "-connect", &front.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"R\n").unwrap();
    let mut text = String::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    child.wait().unwrap();
    assert!(!text.contains("inside"), "{text}");
}

#[test]
fn nginx_with_tls_is_restarted_and_clients_only_wait() {
    let test = "nginx_with_tls_is_restarted_and_clients_only_wait";
    let Some(program) = needed(test, "nginx") else {
        return;
    };
    let papers = Papers::new();
    papers.issue("site", &["db.test"]);
    let address = free_address();
    let at = papers.directory.path().display();
    papers.put(
        "nginx.conf",
        &format!(
            "daemon off; master_process off; pid {at}/nginx.pid; error_log {at}/error.log;\n\
             events {{}}\nhttp {{ access_log off; client_body_temp_path {at}/b; proxy_temp_path {at}/p; \
             fastcgi_temp_path {at}/f; uwsgi_temp_path {at}/u; scgi_temp_path {at}/s;\n\
             server {{ listen {address} ssl; ssl_certificate {at}/site.pem; ssl_certificate_key {at}/site.key; \
             ssl_protocols TLSv1.2 TLSv1.3; location / {{ return 200 \"$ssl_protocol $ssl_session_reused\\n\"; }} }} }}\n"
        ),
        0o644,
    );
    let start = || {
        let server = Server::start(
            Command::new(&program)
                .arg("-c")
                .arg(papers.path("nginx.conf")),
        );
        listens(address);
        server
    };
    let server = start();
    let desk = Desk::run(&papers.origin(&[address], "\n[origin.a.pool]\nwarm = 2"));
    desk.wait_for_phase("a", "up");
    let front = desk.address("a");
    assert!(page(front).contains("TLSv1.3"));
    until("two are ready", || {
        desk.origin("a")["endpoints"][0]["warm"] == 2
    });
    server.kill();
    let waiting: Vec<_> = (0..10)
        .map(|_| std::thread::spawn(move || page(front)))
        .collect();
    desk.wait_for_held("a", 10);
    let _server = start();
    for client in waiting {
        assert!(client.join().unwrap().contains("TLSv1.3"));
    }
    until("a session is resumed", || page(front).contains("TLSv1.3 r"));
}
