//! A gateway as a child process, with a directory of its own.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

/// The ports that tests take for themselves.
const FIRST_PORT: u16 = 20_000;
const PORTS: u16 = 12_000;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_ipreconnect");

/// A directory, a configuration in it, and the gateway that runs by it.
pub(crate) struct Desk {
    pub(crate) directory: tempfile::TempDir,
    child: Option<Child>,
}

impl Desk {
    /// A desk with a configuration and no gateway yet.
    pub(crate) fn with(configuration: &str) -> Self {
        let desk = Self {
            directory: tempfile::tempdir().unwrap(),
            child: None,
        };
        desk.write(configuration);
        desk
    }

    /// A gateway that runs by this configuration, and answers.
    pub(crate) fn run(configuration: &str) -> Self {
        let mut desk = Self::with(configuration);
        desk.start();
        desk
    }

    /// Replaces the configuration.
    pub(crate) fn write(&self, configuration: &str) {
        let text = format!("[gateway]\nstate_dir = \"state\"\nshutdown = \"5s\"\n{configuration}");
        let new = self.path("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, self.path("ipreconnect.toml")).unwrap();
    }

    pub(crate) fn start(&mut self) {
        self.start_by(Command::new(PROGRAM).arg("run"));
    }

    /// Starts the gateway by a command of the test's own.
    pub(crate) fn start_by(&mut self, command: &mut Command) {
        let log = std::fs::File::create(self.path("log")).unwrap();
        let child = command
            .current_dir(self.directory.path())
            .env("NO_COLOR", "1")
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        until("the gateway answers", || {
            self.command(&["status"]).status.code() != Some(3)
        });
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// What is written by now: all that has happened before, though lines are written a moment later.
    pub(crate) fn log(&self) -> String {
        let read = || std::fs::read_to_string(self.path("log")).unwrap();
        let last = self.child.as_ref().and_then(|_| self.last_event());
        if let Some(last) = last {
            let deadline = Instant::now() + Duration::from_secs(10);
            while !read().contains(&last) && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        read()
    }

    /// What happened last, if the gateway can be asked.
    fn last_event(&self) -> Option<String> {
        let mut socket = UnixStream::connect(self.path("state/admin.sock")).ok()?;
        socket.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        let request = "GET /v1/events HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        socket.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).ok()?;
        let body: Value = serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()?;
        let last = body["events"].as_array()?.last()?;
        let message = last["message"].as_str()?;
        // Of what is longer, and of what is written otherwise in a line, the beginning is enough.
        let plain = message
            .split(|one: char| one.is_control() || one == '…')
            .next();
        plain.map(str::to_owned)
    }

    /// Runs another command of the program here.
    pub(crate) fn command(&self, arguments: &[&str]) -> Output {
        Command::new(PROGRAM)
            .args(arguments)
            .current_dir(self.directory.path())
            .env("NO_COLOR", "1")
            .output()
            .unwrap()
    }

    pub(crate) fn status(&self) -> Value {
        let output = self.command(&["status", "--json"]);
        serde_json::from_slice(&output.stdout).unwrap()
    }

    pub(crate) fn origin(&self, name: &str) -> Value {
        let status = self.status();
        let origins = status["origins"].as_array().unwrap();
        origins
            .iter()
            .find(|origin| origin["name"] == name)
            .cloned()
            .unwrap()
    }

    pub(crate) fn wait_for_phase(&self, origin: &str, phase: &str) {
        until(&format!("{origin} is {phase}"), || {
            self.origin(origin)["phase"] == phase
        });
    }

    pub(crate) fn wait_for_held(&self, origin: &str, count: u64) {
        until(&format!("{count} clients are held"), || {
            self.origin(origin)["waiting"] == count
        });
    }

    /// Where a listener listens.
    pub(crate) fn address(&self, listener: &str) -> SocketAddr {
        let status = self.status();
        let listeners = status["listeners"]["listeners"].as_array().unwrap();
        let found = listeners
            .iter()
            .find(|one| one["name"] == listener)
            .unwrap();
        let address = found["addresses"][0].as_str().unwrap();
        address.trim_end_matches("/udp").parse().unwrap()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// Waits for the gateway's own end, and returns its exit code.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        let mut child = self.child.take().unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status.code();
            }
            assert!(
                Instant::now() < deadline,
                "the gateway does not end: {}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.path("log"));
            eprintln!("--- the gateway's log\n{}", log.unwrap_or_default());
        }
    }
}

pub(crate) fn signal(pid: u32, name: &str) {
    let status = Command::new("kill")
        .args([&format!("-{name}"), &pid.to_string()])
        .status();
    assert!(status.unwrap().success());
}

/// Waits until a fact holds.
#[track_caller]
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "never came true: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A small server in this process: answers each line with `NAME line`, and keeps the connection.
pub(crate) fn line_server(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    serve(listener, name);
    address
}

pub(crate) fn serve(listener: TcpListener, name: &'static str) {
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            std::thread::spawn(move || {
                let mut buffer = [0; 1024];
                while let Ok(count @ 1..) = stream.read(&mut buffer) {
                    let line = String::from_utf8_lossy(&buffer[..count]).into_owned();
                    if stream
                        .write_all(format!("{name} {line}").as_bytes())
                        .is_err()
                    {
                        return;
                    }
                }
            });
        }
    });
}

/// The same as a server that can be killed, and started again at the same address.
pub(crate) struct Mortal {
    address: SocketAddr,
    name: &'static str,
    is_dead: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Mortal {
    pub(crate) fn born(name: &'static str) -> Self {
        let mut mortal = Self {
            address: free_address(),
            name,
            is_dead: Arc::default(),
            thread: None,
        };
        mortal.revive();
        mortal
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn revive(&mut self) {
        let listener = TcpListener::bind(self.address).unwrap();
        listener.set_nonblocking(true).unwrap();
        self.is_dead = Arc::default();
        let (is_dead, name) = (Arc::clone(&self.is_dead), self.name);
        self.thread = Some(std::thread::spawn(move || {
            let mut streams: Vec<TcpStream> = Vec::new();
            while !is_dead.load(Relaxed) {
                if let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(true).unwrap();
                    streams.push(stream);
                }
                let mut buffer = [0; 1024];
                for stream in &mut streams {
                    if let Ok(count @ 1..) = stream.read(&mut buffer) {
                        let line = String::from_utf8_lossy(&buffer[..count]).into_owned();
                        let _ = stream.write_all(format!("{name} {line}").as_bytes());
                    }
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        }));
    }

    pub(crate) fn kill(&mut self) {
        self.is_dead.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// An address that nobody has, over TCP or UDP, and that stays free: its port is outside the range
/// that the kernel gives to connections (ip(7), `ip_local_port_range`), and nobody is told it twice.
pub(crate) fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = std::process::id() % u32::from(PORTS);
    for _ in 0..PORTS {
        let next = u32::from(NEXT.fetch_add(1, Relaxed));
        let port = FIRST_PORT + u16::try_from((start + next) % u32::from(PORTS)).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
            return address;
        }
    }
    panic!("all {PORTS} ports from {FIRST_PORT} on are in use");
}

pub(crate) fn dial(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    stream
}

pub(crate) fn ask(stream: &mut TcpStream, line: &str) -> String {
    stream.write_all(line.as_bytes()).unwrap();
    read(stream)
}

pub(crate) fn read(stream: &mut TcpStream) -> String {
    let mut buffer = [0; 65_536];
    let count = stream.read(&mut buffer).unwrap();
    String::from_utf8_lossy(&buffer[..count]).into_owned()
}

/// The same with a preferred address and its backups.
pub(crate) fn of(addresses: &[SocketAddr]) -> String {
    let quoted: Vec<String> = addresses
        .iter()
        .map(|address| format!("\"{address}\""))
        .collect();
    one("h:1").replace("\"h:1\"", &format!("[{}]", quoted.join(", ")))
}

/// One origin named `a` behind one listener of the same name.
pub(crate) fn one(address: impl std::fmt::Display) -> String {
    format!(
        "[origin.a]\naddress = \"{address}\"\n[[listen]]\naddress = \"127.0.0.1:auto\"\norigin = \"a\"\n"
    )
}

/// Where a program is, if it is.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = std::env::split_paths(&path).collect();
    places.extend(["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from));
    if let Ok(versions) = std::fs::read_dir("/usr/lib/postgresql") {
        places.extend(versions.flatten().map(|version| version.path().join("bin")));
    }
    // Where the test command puts what comes as Python packages.
    let built = std::path::Path::new(PROGRAM).ancestors().nth(2);
    places.extend(built.map(|target| target.join("python/bin")));
    places
        .into_iter()
        .map(|place| place.join(program))
        .find(|file| file.is_file())
}
