//! `discover`, before real servers: what an application needs is found by its settings and by what it does.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::desk::{Desk, Mortal, PROGRAM, find, free_address, signal, until};
use crate::servers::{Server, needed};

fn discover(place: &Path, arguments: &[&str]) -> Output {
    Command::new(PROGRAM)
        .arg("discover")
        .args(arguments)
        .current_dir(place)
        .env("NO_COLOR", "1")
        .env_remove("DATABASE_URL")
        .output()
        .unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
}

fn origin(shown: &Value, address: &str) -> Value {
    let origins = shown["origins"].as_array().unwrap();
    let found = origins.iter().find(|one| {
        one["address"]
            .as_str()
            .is_some_and(|own| own.ends_with(address))
    });
    found
        .cloned()
        .unwrap_or_else(|| panic!("{address} in {shown:#}"))
}

#[test]
fn files_of_every_format_become_configuration() {
    let place = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(place.path().join(name), text).unwrap();
    write(
        ".env",
        "DATABASE_URL=postgres://app:hush@db.internal/orders\nREDIS_HOST=cache.internal\n",
    );
    write(
        "compose.yaml",
        "services:\n  web:\n    image: web:1\n    environment:\n      QUEUE_URL: amqp://guest:hush@queue:5672/\n      \
         SEARCH_URL: http://search:9200\n  queue:\n    image: rabbitmq:4\n    ports: [\"15672:5672\"]\n  search: {}\n",
    );
    write(
        "appsettings.json",
        "{\"ConnectionStrings\": {\"Orders\": \"Server=tcp:sql.corp,1433;Password=hush;\"}}",
    );
    write(
        "application.properties",
        "spring.datasource.url=jdbc:mysql://mysql.corp:3306/x\nspring.datasource.password=hush\n",
    );
    write(
        "config.toml",
        "[payments]\nurl = \"https://api.pay.example/v1?key=hush\"\n",
    );
    write(
        "config.json",
        "{\"KAFKA_BROKERS\": \"k1.corp:9092, k2.corp:9092,k3.corp:9092\", \"OLD_DB_PASSWORD\": \"hush.corp:4711\"}",
    );
    let output = discover(place.path(), &[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    // Three at one port have three listeners all the same.
    assert_eq!(text.matches("\"127.0.0.1:9092\"").count(), 1, "{text}");
    write("found.toml", &text);
    let checked = Command::new(PROGRAM)
        .args(["check", "found.toml"])
        .current_dir(place.path())
        .output()
        .unwrap();
    assert!(checked.status.success(), "{checked:?}");
    assert!(!text.contains("hush"), "no secret is told: {text}");
    for wanted in [
        "[origin.database]\naddress  = \"db.internal:5432\"",
        "[origin.redis]\naddress  = \"cache.internal:6379\"",
        "# service queue of the compose file, whose port is published here",
        "address  = \"127.0.0.1:15672\"",
        "address  = \"http://search:9200\"",
        "known to its other services only",
        "[origin.orders]\naddress  = \"sql.corp:1433\"",
        "[origin.datasource]\naddress  = \"mysql.corp:3306\"",
        "[origin.payments]\naddress  = \"https://api.pay.example:443\"",
        "# DATABASE_URL (./.env)",
    ] {
        assert!(text.contains(wanted), "{wanted} in {text}");
    }
    // What it prints is configuration.
    let desk = Desk::with("");
    std::fs::write(desk.path("ipreconnect.toml"), &text).unwrap();
    let check = desk.command(&["check"]);
    assert!(
        check.status.success(),
        "{}",
        String::from_utf8_lossy(&check.stderr)
    );
}

#[test]
fn what_cannot_be_read_is_told() {
    let place = tempfile::tempdir().unwrap();
    assert_eq!(
        discover(place.path(), &[]).status.code(),
        Some(1),
        "there is nothing"
    );
    assert_eq!(discover(place.path(), &["none.env"]).status.code(), Some(2));
    std::fs::write(place.path().join("broken.json"), "{").unwrap();
    let broken = discover(place.path(), &["broken.json"]);
    assert_eq!(broken.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&broken.stderr).contains("cannot read broken.json"));
    // Where nobody has named it, the others are read all the same.
    std::fs::write(place.path().join("config.json"), "{").unwrap();
    std::fs::write(place.path().join(".env"), "A_URL=http://a.example\n").unwrap();
    let others = discover(place.path(), &[]);
    assert!(others.status.success());
    assert!(String::from_utf8_lossy(&others.stderr).contains("config.json"));
    assert_eq!(
        discover(place.path(), &["--pid", "4194304"]).status.code(),
        Some(2)
    );
    assert_eq!(
        discover(place.path(), &["--", "/nonexistent/x"])
            .status
            .code(),
        Some(2)
    );
}

/// Holds a connection to one server, connects again when it is lost, and now and then to another one.
const APPLICATION: &str = "import os, socket, time, urllib.parse
def place(name):
    url = urllib.parse.urlparse(os.environ[name])
    return (url.hostname, url.port)
open('ready', 'w').close()
held = socket.create_connection(place('DATABASE_URL'))
while True:
    time.sleep(0.4)
    held.sendall(b'PING\\r\\n')
    if not held.recv(100):
        held = socket.create_connection(place('DATABASE_URL'))
    now = socket.create_connection(('127.0.0.1', int(os.environ['BARE'])))
    time.sleep(0.3)
    now.close()
";

#[test]
fn a_program_is_watched_and_joined_with_its_environment() {
    let test = "a_program_is_watched_and_joined_with_its_environment";
    let (Some(redis), Some(_)) = (needed(test, "redis-server"), needed(test, "python3")) else {
        return;
    };
    let place = tempfile::tempdir().unwrap();
    let address: SocketAddr = free_address();
    let port = address.port().to_string();
    let _redis = Server::start(
        Command::new(redis)
            .args([
                "--port",
                &port,
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--dir",
            ])
            .arg(place.path()),
    );
    until("redis answers", || {
        std::net::TcpStream::connect(address).is_ok()
    });
    let other = Mortal::born("one");
    let run = |more: &[&str]| {
        let mut command = Command::new(PROGRAM);
        command
            .args(["discover", "--json"])
            .args(more)
            .current_dir(place.path())
            .env("DATABASE_URL", format!("redis://:hush@localhost:{port}/0"))
            .env("BARE", other.address().port().to_string());
        command.output().unwrap()
    };
    // One that is run by a shell, as most are: its children are watched, too.
    let shell = "python3 -c \"$(printf '%s' \"$CODE\")\" & wait";
    let mut command = Command::new(PROGRAM);
    command
        .args(["discover", "--json", "--for", "4s", "--", "sh", "-c", shell])
        .current_dir(place.path())
        .env("CODE", APPLICATION)
        .env("DATABASE_URL", format!("redis://:hush@localhost:{port}/0"))
        .env("BARE", other.address().port().to_string());
    let output = command.output().unwrap();
    let shown = json(&output);
    let held = origin(&shown, &format!("localhost:{port}"));
    assert_eq!(held["required"], true, "{shown:#}");
    assert!(
        held["why"].as_str().unwrap().contains("held open"),
        "{held}"
    );
    assert!(
        held["settings"][0]
            .as_str()
            .unwrap()
            .starts_with("DATABASE_URL (environment"),
        "{held}"
    );
    let now_and_then = origin(&shown, &other.address().to_string());
    assert!(
        now_and_then["connections"].as_u64().unwrap() >= 2,
        "{now_and_then}"
    );
    assert!(!output.stdout.windows(4).any(|four| four == b"hush"));
    // What runs already is watched by its number.
    let application = Server::start(
        Command::new(find("python3").unwrap())
            .args(["-c", APPLICATION])
            .current_dir(place.path())
            .env("DATABASE_URL", format!("redis://localhost:{port}/0"))
            .env("BARE", other.address().port().to_string()),
    );
    std::fs::remove_file(place.path().join("ready")).unwrap();
    until("it is ready", || place.path().join("ready").exists());
    let by_number = run(&["--for", "2s", "--pid", &application.pid().to_string()]);
    let shown = json(&by_number);
    assert_eq!(
        origin(&shown, &format!("localhost:{port}"))["required"],
        true,
        "{shown:#}"
    );
}

#[test]
fn postgresql_and_nginx_are_found_and_guarded() {
    let test = "postgresql_and_nginx_are_found_and_guarded";
    if needed(test, "nginx").is_none() || needed(test, "curl").is_none() {
        return;
    }
    let Some(stage) = crate::postgres::Stage::new(test) else {
        return;
    };
    let (database, web) = (stage.server(), free_address());
    let desk = Desk::run(&format!(
        "[guard]\nwatch = [{}, {}]\n",
        database.port(),
        web.port()
    ));
    let _nginx = crate::http::nginx_by(desk.directory.path(), "web", web, ("", ""));
    until("nginx answers", || {
        std::net::TcpStream::connect(web).is_ok()
    });
    let code = "psql \"$ORDERS_DB_URL\" -X -w -c 'select pg_sleep(60)' &\n\
                while :; do curl -s -o /dev/null --limit-rate 1M \"${CATALOG_URL}large\"; sleep 0.2; done";
    let output = Command::new(PROGRAM)
        .args(["discover", "--json", "--for", "4s", "--", "sh", "-c", code])
        .current_dir(desk.directory.path())
        .env(
            "ORDERS_DB_URL",
            format!("postgres://postgres:hush@{database}/postgres"),
        )
        .env("CATALOG_URL", format!("http://{web}/"))
        .output()
        .unwrap();
    let shown = json(&output);
    let orders = origin(&shown, &database.to_string());
    assert_eq!(
        (&orders["name"], &orders["required"]),
        (&"orders-db".into(), &true.into()),
        "{shown:#}"
    );
    let catalog = origin(&shown, &web.to_string());
    assert_eq!(catalog["name"], "catalog");
    assert!(catalog["connections"].as_u64() > Some(1), "{catalog}");
    // However many processes have it.
    let settings = catalog["settings"].as_array().unwrap();
    let named = |one: &Value| one.as_str().unwrap().ends_with(" and others)");
    assert!(settings.len() == 1 && named(&settings[0]), "{settings:?}");
    assert!(!output.stdout.windows(4).any(|four| four == b"hush"));
    // The guard has seen the same, and would allow it.
    let learned = desk.path("state/guard-learned.toml");
    until("it has learned who talks to both", || {
        // Who is there for less than the time between two looks at all processes is seen without a program.
        let talks = Command::new("curl")
            .args(["-s", "-o", "/dev/null", "--limit-rate", "500K"])
            .arg(format!("http://{web}/large"))
            .status();
        assert!(talks.unwrap().success());
        let rules = std::fs::read_to_string(&learned).unwrap_or_default();
        rules.contains("psql") && rules.contains("curl")
    });
}

#[test]
fn whoever_ends_it_ends_what_it_has_run() {
    let home = tempfile::tempdir().unwrap();
    for (name, ends) in [("TERM", 143), ("HUP", 129)] {
        let told = home.path().join(name);
        let mut child = Command::new(PROGRAM)
            .args(["discover", "--for", "60s", "--", "sh", "-c"])
            .arg("sleep 300 & echo $! $$; read line && echo read; wait")
            .current_dir(home.path())
            .stderr(std::fs::File::create(&told).unwrap())
            .spawn()
            .unwrap();
        let mut pids = Vec::new();
        until("it runs", || {
            let told = std::fs::read_to_string(&told).unwrap();
            assert!(!told.contains("read"), "nobody types anything to it");
            let line = told.lines().next().unwrap_or_default();
            pids = line
                .split(' ')
                .filter_map(|pid| pid.parse().ok())
                .collect::<Vec<u32>>();
            pids.len() == 2 && told.ends_with('\n')
        });
        signal(child.id(), name);
        assert_eq!(child.wait().unwrap().code(), Some(ends), "{name}");
        for pid in pids {
            let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            assert!(state.is_empty() || state.contains(") Z "), "{state}");
        }
    }
    let missing = Command::new(PROGRAM)
        .args(["discover", "--for", "60s", "--", "/nonexistent/program"])
        .current_dir(home.path())
        .output()
        .unwrap();
    assert_eq!(missing.status.code(), Some(2));
    let told = String::from_utf8_lossy(&missing.stderr).into_owned();
    assert!(told.contains("could not be run"), "{told}");
}
