//! Real servers behind the gateway: nginx, redis, PostgreSQL.

use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ipreconnect_lab::namespace::skipped;

use crate::desk::{Desk, ask, dial, find, free_address, one, until};

/// A server as a child process.
pub(crate) struct Server(Child);

impl Server {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self(
            command
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap(),
        )
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn signal(&self, name: &str) {
        crate::desk::signal(self.0.id(), name);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn needed(test: &str, program: &str) -> Option<PathBuf> {
    let found = find(program);
    if found.is_none() {
        skipped(test, &format!("{program} is not installed"));
    }
    found
}

fn get(front: SocketAddr) -> String {
    let mut stream = dial(front);
    ask(&mut stream, "GET / HTTP/1.0\r\n\r\n")
}

fn nginx(program: &Path, directory: &Path, address: SocketAddr) -> Server {
    let page = directory.join("html");
    std::fs::create_dir_all(&page).unwrap();
    std::fs::write(page.join("index.html"), "a page\n").unwrap();
    for place in [directory, &page] {
        std::fs::set_permissions(place, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let at = directory.display();
    let text = format!(
        "daemon off; master_process off; pid {at}/nginx.pid; error_log {at}/error.log;\n\
         events {{}}\nhttp {{ access_log off; client_body_temp_path {at}/b; proxy_temp_path {at}/p; \
         fastcgi_temp_path {at}/f; uwsgi_temp_path {at}/u; scgi_temp_path {at}/s;\n\
         server {{ listen {address}; root {at}/html; }} }}\n"
    );
    std::fs::write(directory.join("nginx.conf"), text).unwrap();
    Server::start(
        Command::new(program)
            .arg("-c")
            .arg(directory.join("nginx.conf")),
    )
}

#[test]
fn nginx_is_killed_and_started_again_and_clients_only_wait() {
    let test = "nginx_is_killed_and_started_again_and_clients_only_wait";
    let Some(program) = needed(test, "nginx") else {
        return;
    };
    let address = free_address();
    let desk = Desk::run(&one(address));
    let server = nginx(&program, desk.directory.path(), address);
    desk.wait_for_phase("a", "up");
    let front = desk.address("a");
    assert!(get(front).contains("200 OK"));
    server.kill();
    let waiting: Vec<_> = (0..20)
        .map(|_| std::thread::spawn(move || get(front)))
        .collect();
    desk.wait_for_held("a", 20);
    let _server = nginx(&program, desk.directory.path(), address);
    for client in waiting {
        assert!(client.join().unwrap().contains("200 OK"));
    }
}

fn redis(program: &Path, directory: &Path, address: SocketAddr) -> Server {
    let port = address.port().to_string();
    let mut command = Command::new(program);
    command.args([
        "--port",
        &port,
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--dir",
    ]);
    let server = Server::start(command.arg(directory));
    until("redis answers", || {
        std::net::TcpStream::connect(address).is_ok()
    });
    server
}

#[test]
fn redis_with_blocking_pops_never_looks_frozen_and_a_stopped_one_does() {
    let test = "redis_with_blocking_pops_never_looks_frozen_and_a_stopped_one_does";
    let Some(program) = needed(test, "redis-server") else {
        return;
    };
    let (one, two) = (free_address(), free_address());
    let desk = Desk::with(&format!(
        "[origin.r]\naddress = [\"{one}\", \"{two}\"]\n[[listen]]\naddress = \"127.0.0.1:auto\"\norigin = \"r\"\n"
    ));
    let first = redis(&program, desk.directory.path(), one);
    let _second = redis(&program, desk.directory.path(), two);
    let mut desk = desk;
    desk.start();
    desk.wait_for_phase("r", "up");
    let front = desk.address("r");
    let ping = || ask(&mut dial(front), "PING\r\n");
    let mut mark = dial(front);
    assert_eq!(ask(&mut mark, "SET which first\r\n"), "+OK\r\n");
    for _ in 0..60 {
        assert_eq!(ping(), "+PONG\r\n");
    }
    let mut popping: Vec<_> = (0..10).map(|_| dial(front)).collect();
    for stream in &mut popping {
        stream.write_all(b"BLPOP queue 0\r\n").unwrap();
    }
    for _ in 0..30 {
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(
            desk.origin("r")["endpoints"][0]["health"],
            "up",
            "a blocking pop is no frost"
        );
    }
    let mut push = dial(front);
    assert_eq!(ask(&mut push, "RPUSH queue x\r\n"), ":1\r\n");

    first.signal("STOP");
    let mut stuck = Vec::new();
    until("the backup takes over", || {
        let mut stream = dial(front);
        stream
            .set_read_timeout(Some(Duration::from_millis(50)))
            .unwrap();
        stream.write_all(b"PING\r\n").unwrap();
        let mut answer = [0; 7];
        let served = std::io::Read::read_exact(&mut stream, &mut answer).is_ok();
        stuck.push(stream);
        served
    });
    assert_eq!(
        desk.origin("r")["endpoints"][0]["failure"]["layer"],
        "application"
    );
    first.signal("CONT");
    until("the first is preferred again", || {
        let mut stream = dial(front);
        ask(&mut stream, "GET which\r\n").contains("first")
    });
}

/// A cluster in a directory of its own, run by a user that PostgreSQL accepts.
pub(crate) struct Postgres {
    pub(crate) directory: tempfile::TempDir,
    control: PathBuf,
    pub(crate) port: u16,
}

impl Postgres {
    pub(crate) fn new(control: PathBuf) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let cluster = Self {
            directory,
            control,
            port: free_address().port(),
        };
        if is_root() {
            let path = cluster.directory.path().display().to_string();
            assert!(
                Command::new("chown")
                    .args(["postgres", &path])
                    .status()
                    .unwrap()
                    .success()
            );
        }
        let data = cluster.data();
        cluster.run(&["initdb", "-s", "-D", &data, "-o", "-A trust -U postgres -N"]);
        cluster
    }

    pub(crate) fn data(&self) -> String {
        self.directory.path().join("data").display().to_string()
    }

    pub(crate) fn start(&self) {
        let options = format!(
            "-p {} -c listen_addresses=127.0.0.1,::1 -c unix_socket_directories='{}' -c fsync=off",
            self.port,
            self.directory.path().display()
        );
        self.run(&[
            "start",
            "-s",
            "-w",
            "-D",
            &self.data(),
            "-o",
            &options,
            "-l",
            &format!("{}.log", self.data()),
        ]);
    }

    pub(crate) fn stop(&self, mode: &str) {
        self.run(&["stop", "-s", "-w", "-D", &self.data(), "-m", mode]);
    }

    fn run(&self, arguments: &[&str]) {
        let mut command = if is_root() {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--init-groups"]);
            command.arg(&self.control);
            command
        } else {
            Command::new(&self.control)
        };
        command.args(arguments).current_dir(self.directory.path());
        let status = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success(), "pg_ctl {arguments:?} failed");
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.stop("immediate")));
    }
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn postgres_is_restarted_and_a_new_session_waits_for_it() {
    let test = "postgres_is_restarted_and_a_new_session_waits_for_it";
    let (Some(control), Some(client)) = (needed(test, "pg_ctl"), needed(test, "psql")) else {
        return;
    };
    let cluster = Postgres::new(control);
    cluster.start();
    let desk = Desk::run(&one(format!("127.0.0.1:{}", cluster.port)));
    desk.wait_for_phase("a", "up");
    let port = desk.address("a").port().to_string();
    let select = move || {
        let query = [
            "-h",
            "127.0.0.1",
            "-p",
            &port,
            "-U",
            "postgres",
            "-Atc",
            "select 40 + 2",
        ];
        let output = Command::new(&client).args(query).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(select(), "42\n");
    cluster.stop("immediate");
    let waiting = std::thread::spawn(select);
    desk.wait_for_held("a", 1);
    // PostgreSQL listens before it serves, and over plain TCP a session that comes in between is told so
    // (SQLSTATE 57P03). The origin is led away until `pg_ctl` says that it serves; who waits stays.
    desk.write(&one(free_address()));
    assert!(desk.command(&["reload"]).status.success());
    cluster.start();
    assert_eq!(desk.origin("a")["waiting"], 1);
    desk.write(&one(format!("127.0.0.1:{}", cluster.port)));
    assert!(desk.command(&["reload"]).status.success());
    assert_eq!(waiting.join().unwrap(), "42\n");
}
