//! The forward proxy, by the programs that people use.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use ipreconnect_lab::namespace::skipped;

use crate::desk::{Desk, free_address, until};
use crate::http::nginx_by;
use crate::servers::{Server, needed};
use crate::tls::Papers;

/// Rules by which clients may go to this machine.
const OPEN: &str = "ports = \"all\"\nprivate = [\"127.0.0.0/8\", \"::1\"]\n";

/// A forward proxy, and web servers that it can reach.
struct Stage {
    desk: Desk,
    papers: Papers,
    /// Without TLS, and with it.
    plain: SocketAddr,
    sealed: SocketAddr,
    _servers: [Server; 2],
}

impl Stage {
    fn new(rules: &str, more: &str) -> Self {
        let papers = Papers::new();
        papers.issue("web", &["localhost"]);
        let (plain, sealed) = (free_address(), free_address());
        let mut desk = Desk::with(&format!(
            "[log]\naccess = \"access.log\"\n[[listen]]\nmode = \"forward\"\naddress = \"127.0.0.1:auto\"\n\
             [listen.forward]\n{OPEN}{rules}\n{more}"
        ));
        let tls = format!(
            "ssl_certificate {}; ssl_certificate_key {};",
            papers.at("web.pem"),
            papers.at("web.key")
        );
        let servers = [
            nginx_by(desk.directory.path(), "plain", plain, ("", "")),
            nginx_by(desk.directory.path(), "sealed", sealed, (" ssl", &tls)),
        ];
        for address in [plain, sealed] {
            until("nginx listens", || {
                std::net::TcpStream::connect(address).is_ok()
            });
        }
        // The system's roots are those of the test.
        let mut gateway = Command::new(crate::desk::PROGRAM);
        desk.start_by(gateway.arg("run").env("SSL_CERT_FILE", papers.at("ca.pem")));
        Self {
            desk,
            papers,
            plain,
            sealed,
            _servers: servers,
        }
    }

    fn proxy(&self) -> SocketAddr {
        self.desk.address("forward")
    }

    /// URLs of a page that says who asks, in the clear and by TLS.
    fn pages(&self) -> [String; 2] {
        [
            format!("http://localhost:{}/who", self.plain.port()),
            format!("https://localhost:{}/who", self.sealed.port()),
        ]
    }

    /// Puts a page there that may be kept: what has not changed for long will not soon.
    fn keep(&self, name: &str, body: &str) {
        let page = self.desk.path("plain/html").join(name);
        std::fs::write(&page, body).unwrap();
        let file = std::fs::File::options().write(true).open(page).unwrap();
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
    }

    /// The lines of the access log with this in them, once there is one.
    fn lines(&self, what: &str) -> Vec<String> {
        let path = self.desk.path("access.log");
        let mut lines = Vec::new();
        until("the line is written", || {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            lines = text
                .lines()
                .filter(|line| line.contains(what))
                .map(str::to_owned)
                .collect();
            !lines.is_empty()
        });
        lines
    }
}

/// A file in which ann's password is `hush`.
fn users() -> tempfile::NamedTempFile {
    use std::io::Write;
    let mut child = Command::new(crate::desk::PROGRAM)
        .args(["password", "ann"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"hush\n").unwrap();
    let made = child.wait_with_output().unwrap();
    let users = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(users.path(), &made.stdout).unwrap();
    users
}

/// All that a program says.
fn said(output: &Output) -> String {
    let words = [output.stdout.as_slice(), &output.stderr].concat();
    String::from_utf8_lossy(&words).into_owned()
}

fn run(
    program: impl AsRef<std::ffi::OsStr>,
    arguments: &[&str],
    environment: &[(&str, &str)],
) -> String {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    for name in ["http_proxy", "https_proxy", "all_proxy", "no_proxy"] {
        command.env_remove(name).env_remove(name.to_uppercase());
    }
    command.envs(environment.iter().copied());
    said(&command.output().unwrap())
}

fn is_here(test: &str, programs: &[&str]) -> bool {
    programs
        .iter()
        .all(|program| needed(test, program).is_some())
}

/// The packages that `cargo xtask test` puts aside.
fn python(test: &str) -> Option<PathBuf> {
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../python/bin/python");
    let has_all = Command::new(&program)
        .args(["-c", "import requests, socks, httpx, socksio"])
        .stderr(Stdio::null())
        .status();
    if !has_all.is_ok_and(|status| status.success()) {
        skipped(test, "requests and httpx are not installed");
        return None;
    }
    Some(program)
}

#[test]
fn curl_goes_by_every_way() {
    let test = "curl_goes_by_every_way";
    if !is_here(test, &["nginx", "curl"]) {
        return;
    }
    let stage = Stage::new("", "");
    let (proxy, ca) = (stage.proxy(), stage.papers.at("ca.pem"));
    let [plain, sealed] = stage.pages();
    for (scheme, url) in [
        ("http", &plain),
        ("http", &sealed),
        ("socks5", &plain),
        ("socks5h", &sealed),
        ("socks4", &plain),
        ("socks4a", &sealed),
    ] {
        let by = format!("{scheme}://{proxy}");
        let told = run(
            "curl",
            &["-sS", "-4", "-m", "20", "--cacert", &ca, "-x", &by, url],
            &[],
        );
        let is_right =
            told.starts_with("plain GET localhost") || told.starts_with("sealed GET localhost");
        assert!(is_right, "{scheme} {url}: {told}");
        // Nothing of the client is told.
        assert!(!told.contains("127.0.0.1"), "{told}");
    }
    let told = run(
        "curl",
        &["-sS", "-m", "20", "-p", "-x", &proxy.to_string(), &plain],
        &[],
    );
    assert!(
        told.starts_with("plain GET localhost"),
        "a tunnel to port 80: {told}"
    );
    let body = "x".repeat(300_000);
    let file = stage.desk.path("body");
    std::fs::write(&file, &body).unwrap();
    let at = format!("@{}", file.display());
    let told = run(
        "curl",
        &[
            "-sS",
            "-m",
            "20",
            "-x",
            &proxy.to_string(),
            "--data-binary",
            &at,
            &plain,
        ],
        &[],
    );
    assert!(told.starts_with("plain POST localhost"), "{told}");
    let line = stage.lines("\"protocol\":\"SOCKS5\"").remove(0);
    assert!(line.contains("\"status\":200"), "{line}");
}

#[test]
fn https_that_is_asked_for_in_the_open_is_proven() {
    let test = "https_that_is_asked_for_in_the_open_is_proven";
    if !is_here(test, &["nginx"]) {
        return;
    }
    let stage = Stage::new("cache = \"64MiB\"\n", "");
    let ask = |url: &str| {
        let mut stream = crate::desk::dial(stage.proxy());
        let asks = format!("GET {url} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let mut heard = crate::desk::ask(&mut stream, &asks);
        std::io::Read::read_to_string(&mut stream, &mut heard).unwrap();
        heard
    };
    let [plain, sealed] = stage.pages();
    assert!(ask(&sealed).contains("sealed GET localhost"));
    assert!(ask(&plain).contains("plain GET localhost"));
    // Its certificate is for other names than this.
    let port = stage.sealed.port();
    let told = ask(&format!("https://127.0.0.1:{port}/who"));
    assert!(
        told.contains("502 Bad Gateway") && told.contains("tls_certificate_error"),
        "{told}"
    );
    assert!(told.contains("certificate is for another name"), "{told}");
}

#[test]
fn who_has_to_show_a_name_shows_it() {
    let test = "who_has_to_show_a_name_shows_it";
    if !is_here(test, &["nginx", "curl"]) {
        return;
    }
    let users = users();
    let rules = format!(
        "users = {{ file = {:?} }}\nper_user = {{ bytes_per_day = \"100KiB\" }}\npac = \"/proxy.pac\"\n",
        users.path()
    );
    let stage = Stage::new(&rules, "");
    let (proxy, ca) = (stage.proxy(), stage.papers.at("ca.pem"));
    let [plain, sealed] = stage.pages();
    let ask = |scheme: &str, user: &str, url: &str| {
        let by = format!("{scheme}://{user}{proxy}");
        run(
            "curl",
            &[
                "-sS", "-4", "-i", "-m", "30", "--cacert", &ca, "-x", &by, url,
            ],
            &[],
        )
    };
    for scheme in ["http", "socks5h"] {
        for url in [&plain, &sealed] {
            let told = ask(scheme, "ann:hush@", url);
            assert!(told.contains(" GET localhost"), "{scheme} {url}: {told}");
            let told = ask(scheme, "ann:wrong@", url);
            assert!(!told.contains(" GET localhost"), "{scheme} {url}: {told}");
            let told = ask(scheme, "", url);
            assert!(!told.contains(" GET localhost"), "{scheme} {url}: {told}");
        }
    }
    let told = ask("http", "", &plain);
    assert!(told.contains("407 Proxy Authentication Required"), "{told}");
    assert!(
        told.contains("Proxy-Authenticate: Basic realm=\"ipreconnect\""),
        "{told}"
    );
    assert!(told.contains("has to show who he is"), "{told}");
    let lines = stage.lines("\"user\":\"ann\"");
    assert!(
        lines.iter().any(|line| line.contains("SOCKS5")),
        "{lines:?}"
    );
    assert!(
        !std::fs::read_to_string(stage.desk.path("access.log"))
            .unwrap()
            .contains("hush")
    );
    // What leads here is nobody's secret.
    for more in ["--http1.1", "--http2-prior-knowledge"] {
        let pac = format!("http://{proxy}/proxy.pac");
        let told = run("curl", &["-sS", "-m", "30", more, &pac], &[]);
        let wanted = format!("PROXY {proxy}; SOCKS5 {proxy}");
        assert!(told.contains(&wanted), "{more}: {told}");
    }
    // Over HTTP/2 it is told, too, how that is done.
    let instead = format!("localhost:{}:{proxy}", stage.plain.port());
    let told = run(
        "curl",
        &[
            "-sSi",
            "-m",
            "30",
            "--http2-prior-knowledge",
            "--connect-to",
            &instead,
            &plain,
        ],
        &[],
    );
    assert!(told.starts_with("HTTP/2 407"), "{told}");
    assert!(told.contains("proxy-authenticate: Basic realm="), "{told}");
    // What ann may have of this day is hers alone.
    let large = format!("http://localhost:{}/large", stage.plain.port());
    ask("http", "ann:hush@", &large);
    let told = ask("http", "ann:hush@", &plain);
    assert!(
        told.contains("429 Too Many Requests") && told.contains("bytes of this day"),
        "{told}"
    );
}

#[test]
fn programs_of_python_go_by_it() {
    let test = "programs_of_python_go_by_it";
    let Some(python) = python(test) else { return };
    if !is_here(test, &["nginx"]) {
        return;
    }
    let stage = Stage::new("", "");
    let (proxy, ca) = (stage.proxy(), stage.papers.at("ca.pem"));
    let script = "import sys, requests, httpx\n\
        by, ca, plain, sealed = sys.argv[1:]\n\
        for url in (plain, sealed):\n\
        \x20 print(requests.get(url, proxies={'http': by, 'https': by}, verify=ca, timeout=20).text)\n\
        \x20 import ssl\n\
        \x20 context = ssl.create_default_context(cafile=ca)\n\
        \x20 with httpx.Client(proxy=by.replace('socks5h', 'socks5'), verify=context, timeout=20) as client:\n\
        \x20  print(client.get(url).text)\n";
    let [plain, sealed] = stage.pages();
    for scheme in ["http", "socks5h"] {
        let by = format!("{scheme}://{proxy}");
        let told = run(&python, &["-c", script, &by, &ca, &plain, &sealed], &[]);
        assert_eq!(
            told.matches(" GET localhost").count(),
            4,
            "{scheme}: {told}"
        );
    }
}

#[test]
fn node_goes_by_it() {
    let test = "node_goes_by_it";
    if !is_here(test, &["nginx", "node"]) {
        return;
    }
    let stage = Stage::new("", "");
    let script = r"
        const http = require('http'), fs = require('fs');
        const [proxy, ca, plain, sealed] = process.argv.slice(1);
        const [host, port] = proxy.split(':');
        const show = answer => { answer.setEncoding('utf8'); answer.on('data', text => console.log(text)); };
        http.get({ host, port, path: plain, headers: { Host: new URL(plain).host } }, show);
        const to = new URL(sealed);
        http.request({ host, port, method: 'CONNECT', path: to.host }).on('connect', (answer, socket) => {
            console.log('tunnel', answer.statusCode);
            const tls = require('tls').connect({ socket, servername: to.hostname, ca: fs.readFileSync(ca) });
            tls.setEncoding('utf8');
            tls.on('data', text => console.log(text));
            tls.write(`GET ${to.pathname} HTTP/1.0\r\nHost: ${to.host}\r\n\r\n`);
        }).end();";
    let [plain, sealed] = stage.pages();
    let (proxy, ca) = (stage.proxy().to_string(), stage.papers.at("ca.pem"));
    let told = run("node", &["-e", script, &proxy, &ca, &plain, &sealed], &[]);
    assert!(
        told.contains("plain GET localhost") && told.contains("tunnel 200"),
        "{told}"
    );
    assert!(told.contains("sealed GET localhost"), "{told}");
}

#[test]
fn git_clones_by_it() {
    let test = "git_clones_by_it";
    if !is_here(test, &["nginx", "git"]) {
        return;
    }
    let stage = Stage::new("", "");
    let from = stage.desk.path("from");
    let from = from.to_str().unwrap();
    let name = ["-c", "user.name=a", "-c", "user.email=a@b"];
    let git = |arguments: &[&str], environment: &[(&str, &str)]| run("git", arguments, environment);
    git(&["init", "-q", from], &[]);
    std::fs::write(format!("{from}/file"), "a".repeat(100_000)).unwrap();
    git(&["-C", from, "add", "file"], &[]);
    git(
        &[&["-C", from][..], &name, &["commit", "-qm", "one"]].concat(),
        &[],
    );
    for server in ["plain", "sealed"] {
        let to = stage.desk.path(&format!("{server}/html/repository.git"));
        git(&["clone", "-q", "--bare", from, to.to_str().unwrap()], &[]);
        git(&["-C", to.to_str().unwrap(), "update-server-info"], &[]);
    }
    let ca = stage.papers.at("ca.pem");
    for (scheme, url) in [
        (
            "http",
            format!("http://localhost:{}/repository.git", stage.plain.port()),
        ),
        (
            "http",
            format!("https://localhost:{}/repository.git", stage.sealed.port()),
        ),
        (
            "socks5h",
            format!("https://localhost:{}/repository.git", stage.sealed.port()),
        ),
    ] {
        let by = format!("http.proxy={scheme}://{}", stage.proxy());
        let to = stage.desk.path("cloned");
        let _ = std::fs::remove_dir_all(&to);
        let environment = [
            ("GIT_SSL_CAINFO", ca.as_str()),
            ("GIT_TERMINAL_PROMPT", "0"),
        ];
        let told = git(
            &["-c", &by, "clone", "-q", &url, to.to_str().unwrap()],
            &environment,
        );
        let file = std::fs::read_to_string(to.join("file"));
        assert!(
            file.is_ok_and(|file| file.len() == 100_000),
            "{url}: {told}"
        );
    }
}

#[test]
fn apt_fetches_by_it() {
    let test = "apt_fetches_by_it";
    if !is_here(test, &["nginx", "apt-get"]) {
        return;
    }
    let stage = Stage::new("cache = \"64MiB\"\n", "");
    let packages = stage.desk.path("plain/html/Packages");
    std::fs::write(
        &packages,
        "Package: nothing\nVersion: 1\nArchitecture: all\nMaintainer: a <a@b>\nDescription: x\nFilename: ./nothing.deb\nSize: 4\nSHA256: 0000000000000000000000000000000000000000000000000000000000000000\n",
    )
    .unwrap();
    let place = stage.desk.path("apt");
    for part in ["lists/partial", "cache/archives/partial", "etc"] {
        std::fs::create_dir_all(place.join(part)).unwrap();
    }
    let list = format!(
        "deb [trusted=yes] http://localhost:{}/ ./\n",
        stage.plain.port()
    );
    std::fs::write(place.join("etc/sources.list"), list).unwrap();
    let options = [
        format!("Acquire::http::Proxy=http://{}", stage.proxy()),
        format!("Dir::Etc::SourceList={}/etc/sources.list", place.display()),
        "Dir::Etc::SourceParts=/dev/null".to_owned(),
        format!("Dir::State::Lists={}/lists", place.display()),
        format!("Dir::Cache={}/cache", place.display()),
        "APT::Sandbox::User=root".to_owned(),
        "Acquire::Languages=none".to_owned(),
    ];
    let mut arguments = vec!["update"];
    for option in &options {
        arguments.extend(["-o", option]);
    }
    let told = run("apt-get", &arguments, &[]);
    let lists = std::fs::read_dir(place.join("lists")).unwrap();
    let mut files = lists.filter_map(|one| one.ok()?.file_name().into_string().ok());
    assert!(files.any(|file| file.contains("_Packages")), "{told}");
    assert!(
        stage
            .lines("/Packages")
            .iter()
            .any(|line| line.contains("\"status\":200"))
    );
}

#[test]
fn chromium_goes_by_it() {
    let test = "chromium_goes_by_it";
    if !is_here(test, &["nginx", "chromium"]) {
        return;
    }
    let stage = Stage::new("pac = \"/proxy.pac\"\nblock = [\"ads.localhost\"]\n", "");
    let proxy = stage.proxy();
    let [plain, sealed] = stage.pages();
    let profile = tempfile::tempdir().unwrap();
    let browse = |by: &str, url: &str| {
        let profile = format!("--user-data-dir={}", profile.path().display());
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--ignore-certificate-errors",
            "--proxy-bypass-list=<-loopback>",
            "--timeout=20000",
            "--dump-dom",
            &profile,
            by,
            url,
        ];
        run("chromium", &arguments, &[])
    };
    for scheme in ["http", "socks5"] {
        let by = format!("--proxy-server={scheme}://{proxy}");
        for (url, who) in [(&plain, "plain"), (&sealed, "sealed")] {
            let told = browse(&by, url);
            assert!(
                told.contains(&format!("{who} GET localhost")),
                "{scheme} {url}: {told}"
            );
        }
    }
    let by = format!("--proxy-server=http://{proxy}");
    let told = browse(&by, "http://ads.localhost/");
    assert!(
        told.contains("You may not go to ads.localhost:80"),
        "{told}"
    );
    let by = format!("--proxy-pac-url=http://{proxy}/proxy.pac");
    // Of this machine the file says that it is gone to straight.
    let told = browse(&by, &plain);
    assert!(told.contains("plain GET localhost"), "{told}");
    let told = browse(&by, "http://nowhere.invalid/");
    assert!(
        told.contains("nowhere.invalid:80 cannot be reached"),
        "{told}"
    );
}

/// A proxy behind ours.
fn squid(directory: &Path, address: SocketAddr) -> Server {
    let place = directory.join(format!("squid-{}", address.port()));
    std::fs::create_dir_all(&place).unwrap();
    // It becomes somebody who may not write there, and need not.
    let text = format!(
        "http_port {address}\nhttp_access allow all\npid_filename none\ncache_log /dev/null\naccess_log none\n\
         coredump_dir none\ncache deny all\nvisible_hostname squid.test\nshutdown_lifetime 0 seconds\n\
         max_filedescriptors 1024\nmemory_cache_shared off\n"
    );
    let file = place.join("squid.conf");
    std::fs::write(&file, text).unwrap();
    Server::start(
        Command::new(crate::desk::find("squid").unwrap())
            // By its name it shares memory, which is left where it is killed.
            .args(["-N", "-n", &format!("t{}", address.port()), "-f"])
            .arg(file),
    )
}

fn tinyproxy(directory: &Path, address: SocketAddr) -> Server {
    let place = directory.join(format!("tinyproxy-{}", address.port()));
    std::fs::create_dir_all(&place).unwrap();
    let text = format!(
        "Port {}\nListen {}\nTimeout 60\nLogFile \"{}/log\"\nMaxClients 100\nBasicAuth ann hush\nDisableViaHeader Yes\n",
        address.port(),
        address.ip(),
        place.display()
    );
    let file = place.join("tinyproxy.conf");
    std::fs::write(&file, text).unwrap();
    Server::start(
        Command::new(crate::desk::find("tinyproxy").unwrap())
            .args(["-d", "-c"])
            .arg(file),
    )
}

#[test]
fn squid_and_tinyproxy_stand_behind_it() {
    let test = "squid_and_tinyproxy_stand_behind_it";
    if !is_here(test, &["nginx", "curl", "squid", "tinyproxy"]) {
        return;
    }
    let (one, two) = (free_address(), free_address());
    let rules = format!("via = [\"http://{one}\", \"http://ann:hush@{two}\"]\n");
    let stage = Stage::new(&rules, "");
    let (first, second) = (
        squid(stage.desk.directory.path(), one),
        tinyproxy(stage.desk.directory.path(), two),
    );
    for name in [one, two] {
        stage.desk.wait_for_phase(&name.to_string(), "up");
    }
    let ca = stage.papers.at("ca.pem");
    let get = |url: &str| {
        let by = stage.proxy().to_string();
        run(
            "curl",
            &["-sS", "-4", "-m", "30", "--cacert", &ca, "-x", &by, url],
            &[],
        )
    };
    let [plain, sealed] = stage.pages();
    for (url, who) in [(&plain, "plain"), (&sealed, "sealed")] {
        let told = get(url);
        assert!(told.starts_with(&format!("{who} GET localhost")), "{told}");
    }
    assert!(stage.lines("/who")[0].contains(&format!("\"via\":\"{one}\"")));
    // Nobody notices that the first one is killed.
    first.kill();
    for _ in 0..5 {
        for (url, who) in [(&plain, "plain"), (&sealed, "sealed")] {
            let told = get(url);
            assert!(told.starts_with(&format!("{who} GET localhost")), "{told}");
        }
    }
    assert!(!stage.lines(&format!("\"via\":\"{two}\"")).is_empty());
    second.kill();
    let told = get(&plain);
    assert!(
        told.contains(&format!("the proxy {one} on the way there"))
            || told.contains(&format!("the proxy {two} on the way there")),
        "{told}"
    );
    assert!(!stage.desk.log().contains("hush"));
    let shared = format!("t{}-", one.port());
    for file in std::fs::read_dir("/dev/shm")
        .into_iter()
        .flatten()
        .flatten()
    {
        if file.file_name().to_string_lossy().starts_with(&shared) {
            let _ = std::fs::remove_file(file.path());
        }
    }
}

#[test]
fn proxies_behind_it_are_proven_and_know_who_asks() {
    let test = "proxies_behind_it_are_proven_and_know_who_asks";
    if !is_here(test, &["nginx", "curl"]) {
        return;
    }
    let users = users();
    for (way, told_instead) in [
        ("https://ann:hush@localhost:", None),
        ("socks5://ann:hush@127.0.0.1:", None),
        (
            "socks5://ann:wrong@127.0.0.1:",
            Some("does not take our credentials"),
        ),
        (
            "https://ann:hush@127.0.0.1:",
            Some("certificate is for another name"),
        ),
    ] {
        let parent = free_address();
        let stage = Stage::new(&format!("via = [\"{way}{}\"]\n", parent.port()), "");
        let tls = match way.starts_with("https") {
            true => format!("tls = {}\n", stage.papers.pair("web", "")),
            false => String::new(),
        };
        let behind = Desk::run(&format!(
            "[log]\naccess = \"access.log\"\n[[listen]]\nmode = \"forward\"\naddress = \"{parent}\"\n{tls}\
             [listen.forward]\n{OPEN}users = {{ file = {:?} }}\n",
            users.path()
        ));
        let (by, ca) = (stage.proxy().to_string(), stage.papers.at("ca.pem"));
        let [plain, sealed] = stage.pages();
        let get = |url: &str| {
            run(
                "curl",
                &["-sS", "-4", "-m", "30", "--cacert", &ca, "-x", &by, url],
                &[],
            )
        };
        if let Some(wanted) = told_instead {
            until("it is told why", || get(&plain).contains(wanted));
            continue;
        }
        until("the proxy behind is up", || {
            get(&plain).starts_with("plain GET")
        });
        let told = get(&sealed);
        assert!(told.starts_with("sealed GET localhost"), "{way}: {told}");
        until("its lines are written", || {
            let lines = std::fs::read_to_string(behind.path("access.log"));
            lines.is_ok_and(|lines| lines.contains("\"user\":\"ann\""))
        });
        for log in [stage.desk.log(), behind.log()] {
            assert!(!log.contains("hush"), "{log}");
        }
    }
}

#[test]
fn what_memory_has_no_room_for_is_kept_in_files() {
    let test = "what_memory_has_no_room_for_is_kept_in_files";
    if !is_here(test, &["nginx"]) {
        return;
    }
    let mut stage = Stage::new("cache = { size = \"1MiB\", disk = \"64MiB\" }\n", "");
    let body = |number: u32| format!("{number:09}\n").repeat(10_000);
    for number in 0..30 {
        stage.keep(&number.to_string(), &body(number));
    }
    let asked = || {
        let log = std::fs::read_to_string(stage.desk.path("plain/access.log")).unwrap();
        log.lines().filter(|line| line.contains("GET /")).count()
    };
    let proxy = stage.proxy();
    let get_all = || {
        for number in 0..30 {
            let mut stream = std::io::BufReader::new(crate::desk::dial(proxy));
            let port = stage.plain.port();
            let asks = format!("GET http://localhost:{port}/{number} HTTP/1.1\r\nHost: x\r\n\r\n");
            let (status, text) = crate::http::ask(&mut stream, &asks).unwrap();
            assert!(status == 200 && text == body(number), "{number}: {status}");
        }
    };
    let kept = stage.desk.path("state/cache");
    let files = || {
        let all = std::fs::read_dir(&kept).into_iter().flatten().flatten();
        all.flat_map(|one| std::fs::read_dir(one.path()).into_iter().flatten())
            .count()
    };
    get_all();
    until("answers are in files", || files() >= 20);
    let before = asked();
    get_all();
    let again = asked() - before;
    assert!(again <= 3, "{again} of 30 were asked for again");
    // What another process has left there is nobody's.
    until("some are in files again", || files() >= 5);
    stage.desk.signal("KILL");
    stage.desk.ended();
    assert!(files() >= 5);
    stage.desk.start();
    assert_eq!(files(), 0);
}

#[test]
fn each_hop_knows_what_it_is_to_know() {
    let test = "each_hop_knows_what_it_is_to_know";
    if !is_here(test, &["nginx", "curl"]) {
        return;
    }
    let origin = free_address();
    for (headers, known) in [("hide", ""), ("tell", "127.0.0.2, 127.0.0.1")] {
        let stage = Stage::new(
            &format!("headers = \"{headers}\"\n"),
            &format!(
                "[origin.web]\naddress = \"http://{origin}\"\n\
                 [[listen]]\nname = \"reverse\"\naddress = \"127.0.0.1:auto\"\norigin = \"web\"\n\
                 forwarded = {{ chain = \"append\" }}\n"
            ),
        );
        let _nginx = nginx_by(stage.desk.directory.path(), "web", origin, ("", ""));
        stage.desk.wait_for_phase("web", "up");
        let reverse = stage.desk.address("reverse");
        let by = stage.proxy().to_string();
        let url = format!("http://localhost:{}/who", reverse.port());
        let told = run(
            "curl",
            &[
                "-sS",
                "-4",
                "-i",
                "-m",
                "20",
                "--interface",
                "127.0.0.2",
                "-x",
                &by,
                &url,
            ],
            &[],
        );
        // The origin is told the client, if that is wanted, and the proxy that it came by.
        let wanted = match known {
            "" => "web GET localhost 127.0.0.1 \n".to_owned(),
            known => format!("web GET localhost {known} \n"),
        };
        assert!(told.contains(&wanted), "{headers}: {told}");
        assert!(!told.contains(&origin.to_string()), "{told}");
        let seen = std::fs::read_to_string(stage.desk.path("web/access.log")).unwrap();
        assert!(
            seen.starts_with("127.0.0.1 "),
            "the socket is the reverse proxy's: {seen}"
        );
        // A redirect of the origin to itself leads to the reverse proxy, and not to the origin.
        let url = format!("http://localhost:{}/redirect", reverse.port());
        let told = run(
            "curl",
            &["-sS", "-4", "-i", "-m", "20", "-x", &by, &url],
            &[],
        );
        assert!(
            told.contains(&format!("ocation: http://localhost:{}/who", reverse.port())),
            "{told}"
        );
    }
}

#[test]
fn variables_are_told_and_proven() {
    let test = "variables_are_told_and_proven";
    if !is_here(test, &["nginx", "curl"]) {
        return;
    }
    let stage = Stage::new("", "");
    let proxy = stage.proxy();
    let output = stage.desk.command(&["proxy-env", "--shell", "bash"]);
    let told = said(&output);
    assert!(
        told.contains(&format!("export HTTPS_PROXY='http://{proxy}'\n")),
        "{told}"
    );
    assert!(
        told.contains("export no_proxy='localhost,.localhost,127.0.0.1,::1,10.0.0.0/8,169.254.0.0/16,172.16.0.0/12,192.168.0.0/16,100.64.0.0/10'"),
        "{told}"
    );
    let output = stage.desk.command(&["proxy-env", "--test", "--json"]);
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let trials = told["trials"].as_array().unwrap();
    let curl = trials
        .iter()
        .find(|trial| trial["program"] == "curl")
        .unwrap();
    assert_eq!(
        curl["found"],
        serde_json::json!({ "http": true, "https": true, "no_proxy": true })
    );
    assert_eq!(output.status.code(), Some(0), "{told}");
    let output = stage.desk.command(&[
        "why",
        "forward",
        "--from",
        "127.0.0.1",
        "--to",
        "http://10.0.0.1/",
    ]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said(&output).contains("10.0.0.1:80: denied, 10.0.0.1 is a private address"),
        "{}",
        said(&output)
    );
}

#[test]
fn a_list_is_read_again_with_the_configuration() {
    let test = "a_list_is_read_again_with_the_configuration";
    if !is_here(test, &["nginx", "curl"]) {
        return;
    }
    let list = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(list.path(), "nobody.example\n").unwrap();
    let rules = format!("block = {{ file = {:?} }}\ncache = \"1MiB\"\n", list.path());
    let stage = Stage::new(&rules, "");
    stage.keep("kept", "kept");
    let by = stage.proxy().to_string();
    let [plain, _] = stage.pages();
    let kept = plain.replace("/who", "/kept");
    let ask = |url: &str| run("curl", &["-sS", "-4", "-m", "20", "-x", &by, url], &[]);
    let get = || ask(&plain);
    assert!(get().starts_with("plain GET"), "{}", get());
    for _ in 0..2 {
        assert_eq!(ask(&kept), "kept");
    }
    // Lists that say the same change nothing.
    assert!(stage.desk.command(&["reload"]).status.success());
    assert_eq!(ask(&kept), "kept");
    until("the second one was found", || {
        let lines = stage.lines("\"target\":\"/kept\"");
        lines
            .iter()
            .filter(|line| line.contains("\"cache\":\"hit\""))
            .count()
            == 2
    });
    std::fs::write(list.path(), "0.0.0.0 other\n127.0.0.0/8\n").unwrap();
    assert!(stage.desk.command(&["reload"]).status.success());
    let told = get();
    assert!(
        told.contains("127.0.0.1, which is blocked by `127.0.0.0/8`"),
        "{told}"
    );
    // Nor is what was kept before given to anybody.
    assert!(ask(&kept).contains("403 Forbidden"), "{}", ask(&kept));
    // A list that cannot be read changes nothing.
    std::fs::remove_file(list.path()).unwrap();
    assert!(!stage.desk.command(&["reload"]).status.success());
    assert!(get().contains("403 Forbidden"));
}
