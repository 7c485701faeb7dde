//! HTTP with real servers and clients: nginx and Apache httpd behind, curl and h2load in front.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use serde_json::Value;

use crate::desk::{Desk, dial, free_address, line_server, until};
use crate::servers::{Server, needed};
use crate::tls::Papers;

/// nginx with pages, which says who it is.
fn nginx(directory: &Path, name: &str, address: SocketAddr) -> Server {
    nginx_by(directory, name, address, ("", ""))
}

/// The same; `listen` and `server` are put into these directives.
pub(crate) fn nginx_by(
    directory: &Path,
    name: &str,
    address: SocketAddr,
    (listen, server): (&str, &str),
) -> Server {
    let place = directory.join(name);
    std::fs::create_dir_all(place.join("html")).unwrap();
    std::fs::write(place.join("html/large"), vec![b'x'; 1_000_000]).unwrap();
    for place in [directory, &place, &place.join("html")] {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(place, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let at = place.display();
    let text = format!(
        "daemon off; master_process off; pid {at}/pid; error_log {at}/error.log;\n\
         events {{}}\nhttp {{ access_log {at}/access.log; keepalive_timeout 60; client_body_temp_path {at}/b; \
         proxy_temp_path {at}/p; fastcgi_temp_path {at}/f; uwsgi_temp_path {at}/u; scgi_temp_path {at}/s;\n\
         server {{ listen {address}{listen}; root {at}/html; {server}\n\
         location /who {{ return 200 \"{name} $request_method $host $http_x_forwarded_for $http_x_env\\n\"; }}\n\
         location /redirect {{ absolute_redirect on; return 302 http://{address}/who; }} }} }}\n"
    );
    let file = place.join("nginx.conf");
    std::fs::write(&file, text).unwrap();
    Server::start(
        Command::new(crate::desk::find("nginx").unwrap())
            .arg("-c")
            .arg(file),
    )
}

/// What curl says of an address, with its words.
fn curl(arguments: &[&str]) -> String {
    let output = Command::new("curl")
        .args(["-s", "-m", "20"])
        .args(arguments)
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Asks on a connection that is kept; returns the status and the body.
pub(crate) fn ask(
    stream: &mut BufReader<TcpStream>,
    request: &str,
) -> std::io::Result<(u16, String)> {
    stream.get_mut().write_all(request.as_bytes())?;
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let status = line
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let status = status.ok_or(std::io::ErrorKind::UnexpectedEof)?;
    let mut length = 0;
    loop {
        line.clear();
        stream.read_line(&mut line)?;
        if line.trim().is_empty() {
            break;
        }
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

#[test]
fn curl_speaks_every_version_to_nginx() {
    let test = "curl_speaks_every_version_to_nginx";
    if needed(test, "nginx").is_none() || needed(test, "curl").is_none() {
        return;
    }
    let address = free_address();
    let mut desk = Desk::with(&format!(
        "[log]\naccess = \"access.log\"\n[origin.web]\naddress = \"http://{address}\"\n\
         [[listen]]\nname = \"plain\"\naddress = \"127.0.0.1:auto\"\norigin = \"web\"\n\
         [[listen]]\nname = \"sealed\"\naddress = \"127.0.0.1:auto\"\norigin = \"web\"\ntls = \"internal\"\n"
    ));
    let _nginx = nginx(desk.directory.path(), "one", address);
    desk.start();
    desk.wait_for_phase("web", "up");
    let (plain, sealed) = (desk.address("plain"), desk.address("sealed"));
    for (version, url, told) in [
        ("--http1.0", format!("http://{plain}/who"), "1.1"),
        ("--http1.1", format!("http://{plain}/who"), "1.1"),
        (
            "--http2-prior-knowledge",
            format!("http://{plain}/who"),
            "2",
        ),
        ("--http1.1", format!("https://{sealed}/who"), "1.1"),
        ("--http2", format!("https://{sealed}/who"), "2"),
    ] {
        let said = curl(&["-k", version, &url, "-w", "%{http_version} %{http_code}"]);
        let host = "127.0.0.1";
        assert_eq!(
            said,
            format!("one GET {host} 127.0.0.1 \n{told} 200"),
            "{version} {url}"
        );
        let large = url.replace("/who", "/large");
        let said = curl(&[
            "-k",
            version,
            &large,
            "-o",
            "/dev/null",
            "-w",
            "%{size_download}",
        ]);
        assert_eq!(said, "1000000", "{version} {large}");
        let body = desk.path("body");
        std::fs::write(&body, vec![b'y'; 500_000]).unwrap();
        let body = format!("@{}", body.display());
        let said = curl(&["-k", version, "--data-binary", &body, &url]);
        assert_eq!(
            said,
            format!("one POST {host} 127.0.0.1 \n"),
            "{version} {url}"
        );
    }
    let said = curl(&[
        "-o",
        "/dev/null",
        "-w",
        "%{redirect_url}",
        &format!("http://{plain}/redirect"),
    ]);
    assert_eq!(
        said,
        format!("http://{plain}/who"),
        "the origin's address does not leak"
    );
    assert!(
        !curl(&["-i", &format!("http://{plain}/who")])
            .to_lowercase()
            .contains("server:")
    );
    // Every request has its line, written a moment later.
    let lines = || -> Vec<Value> {
        let text = std::fs::read_to_string(desk.path("access.log")).unwrap_or_default();
        let whole = text.lines().filter(|line| line.ends_with('}'));
        whole
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    };
    until("all lines are there", || lines().len() >= 17);
    let lines = lines();
    // Each worker writes its own lines, in its own time.
    let first = |line: &&Value| {
        line["protocol"] == "HTTP/1.0" && line["method"] == "GET" && line["target"] == "/who"
    };
    let line = lines.iter().find(first).unwrap();
    assert_eq!(line["listener"], "plain");
    assert_eq!(line["status"], 200);
    assert_eq!(line["endpoint"], address.to_string());
    assert_eq!(line["end"], "----");
    let spoken: BTreeSet<&str> = lines
        .iter()
        .map(|line| line["protocol"].as_str().unwrap())
        .collect();
    assert_eq!(spoken, BTreeSet::from(["HTTP/1.0", "HTTP/1.1", "HTTP/2.0"]));
    assert!(!desk.log().contains("panicked"), "{}", desk.log());
}

#[test]
fn routes_lead_where_they_say() {
    let test = "routes_lead_where_they_say";
    if needed(test, "nginx").is_none() || needed(test, "curl").is_none() {
        return;
    }
    let (one, two, none) = (free_address(), free_address(), free_address());
    let mut desk = Desk::with(&format!(
        "[origin.one]\naddress = \"http://{one}\"\n[origin.two]\naddress = \"http://{two}\"\nhost = \"two.internal\"\n\
         [origin.away]\naddress = \"http://{none}\"\nhold.for = \"100ms\"\nrequired = false\n\
         [[listen]]\nname = \"shop\"\naddress = \"127.0.0.1:auto\"\nerror_page = \"sorry.html\"\nshield = false\n\
         [[listen.route]]\nhost = \"two.example\"\npath = \"/api\"\norigin = \"two\"\n\
         rewrite = {{ strip_prefix = \"/api\", request_set = {{ x-env = \"prod\" }}, response_set = {{ x-by = \"us\" }} }}\n\
         [[listen.route]]\npath = \"/pay\"\norigin = \"one\"\nrequires = [\"away\"]\n\
         fallback = {{ status = 503, body = \"checkout is closed\" }}\n\
         [[listen.route]]\nmethod = \"GET\"\nheader = {{ x-beta = \"1\" }}\norigin = \"two\"\n\
         [[listen.route]]\nheader = {{ cookie = \"~ (^|; )canary=1(;|$$)\" }}\norigin = \"two\"\n\
         [[listen.route]]\npath = \"= /away\"\norigin = \"away\"\n\
         [[listen.route]]\nhost = \"one.example\"\norigin = \"one\"\n"
    ));
    std::fs::write(desk.path("sorry.html"), "<h1>{status}: {reason}</h1>\n").unwrap();
    let directory = desk.directory.path().to_owned();
    let _one = nginx(&directory, "one", one);
    let _two = nginx(&directory, "two", two);
    desk.start();
    desk.wait_for_phase("one", "up");
    desk.wait_for_phase("two", "up");
    desk.wait_for_phase("away", "down");
    let front = desk.address("shop");
    let at = |host: &str, path: &str, more: &[&str]| {
        let host = format!("Host: {host}");
        let url = format!("http://{front}{path}");
        let mut arguments = vec!["--path-as-is", "-H", &host, &url];
        arguments.extend(more);
        curl(&arguments)
    };
    assert_eq!(
        at("two.example", "/api/who", &[]),
        "two GET two.internal 127.0.0.1 prod\n"
    );
    assert_eq!(
        at("two.example", "/x/..//%61pi/who", &[]),
        "two GET two.internal 127.0.0.1 prod\n"
    );
    assert!(at("two.example", "/api/who", &["-i"]).contains("x-by: us"));
    assert_eq!(
        at("one.example", "/who", &[]),
        "one GET one.example 127.0.0.1 \n"
    );
    assert_eq!(
        at("any", "/who", &["-H", "x-beta: 1"]),
        "two GET two.internal 127.0.0.1 \n"
    );
    assert_eq!(
        at("one.example", "/who", &["-b", "a=b; canary=1"]),
        "two GET two.internal 127.0.0.1 \n"
    );
    assert_eq!(
        at("one.example", "/who", &["-b", "canary=10"]),
        "one GET one.example 127.0.0.1 \n"
    );
    assert_eq!(
        at("any", "/who", &["-w", "%{http_code}"]),
        "<h1>404: Not Found</h1>\n404"
    );
    assert_eq!(
        at("any", "/pay", &["-w", " %{http_code}"]),
        "checkout is closed 503"
    );
    let away = at("any", "/away", &["-i"]);
    assert!(away.contains("<h1>503: Service Unavailable</h1>"), "{away}");
    assert!(away.contains("Retry-After: 1"), "{away}");
}

/// Two servers of nginx, the second the backup of the first, and the gateway before them.
fn two_of_nginx(test: &str, scheme: &str) -> Option<(Desk, [SocketAddr; 2], [Server; 2])> {
    needed(test, "nginx")?;
    let (one, two) = (free_address(), free_address());
    let mut desk = Desk::with(&format!(
        "[origin.web]\naddress = [\"{scheme}://{one}\", \"{scheme}://{two}\"]\n\
         [[listen]]\naddress = \"127.0.0.1:auto\"\norigin = \"web\"\n"
    ));
    let directory = desk.directory.path().to_owned();
    let servers = [
        nginx_by(&directory, "one", one, (as_spoken(scheme), "")),
        nginx_by(&directory, "two", two, (as_spoken(scheme), "")),
    ];
    desk.start();
    desk.wait_for_phase("web", "up");
    Some((desk, [one, two], servers))
}

/// What nginx's `listen` says of a scheme.
fn as_spoken(scheme: &str) -> &str {
    if scheme == "h2c" { " http2" } else { "" }
}

/// Clients that ask again and again, each on a connection that it keeps.
struct Crowd {
    is_over: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    clients: Vec<std::thread::JoinHandle<Vec<String>>>,
}

impl Crowd {
    fn new(front: SocketAddr, count: usize) -> Self {
        let (is_over, answered) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicUsize::new(0)),
        );
        let clients = (0..count).map(|_| {
            let (is_over, answered) = (Arc::clone(&is_over), Arc::clone(&answered));
            std::thread::spawn(move || {
                let mut wrong = Vec::new();
                let mut stream = BufReader::new(dial(front));
                while !is_over.load(SeqCst) {
                    match ask(&mut stream, "GET /who HTTP/1.1\r\nHost: localhost\r\n\r\n") {
                        Ok((200, _)) => drop(answered.fetch_add(1, SeqCst)),
                        other => {
                            wrong.push(format!("{other:?}"));
                            stream = BufReader::new(dial(front));
                        }
                    }
                    std::thread::sleep(Duration::from_millis(20));
                }
                wrong
            })
        });
        Self {
            clients: clients.collect(),
            is_over,
            answered,
        }
    }

    fn wait_for(&self, more: usize) {
        let wanted = self.answered.load(SeqCst) + more;
        until("more is answered", || self.answered.load(SeqCst) >= wanted);
    }

    /// What went wrong.
    fn end(self) -> Vec<String> {
        self.is_over.store(true, SeqCst);
        let ended = self
            .clients
            .into_iter()
            .flat_map(|client| client.join().unwrap());
        ended.collect()
    }
}

#[test]
fn nginx_is_killed_with_requests_in_it_and_none_is_lost() {
    let test = "nginx_is_killed_with_requests_in_it_and_none_is_lost";
    for scheme in ["http", "h2c"] {
        let Some((desk, [one, _], [first, second])) = two_of_nginx(test, scheme) else {
            return;
        };
        let directory = desk.directory.path().to_owned();
        let again = || nginx_by(&directory, "one", one, (as_spoken(scheme), ""));
        let crowd = Crowd::new(desk.address("web"), 20);
        crowd.wait_for(200);
        first.kill();
        crowd.wait_for(200);
        let first = again();
        crowd.wait_for(100);
        // Both at once, and one comes back.
        second.kill();
        first.kill();
        desk.wait_for_phase("web", "down");
        let _first = again();
        crowd.wait_for(200);
        assert_eq!(crowd.end(), Vec::<String>::new(), "{scheme}");
    }
}

#[test]
fn nginx_is_stopped_and_its_backup_answers() {
    let test = "nginx_is_stopped_and_its_backup_answers";
    for scheme in ["http", "h2c"] {
        let Some((desk, _, [first, _second])) = two_of_nginx(test, scheme) else {
            return;
        };
        let crowd = Crowd::new(desk.address("web"), 20);
        crowd.wait_for(1000);
        first.signal("STOP");
        crowd.wait_for(500);
        first.signal("CONT");
        crowd.wait_for(100);
        assert_eq!(crowd.end(), Vec::<String>::new(), "{scheme}");
    }
}

#[test]
fn nginx_is_asked_in_http2_inside_tls_and_without() {
    let test = "nginx_is_asked_in_http2_inside_tls_and_without";
    if needed(test, "nginx").is_none() || needed(test, "curl").is_none() {
        return;
    }
    let papers = Papers::new();
    papers.issue("site", &["shop.test"]);
    let (plain, sealed) = (free_address(), free_address());
    let mut desk = Desk::with(&format!(
        "[origin.plain]\naddress = \"{plain}\"\nprotocol = \"h2\"\n\
         [origin.sealed]\naddress = \"h2://{sealed}\"\ntls = {{ ca = \"{}\", server_name = \"shop.test\" }}\n\
         [[listen]]\naddress = \"127.0.0.1:auto\"\norigin = \"plain\"\n\
         [[listen]]\naddress = \"127.0.0.1:auto\"\norigin = \"sealed\"\n",
        papers.at("ca.pem")
    ));
    let directory = desk.directory.path().to_owned();
    let spoken = "location /version { return 200 \"$server_protocol $ssl_protocol\\n\"; }";
    let files = format!(
        "ssl_certificate {}; ssl_certificate_key {}; {spoken}",
        papers.at("site.pem"),
        papers.at("site.key")
    );
    let _servers = [
        nginx_by(&directory, "plain", plain, (" http2", spoken)),
        nginx_by(&directory, "sealed", sealed, (" ssl http2", &files)),
    ];
    desk.start();
    for (name, host, tls) in [("plain", "127.0.0.1", ""), ("sealed", "shop.test", "TLS")] {
        desk.wait_for_phase(name, "up");
        let front = desk.address(name);
        let at = |path: &str| format!("http://{front}{path}");
        let said = curl(&[&at("/version")]);
        assert!(
            said.starts_with("HTTP/2.0 ") && said.contains(tls),
            "{said}"
        );
        for version in ["--http1.0", "--http1.1", "--http2-prior-knowledge"] {
            let said = curl(&[version, &at("/who")]);
            assert_eq!(said, format!("{name} GET {host} 127.0.0.1 \n"), "{version}");
            let said = curl(&[
                version,
                &at("/large"),
                "-o",
                "/dev/null",
                "-w",
                "%{size_download}",
            ]);
            assert_eq!(said, "1000000", "{version}");
            let body = desk.path("body");
            std::fs::write(&body, vec![b'y'; 500_000]).unwrap();
            let body = format!("@{}", body.display());
            let said = curl(&[version, "--data-binary", &body, &at("/who")]);
            assert_eq!(
                said,
                format!("{name} POST {host} 127.0.0.1 \n"),
                "{version}"
            );
            let said = curl(&[version, "-I", &at("/large")]);
            assert!(
                said.to_lowercase().contains("content-length: 1000000"),
                "{said}"
            );
        }
    }
    assert!(!desk.log().contains("panicked"), "{}", desk.log());
}

#[test]
fn an_origin_that_does_not_agree_to_http2_is_told_of() {
    let test = "an_origin_that_does_not_agree_to_http2_is_told_of";
    if needed(test, "openssl").is_none() {
        return;
    }
    let papers = Papers::new();
    papers.issue("site", &["shop.test"]);
    let address = free_address();
    let _server = papers.openssl("site", address, &[]);
    let desk = Desk::run(&format!(
        "[origin.web]\naddress = \"h2://{address}\"\ntls = {{ ca = \"{}\", server_name = \"shop.test\" }}\n\
         [[listen]]\naddress = \"127.0.0.1:auto\"\norigin = \"web\"\n",
        papers.at("ca.pem")
    ));
    desk.wait_for_phase("web", "up");
    let mut stream = BufReader::new(dial(desk.address("web")));
    let request = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let (status, body) = ask(&mut stream, request).unwrap();
    assert_eq!(status, 502);
    assert!(body.contains("does not speak HTTP/2"), "{body}");
}

#[test]
fn a_reload_loses_no_request() {
    let test = "a_reload_loses_no_request";
    if needed(test, "nginx").is_none() {
        return;
    }
    let (one, two) = (free_address(), free_address());
    let text = |address: SocketAddr| {
        format!(
            "[log]\naccess = \"access.log\"\naccess_format = \"combined\"\n[origin.web]\naddress = \"http://{address}\"\n\
             [[listen]]\naddress = \"127.0.0.1:auto\"\norigin = \"web\"\n"
        )
    };
    let mut desk = Desk::with(&text(one));
    let directory = desk.directory.path().to_owned();
    let _first = nginx(&directory, "one", one);
    let _second = nginx(&directory, "two", two);
    desk.start();
    desk.wait_for_phase("web", "up");
    let front = desk.address("web");
    let crowd = Crowd::new(front, 10);
    for address in [two, one, two] {
        crowd.wait_for(100);
        desk.write(&text(address));
        assert!(desk.command(&["reload"]).status.success());
    }
    crowd.wait_for(100);
    let (status, body) = ask(
        &mut BufReader::new(dial(front)),
        "GET /who HTTP/1.1\r\nHost: localhost\r\n\r\n",
    )
    .unwrap();
    assert_eq!((status, body.split(' ').next()), (200, Some("two")));
    // Whoever rotates the log moves it away and reloads.
    std::fs::rename(desk.path("access.log"), desk.path("access.old")).unwrap();
    assert!(desk.command(&["reload"]).status.success());
    crowd.wait_for(50);
    until("the new file is written", || {
        std::fs::read_to_string(desk.path("access.log"))
            .is_ok_and(|text| text.contains("\"GET /who HTTP/1.1\" 200 "))
    });
    assert_eq!(crowd.end(), Vec::<String>::new());
    desk.signal("TERM");
    assert_eq!(desk.ended(), Some(0));
}

#[test]
fn h2load_finds_every_answer() {
    let test = "h2load_finds_every_answer";
    if needed(test, "nginx").is_none() || needed(test, "h2load").is_none() {
        return;
    }
    let address = free_address();
    let mut desk = Desk::with(&format!(
        "[origin.web]\naddress = \"http://{address}\"\n[[listen]]\naddress = \"127.0.0.1:auto\"\norigin = \"web\"\n"
    ));
    let _nginx = nginx(desk.directory.path(), "one", address);
    desk.start();
    desk.wait_for_phase("web", "up");
    let front = desk.address("web");
    for path in ["/who", "/large"] {
        let count = if path == "/who" { "5000" } else { "100" };
        let output = Command::new("h2load")
            .args([
                "-n",
                count,
                "-c",
                "8",
                "-m",
                "16",
                &format!("http://{front}{path}"),
            ])
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        let wanted = format!("{count} done, {count} succeeded, 0 failed, 0 errored, 0 timeout");
        assert!(told.contains(&wanted), "{told}");
        assert!(
            told.contains(&format!("status codes: {count} 2xx")),
            "{told}"
        );
    }
}

#[test]
fn an_odd_client_is_told_of_once_however_often_it_asks() {
    let origin = line_server("one");
    let desk = Desk::run(&format!(
        "[origin.web]\naddress = \"http://{origin}\"\n[[listen]]\naddress = \"127.0.0.1:auto\"\norigin = \"web\"\n"
    ));
    desk.wait_for_phase("web", "up");
    let front = desk.address("web");
    for _ in 0..32 {
        let mut stream = BufReader::new(dial(front));
        let odd =
            "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n";
        assert_eq!(ask(&mut stream, odd).unwrap().0, 400);
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    }
    let log = desk.log();
    let told = log.matches("The request was refused: ").count();
    assert_eq!(told, 1, "{log}");
}

#[test]
fn apache_behind_is_as_good() {
    let test = "apache_behind_is_as_good";
    let Some(program) = needed(test, "apache2") else {
        return;
    };
    let address = free_address();
    let mut desk = Desk::with(&format!(
        "[origin.web]\naddress = \"http://{address}\"\n[[listen]]\naddress = \"127.0.0.1:auto\"\norigin = \"web\"\n"
    ));
    let at = desk.directory.path().display().to_string();
    std::fs::create_dir_all(desk.path("html")).unwrap();
    std::fs::write(desk.path("html/page"), "a page\n").unwrap();
    for place in [desk.path(""), desk.path("html")] {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(place, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let modules = "/usr/lib/apache2/modules";
    let text = format!(
        "ServerRoot {at}\nPidFile {at}/pid\nListen {address}\nServerName test\nErrorLog {at}/apache.log\n\
         LoadModule mpm_event_module {modules}/mod_mpm_event.so\n\
         LoadModule authz_core_module {modules}/mod_authz_core.so\n\
         User nobody\nGroup nogroup\nDocumentRoot {at}/html\nKeepAlive On\nKeepAliveTimeout 1\nMaxKeepAliveRequests 3\n"
    );
    std::fs::write(desk.path("apache.conf"), text).unwrap();
    let _apache = Server::start(
        Command::new(program)
            .args(["-X", "-f"])
            .arg(desk.path("apache.conf")),
    );
    desk.start();
    desk.wait_for_phase("web", "up");
    let mut stream = BufReader::new(dial(desk.address("web")));
    // It closes after every third request, and after a second of silence, which it says.
    for turn in 0..30 {
        let asked = ask(&mut stream, "GET /page HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        assert_eq!(asked, (200, "a page\n".to_owned()), "{turn}");
        if turn % 10 == 9 {
            std::thread::sleep(Duration::from_millis(1100));
        }
    }
}

/// First lines, and bodies.
type Book = std::sync::Mutex<Vec<(String, Vec<u8>)>>;

/// An origin that remembers what it was asked.
fn remembering(address: SocketAddr) -> Arc<Book> {
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let listener = std::net::TcpListener::bind(address).unwrap();
    let book = Arc::clone(&seen);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let book = Arc::clone(&book);
            std::thread::spawn(move || remember(stream.unwrap(), &book));
        }
    });
    seen
}

fn remember(stream: TcpStream, book: &Book) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut first = String::new();
        stream
            .read_line(&mut first)
            .ok()
            .filter(|count| *count > 0)?;
        let (mut length, mut is_chunked) = (0, false);
        loop {
            let mut line = Vec::new();
            stream.read_until(b'\n', &mut line).ok()?;
            let line = String::from_utf8_lossy(&line).trim().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().ok()?;
            }
            is_chunked |= line.starts_with("transfer-encoding:");
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).ok()?;
        while is_chunked {
            let mut line = String::new();
            stream.read_line(&mut line).ok()?;
            let size = line.split(';').next()?.trim();
            let size = usize::from_str_radix(size, 16).ok()?;
            if size == 0 {
                is_chunked = false;
                let mut trailer = String::from("a line");
                while !trailer.trim().is_empty() {
                    trailer.clear();
                    stream.read_line(&mut trailer).ok()?;
                }
                continue;
            }
            let mut chunk = vec![0; size + 2];
            stream.read_exact(&mut chunk).ok()?;
            body.extend_from_slice(&chunk[..size]);
        }
        let first = first.split(" HTTP/").next()?.to_owned();
        book.lock().unwrap().push((first, body));
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        stream.get_mut().write_all(answer.as_bytes()).ok()?;
    }
}

/// Requests that programs are known to read differently. What comes behind them is one more request, if
/// it is one at all.
const ODD: &[&str] = &[
    "GET /plain HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /x?y=z#f HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET http://b/absolute HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /%2e%2e/%61?%zz HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET  /two HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /tab\tHTTP/1.1\r\nHost: a\r\n\r\n",
    "get /lower HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /old HTTP/1.0\r\n\r\n",
    "GET /bare HTTP/1.1\nHost: a\n\n",
    "GET /bare-one HTTP/1.1\r\nHost: a\nX: y\r\n\r\n",
    "GET /folded HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n",
    "GET /space HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n",
    "GET /hosts HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody",
    "POST /lengths HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 4\r\n\r\nbody",
    "POST /list HTTP/1.1\r\nHost: a\r\nContent-Length: 4, 4\r\n\r\nbody",
    "POST /plus HTTP/1.1\r\nHost: a\r\nContent-Length: +4\r\n\r\nbody",
    "POST /zeros HTTP/1.1\r\nHost: a\r\nContent-Length: 004\r\n\r\nbody",
    "POST /chunked HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
    "POST /CHUNKED HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: CHUNKED\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
    "POST /both HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST /behind HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 30\r\n\r\n0\r\n\r\n",
    "POST /twice HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "POST /comma HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "POST /unknown HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "POST /te10 HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
    "POST /size HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n 4\r\nbody\r\n0\r\n\r\n",
    "POST /sizex HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x4\r\nbody\r\n0\r\n\r\n",
    "POST /sizelf HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\nbody\n0\n\n",
    "POST /ext HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4;a=\"b\"\r\nbody\r\n0\r\n\r\n",
    "POST /trailer HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nX: y\r\n\r\n",
    "GET /body HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody",
    "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
];

#[test]
fn nothing_odd_is_read_otherwise_than_by_nginx() {
    let test = "nothing_odd_is_read_otherwise_than_by_nginx";
    if needed(test, "nginx").is_none() {
        return;
    }
    let (ours_at, theirs_at, front) = (free_address(), free_address(), free_address());
    let (ours, theirs) = (remembering(ours_at), remembering(theirs_at));
    let desk = Desk::run(&format!(
        "[origin.web]\naddress = \"http://{ours_at}\"\npool.warm = 0\n\
         [[listen]]\naddress = \"127.0.0.1:auto\"\norigin = \"web\"\nshield = false\n"
    ));
    desk.wait_for_phase("web", "up");
    let at = desk.directory.path().display().to_string();
    let text = format!(
        "daemon off; master_process off; pid {at}/pid; error_log {at}/error.log;\nevents {{}}\n\
         http {{ access_log off; client_body_temp_path {at}/b; proxy_temp_path {at}/p; fastcgi_temp_path {at}/f; \
         uwsgi_temp_path {at}/u; scgi_temp_path {at}/s;\nserver {{ listen {front}; location / {{ \
         proxy_http_version 1.1; proxy_pass http://{theirs_at}; }} }} }}\n"
    );
    std::fs::write(desk.path("nginx.conf"), text).unwrap();
    let mut command = Command::new(crate::desk::find("nginx").unwrap());
    let _nginx = Server::start(command.arg("-c").arg(desk.path("nginx.conf")));
    until("nginx listens", || TcpStream::connect(front).is_ok());
    let behind = "GET /behind-it HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let mut taken = Vec::new();
    for odd in ODD {
        let say = |address: SocketAddr, seen: &Book| {
            seen.lock().unwrap().clear();
            let mut stream = dial(address);
            stream
                .write_all(format!("{odd}{behind}").as_bytes())
                .unwrap();
            let mut said = Vec::new();
            // A reset is an answer, too.
            let _ = stream.read_to_end(&mut said);
            let seen = seen.lock().unwrap().clone();
            (String::from_utf8_lossy(&said).into_owned(), seen)
        };
        let (_, ours) = say(desk.address("web"), &ours);
        let (_, theirs) = say(front, &theirs);
        // What we pass on, nginx passes on as the same; we may be stricter.
        let is_same = ours.iter().zip(&theirs).all(|(one, other)| one == other);
        assert!(is_same, "{odd:?}: {ours:?}, nginx: {theirs:?}");
        if ours.len() > theirs.len() {
            taken.push(*odd);
        }
    }
    // nginx refuses paths that climb above their root, methods in small letters, and a target that is none:
    // none of them can be read in two ways, and each origin has its own mind about them.
    let known = ["GET /%2e%2e/%61?%zz", "get /lower", "OPTIONS *"];
    let lines: Vec<&str> = taken
        .iter()
        .filter_map(|odd| odd.split(" HTTP/").next())
        .collect();
    assert_eq!(lines, known);
}

#[test]
fn answers_of_nginx_are_kept_and_stand_in_for_it() {
    const TEST: &str = "answers_of_nginx_are_kept_and_stand_in_for_it";
    if needed(TEST, "nginx").is_none() || needed(TEST, "curl").is_none() {
        return;
    }
    for (protocol, version) in [("http", ""), ("h2", " http2")] {
        answers_are_kept(protocol, version);
    }
}

/// `version` is what nginx is told so that it speaks the protocol.
fn answers_are_kept(protocol: &str, version: &str) {
    let directory = tempfile::tempdir().unwrap();
    let address = free_address();
    let html = directory.path().join("kept/html");
    std::fs::create_dir_all(&html).unwrap();
    std::fs::write(html.join("page"), "first").unwrap();
    let kept = "location /page { add_header Cache-Control max-age=600; } \
                location /stale { alias html/page; add_header Cache-Control max-age=0; }";
    let extra = kept.replace("html/page", &html.join("page").display().to_string());
    let server = nginx_by(directory.path(), "kept", address, (version, &extra));
    let configuration = format!(
        "[log]\naccess = \"access.log\"\n[origin.web]\naddress = \"{address}\"\nprotocol = \"{protocol}\"\n\
             [[listen]]\nname = \"l\"\naddress = \"127.0.0.1:auto\"\n\
             [[listen.route]]\npath = \"/\"\norigin = \"web\"\ncache = true\n"
    );
    let desk = Desk::run(&configuration);
    desk.wait_for_phase("web", "up");
    let front = desk.address("l");
    let page = format!("http://{front}/page");
    for (version, state) in [
        ("--http1.1", "ipreconnect; fwd=uri-miss; stored"),
        ("--http1.1", "ipreconnect; hit"),
        ("--http2-prior-knowledge", "ipreconnect; hit"),
    ] {
        let told = curl(&["-i", version, &page]).to_ascii_lowercase();
        assert!(told.ends_with("first"), "{told}");
        assert!(told.contains(&format!("cache-status: {state}")), "{told}");
    }
    // Another page is not there until it is forgotten.
    std::fs::write(html.join("page"), "second").unwrap();
    assert_eq!(curl(&[&page]), "first");
    // A reload that does not concern the route keeps what it keeps.
    desk.write(&configuration.replace("[log]\n", "[log]\nlevel = \"debug\"\n"));
    assert!(desk.command(&["reload"]).status.success());
    assert_eq!(curl(&[&page]), "first");
    let purged = desk.command(&["cache", "purge", "/page"]);
    let said = String::from_utf8_lossy(&purged.stdout);
    assert_eq!(said.trim(), "1 answer forgotten");
    assert_eq!(curl(&[&page]), "second");
    assert!(!desk.command(&["cache", "purge", "page"]).status.success());
    // What is stale is confirmed, and stands in when there is nobody to ask.
    let stale = format!("http://{front}/stale");
    curl(&[&stale]);
    let told = curl(&["-i", &stale]);
    assert!(told.contains("fwd-status=304"), "{told}");
    server.kill();
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let told = curl(&["-i", version, &stale]);
        assert!(told.contains(" 200") && told.ends_with("second"), "{told}");
    }
    let states = || -> BTreeSet<String> {
        let text = std::fs::read_to_string(desk.path("access.log")).unwrap_or_default();
        let whole = text.lines().filter(|line| line.ends_with('}'));
        let lines = whole.map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines
            .filter_map(|line| Some(line["cache"].as_str()?.to_owned()))
            .collect()
    };
    let wanted = ["miss", "hit", "revalidated", "stale"].map(str::to_owned);
    until("each line tells the state of the cache", || {
        states().is_superset(&BTreeSet::from(wanted.clone()))
    });
}
