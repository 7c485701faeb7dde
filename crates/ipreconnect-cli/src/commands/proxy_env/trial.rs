//! Programs that are there, tried: whether they go by the proxy, and past it where they are told to.

use std::fs::DirBuilder;
use std::hash::{BuildHasher, RandomState};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::Variable;

/// A host that nobody has (RFC 6761, section 6.4): whoever answers for it is the proxy.
const NOWHERE: &str = "proxy-env.invalid";
/// What the proxy says of it, and nobody else: that it cannot be reached, may not be, or that nobody has been named.
const PROOF: [&str; 5] = [
    "proxy-env.invalid:80",
    "502",
    "403",
    "407",
    "tunneling failed",
];
const PATIENCE: Duration = Duration::from_secs(30);

/// What came of one program.
#[derive(Debug, Serialize)]
pub(super) struct Trial {
    program: &'static str,
    /// Not there, if nothing was tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    found: Option<Found>,
}

#[derive(Debug, Serialize)]
struct Found {
    /// It asks the proxy for `http`.
    http: bool,
    /// It asks the proxy for `https`.
    https: bool,
    /// It goes past the proxy to this machine.
    no_proxy: bool,
}

impl Trial {
    pub(super) fn is_fine(&self) -> bool {
        let found = self.found.as_ref();
        found.is_none_or(|found| found.http && found.https && found.no_proxy)
    }
}

/// How a program is asked for a URL.
struct Program {
    name: &'static str,
    /// The program that has to be there.
    binary: &'static str,
    arguments: fn(&str) -> Vec<String>,
    /// What is needed beside the program, if it can be told only so.
    suits: fn() -> bool,
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

const PYTHON: &str = "import sys,urllib.request,urllib.error\ntry:\n print(urllib.request.urlopen(sys.argv[1],timeout=20).read().decode())\nexcept urllib.error.HTTPError as e:\n print(e.code,e.headers,e.read().decode())\nexcept Exception as e:\n print(e)";
const REQUESTS: &str = "import sys,requests\ntry:\n r=requests.get(sys.argv[1],timeout=20);print(r.status_code,r.headers,r.text)\nexcept Exception as e:\n print(e)";
const NODE: &str = "fetch(process.argv[1]).then(async r=>console.log(r.status,[...r.headers],await r.text())).catch(e=>console.log(e,e.cause))";
const JAVA: &str = "import java.net.*;public class T{public static void main(String[] a)throws Exception{try{var c=(HttpURLConnection)new URL(a[0]).openConnection();System.out.println(c.getResponseCode());var s=c.getErrorStream()!=null?c.getErrorStream():c.getInputStream();System.out.println(new String(s.readAllBytes()));}catch(Exception e){System.out.println(e);}}}";

const PROGRAMS: [Program; 7] = [
    Program {
        name: "curl",
        binary: "curl",
        arguments: |url| strings(&["-sS", "-i", "-m", "20", url]),
        suits: || true,
    },
    Program {
        name: "wget",
        binary: "wget",
        arguments: |url| {
            strings(&[
                "-S",
                "-T",
                "20",
                "-t",
                "1",
                "--content-on-error",
                "-O",
                "-",
                url,
            ])
        },
        suits: || true,
    },
    Program {
        name: "python3 (urllib)",
        binary: "python3",
        arguments: |url| strings(&["-c", PYTHON, url]),
        suits: || true,
    },
    Program {
        name: "python3 (requests)",
        binary: "python3",
        arguments: |url| strings(&["-c", REQUESTS, url]),
        suits: || runs("python3", &["-c", "import requests"]),
    },
    Program {
        name: "node (fetch)",
        binary: "node",
        arguments: |url| strings(&["-e", NODE, url]),
        // Older ones do not read the variables.
        suits: || runs("node", &["--use-env-proxy", "-e", "0"]),
    },
    Program {
        name: "git",
        binary: "git",
        arguments: |url| strings(&["ls-remote", url]),
        suits: || true,
    },
    Program {
        name: "java",
        binary: "java",
        arguments: |url| strings(&[&java_source(), url]),
        suits: || runs("javac", &["-version"]),
    },
];

/// The file for Java, if it was wanted and can be written.
static JAVA_FILE: OnceLock<Option<PathBuf>> = OnceLock::new();

/// Java runs a file that has the source, in a directory that nobody else can have made, or look into.
fn java_source() -> String {
    let file = JAVA_FILE.get_or_init(|| {
        let drawn = RandomState::new().hash_one("proxy-env");
        let place = std::env::temp_dir().join(format!("ipreconnect-proxy-env-{drawn:016x}"));
        DirBuilder::new().mode(0o700).create(&place).ok()?;
        let file = place.join("T.java");
        std::fs::write(&file, JAVA).ok()?;
        Some(file)
    });
    let shown = file.as_ref().map(|file| file.display().to_string());
    shown.unwrap_or_default()
}

/// Tries all.
pub(super) fn all(variables: &[Variable]) -> Vec<Trial> {
    let Ok(here) = Here::start() else {
        return Vec::new();
    };
    let trials = PROGRAMS.iter().map(|program| {
        let is_there = find(program.binary) && (program.suits)();
        Trial {
            program: program.name,
            found: is_there.then(|| one(program, variables, &here)),
        }
    });
    let trials = trials.collect();
    let made = JAVA_FILE.get().and_then(Option::as_ref);
    if let Some(place) = made.and_then(|file| file.parent()) {
        // What is left there is of no consequence.
        let _ = std::fs::remove_dir_all(place);
    }
    trials
}

fn one(program: &Program, variables: &[Variable], here: &Here) -> Found {
    let asks = |url: &str| said(program, variables, url);
    let is_proof = |said: &str| PROOF.iter().any(|proof| said.contains(proof));
    let before = here.asked.load(Relaxed);
    asks(&format!("http://{}/", here.address));
    Found {
        http: is_proof(&asks(&format!("http://{NOWHERE}/"))),
        https: is_proof(&asks(&format!("https://{NOWHERE}/"))),
        no_proxy: here.asked.load(Relaxed) > before,
    }
}

/// All that a program says when it is asked for a URL.
fn said(program: &Program, variables: &[Variable], url: &str) -> String {
    let mut command = Command::new(program.binary);
    command
        .args((program.arguments)(url))
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("NODE_NO_WARNINGS", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    for (name, value) in variables {
        command.env(name, value);
    }
    let Ok(mut child) = command.spawn() else {
        return String::new();
    };
    let deadline = Instant::now() + PATIENCE;
    while matches!(child.try_wait(), Ok(None)) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
    // One that has ended needs no end.
    let _ = child.kill();
    let output = child.wait_with_output();
    output.map_or_else(
        |_| String::new(),
        |output| {
            let said = [output.stdout, output.stderr].concat();
            String::from_utf8_lossy(&said).into_owned()
        },
    )
}

fn runs(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

fn find(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&path);
    places.any(|place: PathBuf| place.join(program).is_file())
}

/// A server of this machine, which counts who comes.
struct Here {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
}

impl Here {
    fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let asked = Arc::new(AtomicUsize::new(0));
        let counts = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let mut stream = stream;
                let mut heard = [0; 4096];
                let patience = stream.set_read_timeout(Some(Duration::from_secs(2)));
                if patience.is_ok() && stream.read(&mut heard).is_ok_and(|count| count > 0) {
                    counts.fetch_add(1, Relaxed);
                    // Who goes away before has been here all the same.
                    let _ = stream.write_all(
                        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n",
                    );
                }
            }
        });
        Ok(Self { address, asked })
    }
}

/// For people.
pub(super) fn text(url: &str, trials: &[Trial]) -> String {
    // Whatever is secret in it stays there.
    let shown = match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://…@{rest}"),
        _ => url.to_owned(),
    };
    let mut text = format!(
        "{:<20} {:<14} {:<14} to this machine\n",
        "", "http", "https"
    );
    for trial in trials {
        let Some(found) = &trial.found else {
            text.push_str(&format!(
                "{:<20} is not there, or reads no variables\n",
                trial.program
            ));
            continue;
        };
        let by = |is: bool| if is { "by the proxy" } else { "NOT BY IT" };
        let past = if found.no_proxy {
            "past it"
        } else {
            "NOT PAST IT"
        };
        text.push_str(&format!(
            "{:<20} {:<14} {:<14} {past}\n",
            trial.program,
            by(found.http),
            by(found.https)
        ));
    }
    format!("The proxy is {shown}\n\n{text}")
}
