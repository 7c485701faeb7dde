//! PostgreSQL at the door: psql before it, a real server behind it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rcgen::DnType;

use crate::desk::{Desk, dial, free_address, until};
use crate::servers::{Postgres, needed};
use crate::tls::Papers;

/// A server that trusts whoever comes from this machine, with a few users; and psql.
pub(crate) struct Stage {
    cluster: Postgres,
    psql: PathBuf,
}

impl Stage {
    pub(crate) fn new(test: &str) -> Option<Self> {
        let (control, psql) = (needed(test, "pg_ctl")?, needed(test, "psql")?);
        let cluster = Postgres::new(control);
        cluster.start();
        let stage = Self { cluster, psql };
        let server = SocketAddr::from(([127, 0, 0, 1], stage.cluster.port));
        for statement in [
            "create role ann login password 'open sesame'",
            "create role bob login",
            "create role eve login replication",
            "create database sales",
        ] {
            let made = stage.ask(server, "user=postgres", statement);
            assert!(made.status.success(), "{}", said(&made));
        }
        Some(stage)
    }

    /// Where the server is.
    pub(crate) fn server(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.cluster.port))
    }

    /// The gateway's configuration: the server behind, and a listener in the words of PostgreSQL.
    pub(crate) fn gateway(&self, listener: &str, rest: &str) -> String {
        format!(
            "[origin.db]\naddress = \"127.0.0.1:{}\"\n[[listen]]\naddress = \"127.0.0.1:auto\"\n\
             origin = \"db\"\nmode = \"postgres\"\n{listener}\n{rest}",
            self.cluster.port
        )
    }

    /// Has the server go by other rules.
    fn rules(&self, rules: &str) {
        let path = std::path::Path::new(&self.cluster.data()).join("pg_hba.conf");
        std::fs::write(path, rules).unwrap();
        let server = SocketAddr::from(([127, 0, 0, 1], self.cluster.port));
        let reload = self.ask(server, "user=postgres", "select pg_reload_conf()");
        assert!(reload.status.success(), "{}", said(&reload));
        let wrong = "select count(*) from pg_hba_file_rules where error is not null";
        assert_eq!(said(&self.ask(server, "user=postgres", wrong)), "0");
    }

    fn command(&self, to: SocketAddr, how: &str, query: &str) -> Command {
        let mut command = Command::new(&self.psql);
        let options = format!("host=127.0.0.1 port={} connect_timeout=20 {how}", to.port());
        command
            .args([&options, "-X", "-w", "-Atc", query])
            .env("HOME", "/nonexistent")
            .env_remove("PGPASSWORD")
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn ask(&self, to: SocketAddr, how: &str, query: &str) -> Output {
        self.command(to, how, query).output().unwrap()
    }

    /// The answer to a query, or what it was refused with.
    fn answer(&self, to: SocketAddr, how: &str) -> String {
        let how = if how.contains("dbname=") {
            how.to_owned()
        } else {
            format!("dbname=postgres {how}")
        };
        let output = self.ask(to, &how, "select current_user || '@' || current_database()");
        said(&output)
    }
}

fn said(output: &Output) -> String {
    let (out, error) = (&output.stdout, &output.stderr);
    let text = [out.as_slice(), error].concat();
    String::from_utf8_lossy(&text).trim().to_owned()
}

/// The words of an error of the server, after those of psql.
fn fatal(said: &str) -> &str {
    said.split_once("FATAL:  ").map_or(said, |(_, words)| words)
}

#[test]
fn users_and_databases_are_judged_before_the_server_is_asked() {
    let test = "users_and_databases_are_judged_before_the_server_is_asked";
    let Some(stage) = Stage::new(test) else {
        return;
    };
    let desk = Desk::with(&stage.gateway("hba = \"rules/pg_hba.conf\"", ""));
    std::fs::create_dir(desk.path("rules")).unwrap();
    let rules = "# who\nhost postgres,sales ann 127.0.0.1/32 trust\n\
                 host all bob 127.0.0.1/32 reject\n\
                 host replication eve samehost trust\n";
    std::fs::write(desk.path("rules/pg_hba.conf"), rules).unwrap();
    let mut desk = desk;
    desk.start();
    desk.wait_for_phase("db", "up");
    let front = desk.address("db");
    let sessions = || {
        let count = "select sessions from pg_stat_database where datname = 'sales'";
        let server = SocketAddr::from(([127, 0, 0, 1], stage.cluster.port));
        said(&stage.ask(server, "user=postgres dbname=postgres", count))
    };
    assert_eq!(stage.answer(front, "user=ann"), "ann@postgres");
    assert_eq!(stage.answer(front, "user=ann dbname=sales"), "ann@sales");
    // What libpq asks for first changes nothing.
    for how in ["sslmode=disable", "sslmode=allow", "gssencmode=disable"] {
        assert_eq!(
            stage.answer(front, &format!("user=ann {how}")),
            "ann@postgres"
        );
    }
    let required = stage.answer(front, "user=ann sslmode=require");
    assert!(
        required.contains("server does not support SSL, but SSL was required"),
        "{required}"
    );
    let before = sessions();
    assert_eq!(
        fatal(&stage.answer(front, "user=bob dbname=sales")),
        "pg_hba.conf rejects connection for host \"127.0.0.1\", user \"bob\", database \"sales\", no encryption"
    );
    assert_eq!(
        fatal(&stage.answer(front, "user=ann dbname=template1")),
        "no pg_hba.conf entry for host \"127.0.0.1\", user \"ann\", database \"template1\", no encryption"
    );
    assert_eq!(sessions(), before, "a refusal costs the server nothing");
    assert_eq!(
        fatal(&stage.answer(front, "user=ann replication=true")),
        "no pg_hba.conf entry for replication connection from host \"127.0.0.1\", user \"ann\", no encryption"
    );
    let system = stage.ask(front, "user=eve replication=true", "IDENTIFY_SYSTEM");
    assert!(system.status.success(), "{}", said(&system));
    // A connection for logical replication is one to its database.
    assert_eq!(
        fatal(&stage.answer(front, "user=eve dbname=sales replication=database")),
        "no pg_hba.conf entry for host \"127.0.0.1\", user \"eve\", database \"sales\", no encryption"
    );

    let why = desk.command(&[
        "why",
        "db",
        "--from",
        "127.0.0.1",
        "--user",
        "bob",
        "--database",
        "sales",
    ]);
    let text = said(&why);
    assert_eq!(why.status.code(), Some(1), "{text}");
    assert!(text.contains("pg_hba.conf:3 refuses it"), "{text}");

    // What cannot be read changes nothing, and is told as the server would tell it.
    std::fs::write(
        desk.path("rules/pg_hba.conf"),
        "host all ann 127.0.0.1/99 trust\n",
    )
    .unwrap();
    let reload = desk.command(&["reload"]);
    assert_eq!(reload.status.code(), Some(2));
    let text = said(&reload);
    assert!(
        text.contains("pg_hba.conf:1:14: invalid IP address \"127.0.0.1/99\"")
            || text.contains("pg_hba.conf:1:14: invalid CIDR mask in address \"127.0.0.1/99\""),
        "{text}"
    );
    assert_eq!(stage.answer(front, "user=ann"), "ann@postgres");
    std::fs::write(desk.path("rules/pg_hba.conf"), "host all bob all trust\n").unwrap();
    let reload = desk.command(&["reload"]);
    assert_eq!(reload.status.code(), Some(0), "{}", said(&reload));
    assert_eq!(stage.answer(front, "user=bob"), "bob@postgres");
    assert!(
        stage
            .answer(front, "user=ann")
            .contains("no pg_hba.conf entry")
    );
}

#[test]
fn passwords_are_asked_for_at_the_door() {
    let test = "passwords_are_asked_for_at_the_door";
    let Some(stage) = Stage::new(test) else {
        return;
    };
    let server = SocketAddr::from(([127, 0, 0, 1], stage.cluster.port));
    let kept = "select rolpassword from pg_authid where rolname = 'ann'";
    let verifier = said(&stage.ask(server, "user=postgres", kept));
    assert!(verifier.starts_with("SCRAM-SHA-256$"), "{verifier}");
    let rules = "[[access]]\nfrom = \"loopback\"\nuser = \"ann\"\nmethod = \"scram-sha-256\"\n\
                 [[access]]\nfrom = \"loopback\"\nuser = \"bob\"\nmethod = \"password\"\n\
                 [[access]]\nfrom = \"loopback\"\ndatabase = \"sales\"\nmethod = \"scram-sha-256\"\n";
    let papers = Papers::new();
    papers.issue("site", &["localhost"]);
    let desk = Desk::with("");
    let made = Command::new(crate::desk::PROGRAM)
        .args(["password", "bob"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .and_then(|mut child| {
            child.stdin.take().unwrap().write_all(b"swordfish\n")?;
            child.wait_with_output()
        });
    let line = said(&made.unwrap());
    assert!(line.starts_with("bob:SCRAM-SHA-256$4096:"), "{line}");
    let users = desk.path("users");
    std::fs::write(&users, format!("ann:{verifier}\n{line}\n")).unwrap();
    let others = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(&users, others).unwrap();
    let listener = format!("users = \"users\"\ntls = {}", papers.pair("site", ""));
    desk.write(&stage.gateway(&listener, rules));
    let check = said(&desk.command(&["check"]));
    assert!(check.contains("can be read by others"), "{check}");
    let nobody = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&users, nobody).unwrap();
    let mut desk = desk;
    desk.start();
    desk.wait_for_phase("db", "up");
    let front = desk.address("db");

    let told = stage.answer(front, "user=ann password='open sesame'");
    assert_eq!(told, "ann@postgres");
    let told = stage.answer(front, "user=bob password=swordfish");
    assert_eq!(told, "bob@postgres");
    for (user, password) in [("ann", "closed"), ("bob", "trout"), ("eve", "x")] {
        let how = format!("user={user} dbname=sales password={password} sslmode=require");
        let told = stage.answer(front, &how);
        assert_eq!(
            fatal(&told),
            format!("password authentication failed for user \"{user}\""),
        );
    }
    // Inside TLS alone, where the listener has it.
    let told = stage.answer(front, "user=ann password='open sesame' sslmode=disable");
    assert!(
        told.contains("no pg_hba.conf entry") && told.contains("no encryption"),
        "{told}"
    );
    let missing = stage.answer(front, "user=ann sslmode=require");
    assert!(missing.contains("no password supplied"), "{missing}");
    until("it is told", || {
        let log = desk.log();
        log.contains("not let in: the password of user \"ann\" is another one")
    });
}

#[test]
fn certificates_say_who_it_is() {
    let test = "certificates_say_who_it_is";
    let Some(stage) = Stage::new(test) else {
        return;
    };
    let papers = Papers::new();
    papers.issue("site", &["localhost"]);
    for (file, name) in [("ann", "ann"), ("robert", "robert@corp")] {
        papers.issue_with(file, &["who.test"], |params| {
            params.distinguished_name.push(DnType::CommonName, name);
        });
    }
    let roots = format!(
        ", client_ca = \"{}\", client_auth = \"optional\"",
        papers.at("ca.pem")
    );
    let listener = format!(
        "tls = {}\nhba = \"hba\"\nident = \"ident\"",
        papers.pair("site", &roots)
    );
    let mut desk = Desk::with(&stage.gateway(&listener, ""));
    std::fs::write(
        desk.path("hba"),
        "hostssl sales all all cert map=staff\nhostssl all all all cert\nhostnossl postgres bob all trust\n",
    )
    .unwrap();
    std::fs::write(
        desk.path("ident"),
        "staff /^(.*)ert@corp$ \\1\nstaff \"/^robert\" bob\n",
    )
    .unwrap();
    desk.start();
    desk.wait_for_phase("db", "up");
    let front = desk.address("db");
    let shown = |file: &str| {
        format!(
            "sslmode=require sslcert={} sslkey={}",
            papers.at(&format!("{file}.pem")),
            papers.at(&format!("{file}.key"))
        )
    };
    let ann = shown("ann");
    assert_eq!(
        stage.answer(front, &format!("user=ann {ann}")),
        "ann@postgres"
    );
    assert_eq!(
        fatal(&stage.answer(front, &format!("user=bob {ann}"))),
        "certificate authentication failed for user \"bob\""
    );
    // The first line of the map decides for whom it names, and the second for others.
    let robert = shown("robert");
    assert_eq!(
        stage.answer(front, &format!("user=bob dbname=sales {robert}")),
        "bob@sales"
    );
    let told = stage.answer(front, &format!("user=ann dbname=sales {robert}"));
    assert!(told.contains("certificate authentication failed"), "{told}");
    assert_eq!(
        fatal(&stage.answer(front, "user=ann sslmode=require sslcert=none sslkey=none")),
        "connection requires a valid client certificate"
    );
    assert_eq!(
        stage.answer(front, "user=bob sslmode=disable"),
        "bob@postgres"
    );
}

#[test]
fn a_query_is_cancelled_through_the_door() {
    let test = "a_query_is_cancelled_through_the_door";
    let Some(stage) = Stage::new(test) else {
        return;
    };
    let papers = Papers::new();
    papers.issue("site", &["localhost"]);
    for listener in [String::new(), format!("tls = {}", papers.pair("site", ""))] {
        let desk = Desk::run(&stage.gateway(&listener, ""));
        desk.wait_for_phase("db", "up");
        let front = desk.address("db");
        let began = Instant::now();
        let child = stage
            .command(front, "user=ann dbname=postgres", "select pg_sleep(60)")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut child = Guard(Some(child));
        let server = SocketAddr::from(([127, 0, 0, 1], stage.cluster.port));
        until("the query runs", || {
            let running = "select count(*) from pg_stat_activity where query = 'select pg_sleep(60)' and state = 'active'";
            said(&stage.ask(server, "user=postgres", running)) == "1"
        });
        crate::desk::signal(child.0.as_ref().unwrap().id(), "INT");
        let output = child.0.take().unwrap().wait_with_output().unwrap();
        let told = said(&output);
        assert!(
            told.contains("canceling statement due to user request"),
            "{told}"
        );
        assert!(began.elapsed() < Duration::from_secs(50));
    }
}

struct Guard(Option<Child>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What is answered to these bytes, until the connection is closed.
fn answered(front: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = dial(front);
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    stream.write_all(bytes).unwrap();
    rest(&mut stream)
}

fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut answer = Vec::new();
    let mut buffer = [0; 1024];
    // A connection that is reset has said what it had to say.
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        answer.extend_from_slice(&buffer[..count]);
    }
    answer
}

/// A packet of the start, with these parameters.
fn start_up(parameters: &[&[u8]]) -> Vec<u8> {
    let mut inside = parameters.join(&0);
    inside.extend_from_slice(b"\0\0");
    let length = u32::try_from(inside.len() + 8).unwrap();
    [&length.to_be_bytes()[..], &[0, 3, 0, 0], &inside].concat()
}

#[test]
fn what_is_no_client_of_postgresql_is_sent_away() {
    let origin = free_address();
    let text = format!(
        "[origin.db]\naddress = \"{origin}\"\nhold.for = \"0s\"\n[[listen]]\naddress = \"127.0.0.1:auto\"\n\
         origin = \"db\"\nmode = \"postgres\"\n"
    );
    let desk = Desk::run(&text);
    desk.wait_for_phase("db", "down");
    let front = desk.address("db");
    let told = |bytes: &[u8]| String::from_utf8_lossy(&answered(front, bytes)).replace('\0', " ");
    let ssl = [0, 0, 0, 8, 4, 210, 22, 47];
    let start = start_up(&[b"user", b"ann"]);
    // An origin that is away is told in the words of a server that starts: clients try their next host.
    let away = told(&start);
    assert!(away.starts_with('E') && away.contains("C57P03"), "{away}");
    assert!(away.contains("db"), "{away}");
    assert!(
        told(&[&ssl[..], &start].concat()).contains("received unencrypted data after SSL request")
    );
    assert!(told(&start_up(&[b"user", b"ann", b"user", b"bob"])).contains("more than once"));
    assert!(told(&start_up(&[b"database", b"ann"])).contains("C28000 Mno PostgreSQL user name"));
    let long = vec![b'a'; 9_000];
    assert!(told(&start_up(&[b"user", &long])).contains("C42622"));
    let longer = vec![b'a'; 65_536];
    assert!(told(&start_up(&[b"user", &longer])).contains("invalid length of startup packet"));
    assert!(told(b"GET / HTTP/1.1\r\n\r\n").contains("invalid length of startup packet"));
    assert!(told(&[0, 0, 0, 9, 0, 2, 0, 0, 0]).contains("unsupported frontend protocol 2.0"));
    // TLS is refused, and asked for once.
    let mut stream = dial(front);
    stream.write_all(&ssl).unwrap();
    let mut answer = [0; 1];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"N");
    stream.write_all(&ssl).unwrap();
    assert!(String::from_utf8_lossy(&rest(&mut stream)).contains("more than once"));
    // A name may have any bytes; a newline in it makes no second line of the log.
    assert!(told(&start_up(&[b"user", b"a\nb\xff"])).contains("C57P03"));
    // Others are served meanwhile, however long one says nothing.
    let _silent = dial(front);
    assert!(told(&start).contains("C57P03"));
}

#[test]
fn a_server_that_is_to_ask_and_does_not_is_not_believed() {
    let test = "a_server_that_is_to_ask_and_does_not_is_not_believed";
    let Some(stage) = Stage::new(test) else {
        return;
    };
    let papers = Papers::new();
    papers.issue("site", &["localhost"]);
    let rules = "host all all 127.0.0.1/32 scram-sha-256\n";
    for tls in [String::new(), format!("tls = {}", papers.pair("site", ""))] {
        let mut desk = Desk::with(&stage.gateway(&format!("hba = \"hba\"\n{tls}"), ""));
        std::fs::write(desk.path("hba"), rules).unwrap();
        desk.start();
        desk.wait_for_phase("db", "up");
        let front = desk.address("db");
        // The server trusts whoever comes from the gateway.
        let told = stage.answer(front, "user=ann");
        assert!(
            told.contains("wants them to be asked who they are"),
            "{told}"
        );
        until("it is told", || {
            let log = desk.log();
            log.contains("the server behind does not ask who it is")
        });
        // And now it asks, and both go on untouched.
        stage
            .rules("host all ann all scram-sha-256\nlocal all all trust\nhost all all all trust\n");
        let told = stage.answer(front, "user=ann password='open sesame'");
        assert_eq!(told, "ann@postgres");
        let told = stage.answer(front, "user=ann password=closed");
        assert!(
            told.contains("password authentication failed for user \"ann\""),
            "{told}"
        );
        stage.rules("local all all trust\nhost all all all trust\n");
    }
}

#[test]
fn guesses_of_one_name_do_not_lock_others_out() {
    let test = "guesses_of_one_name_do_not_lock_others_out";
    let Some(stage) = Stage::new(test) else {
        return;
    };
    let rules = "[[access]]\nfrom = \"loopback\"\nmethod = \"scram-sha-256\"\n";
    let mut desk = Desk::with(&stage.gateway("users = \"users\"", rules));
    let mut lines = String::new();
    for name in ["ann", "bob"] {
        lines.push_str(&format!(
            "{name}:{}\n",
            ipreconnect_proxy::verifier(b"right").unwrap()
        ));
    }
    std::fs::write(desk.path("users"), lines).unwrap();
    let own = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(desk.path("users"), own).unwrap();
    desk.start();
    desk.wait_for_phase("db", "up");
    let front = desk.address("db");
    let guesses: Vec<_> = (0..12)
        .map(|_| {
            let mut command =
                stage.command(front, "user=ann dbname=postgres password=wrong", "select 1");
            Guard(Some(
                command
                    .stderr(Stdio::piped())
                    .stdout(Stdio::piped())
                    .spawn()
                    .unwrap(),
            ))
        })
        .collect();
    until("too many are wrong", || desk.log().contains("not let in: "));
    assert_eq!(
        stage.answer(front, "user=bob password=right"),
        "bob@postgres"
    );
    for mut guess in guesses {
        let output = guess.0.take().unwrap().wait_with_output().unwrap();
        assert!(said(&output).contains("password authentication failed for user \"ann\""));
    }
    // And she herself comes in when the answers have been given.
    until("ann comes in", || {
        stage.answer(front, "user=ann password=right") == "ann@postgres"
    });
}

#[test]
fn who_names_no_server_goes_to_none() {
    let test = "who_names_no_server_goes_to_none";
    let Some(stage) = Stage::new(test) else {
        return;
    };
    let papers = Papers::new();
    papers.issue("site", &["localhost"]);
    let text = format!(
        "[origin.db]\naddress = \"127.0.0.1:{}\"\n[[listen]]\naddress = \"127.0.0.1:auto\"\nname = \"db\"\n\
         mode = \"postgres\"\nhba = \"hba\"\ntls = {}\n[[listen.route]]\nhost = \"localhost\"\norigin = \"db\"\n",
        stage.cluster.port,
        papers.pair("site", "")
    );
    let mut desk = Desk::with(&text);
    std::fs::write(desk.path("hba"), "host all all all trust\n").unwrap();
    desk.start();
    desk.wait_for_phase("db", "up");
    let front = desk.address("db");
    let named = |host: &str| format!("user=ann sslmode=require host={host} hostaddr=127.0.0.1");
    assert_eq!(stage.answer(front, &named("localhost")), "ann@postgres");
    let told = stage.answer(front, "user=ann sslmode=disable");
    assert!(
        told.contains("clients say inside TLS which server they want"),
        "{told}"
    );
    let told = stage.answer(front, &named("elsewhere"));
    assert!(!told.contains("ann@postgres"), "{told}");
}

/// What a server says to this start-up packet inside TLS that was opened at once.
fn directly(front: SocketAddr, more: &[&str], start: &[u8]) -> Vec<u8> {
    let mut child = Command::new("openssl")
        .args(["s_client", "-quiet", "-connect", &front.to_string()])
        .args(more)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // One that was sent away reads nothing.
    let mut input = child.stdin.take().unwrap();
    let _ = input.write_all(start);
    let mut said = vec![0; 9];
    let read = child.stdout.take().unwrap().read_exact(&mut said);
    let _ = child.kill();
    let _ = child.wait();
    read.map_or(Vec::new(), |()| said)
}

#[test]
fn tls_may_begin_at_once_and_gssapi_is_refused() {
    let test = "tls_may_begin_at_once_and_gssapi_is_refused";
    let Some(stage) = Stage::new(test) else {
        return;
    };
    if needed(test, "openssl").is_none() {
        return;
    }
    let papers = Papers::new();
    papers.issue("site", &["localhost"]);
    let listener = format!("tls = {}\nhba = \"hba\"", papers.pair("site", ""));
    let mut desk = Desk::with(&stage.gateway(&listener, ""));
    let rules = "hostssl postgres ann all trust\nhostnossl postgres bob all trust\n";
    std::fs::write(desk.path("hba"), rules).unwrap();
    desk.start();
    desk.wait_for_phase("db", "up");
    let front = desk.address("db");
    let ann = start_up(&[b"user", b"ann", b"database", b"postgres"]);
    let welcome = b"R\0\0\0\x08\0\0\0\0";
    assert_eq!(directly(front, &["-alpn", "postgresql"], &ann), welcome);
    // Another protocol's client may have been sent here.
    assert_eq!(directly(front, &[], &ann), b"");
    assert_eq!(directly(front, &["-alpn", "h2"], &ann), b"");

    let mut stream = dial(front);
    let mut answer = [0; 1];
    stream.write_all(&[0, 0, 0, 8, 4, 210, 22, 48]).unwrap();
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"N");
    stream
        .write_all(&start_up(&[b"user", b"bob", b"database", b"postgres"]))
        .unwrap();
    let mut answer = [0; 9];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, welcome);
}
