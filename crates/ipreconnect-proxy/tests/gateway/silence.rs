//! Paths that fall silent: packets dropped by nftables, in a network namespace of the test's own.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::scene::{Scene, until, within};
use ipreconnect_lab::load::{Load, Outcome};
use ipreconnect_lab::origin::{Script, ScriptedOrigin};

/// Set inside the namespace.
const INSIDE: &str = "IPRECONNECT_TEST_NAMESPACE";

/// Runs the test of that name again inside a fresh namespace, if this user may make one; says where
/// it may not that the test is skipped.
fn inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        run("ip", &["link", "set", "lo", "up"]);
        return true;
    }
    let works = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output();
        output.is_ok_and(|output| output.status.success())
    };
    if !works("unshare", &["-n", "nft", "list", "ruleset"]) || !works("ip", &["-V"]) {
        skipped(test, "it needs root, unshare, nft and ip");
        return false;
    }
    let executable = std::env::current_exe().unwrap();
    let status = Command::new("unshare")
        .arg("-n")
        .arg(executable)
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .status()
        .unwrap();
    assert!(status.success(), "{test} failed inside its namespace");
    false
}

fn skipped(test: &str, why: &str) {
    use std::io::Write;
    eprintln!("skipped: {test}: {why}");
    if let Some(path) = std::env::var_os("IPRECONNECT_SKIPPED") {
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path);
        writeln!(file.unwrap(), "skipped: {test}: {why}").unwrap();
    }
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {words}");
}

/// Drops every packet to and from a port, at that hook.
fn drop_packets(hook: &str, port: u16) {
    run("nft", &["add", "table", "inet", "lab"]);
    let chain = format!("{{ type filter hook {hook} priority 0; }}");
    run("nft", &["add", "chain", "inet", "lab", hook, &chain]);
    for side in ["sport", "dport"] {
        let port = port.to_string();
        run(
            "nft",
            &[
                "add", "rule", "inet", "lab", hook, "tcp", side, &port, "drop",
            ],
        );
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

fn silent_path(hook: &str) {
    runtime().block_on(async {
        let answer =
            |name: &str| ScriptedOrigin::start(Script::Once { name: name.into() }).unwrap();
        let (a, b) = (answer("a"), answer("b"));
        let scene = Scene::new(&[a.address(), b.address()]);
        scene.up().await;
        let load = Load {
            lasting: Duration::from_secs(6),
            ..Load::on(scene.address)
        };
        let running = load.start().unwrap();
        until("traffic", || a.answered() > 500).await;
        let before = Instant::now();
        drop_packets(hook, a.address().port());
        until("the backup serves", || b.answered() > 0).await;
        eprintln!(
            "{hook}: the backup served {:?} after the fault",
            before.elapsed()
        );
        let report = within(30, running.finished()).await;
        eprintln!(
            "{hook}: {:?}, longest stall {:?}",
            report.outcomes, report.longest_stall
        );
        let lost = report.failed();
        let timed_out = report.count(Outcome::TimedOut);
        assert_eq!(
            lost, timed_out,
            "only those established on the silent path may fail"
        );
        assert!(lost <= 5, "{lost} lost");
        assert!(report.answers_by_name["b"] > 1000);
    });
}

#[test]
fn a_path_silent_on_output_is_left() {
    if inside("silence::a_path_silent_on_output_is_left") {
        silent_path("output");
    }
}

#[test]
fn a_path_silent_on_input_is_left() {
    if inside("silence::a_path_silent_on_input_is_left") {
        silent_path("input");
    }
}

#[test]
fn a_silent_path_is_noticed_without_traffic() {
    if !inside("silence::a_silent_path_is_noticed_without_traffic") {
        return;
    }
    runtime().block_on(async {
        let a = ScriptedOrigin::start(Script::Once { name: "a".into() }).unwrap();
        let scene = Scene::new(&[a.address()]);
        scene.up().await;
        drop_packets("input", a.address().port());
        let down = within(15, scene.origin.watch(|status| !status.is_up()))
            .await
            .unwrap();
        let failure = down.failure.unwrap();
        assert!(!failure.cause.is_answered(), "{failure}");
        run("nft", &["flush", "ruleset"]);
        within(20, scene.origin.watch(|status| status.is_up()))
            .await
            .unwrap();
    });
}

#[test]
fn a_silent_path_under_a_waiting_request_is_suspect_within_half_a_second() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    if !inside("silence::a_silent_path_under_a_waiting_request_is_suspect_within_half_a_second") {
        return;
    }
    runtime().block_on(async {
        let a = ScriptedOrigin::start(Script::Answer { name: "a".into() }).unwrap();
        let scene = Scene::new(&[a.address()]);
        scene.up().await;
        let mut client = tokio::net::TcpStream::connect(scene.address).await.unwrap();
        client.write_all(b"one\n").await.unwrap();
        client.read_exact(&mut [0; 6]).await.unwrap();
        drop_packets("output", a.address().port());
        client.write_all(b"two\n").await.unwrap();
        let before = Instant::now();
        within(10, scene.origin.watch(|status| !status.is_up()))
            .await
            .unwrap();
        eprintln!("suspect after {:?}", before.elapsed());
        run("nft", &["flush", "ruleset"]);
        // The path is back before the connection is given up: the answer comes.
        within(20, client.read_exact(&mut [0; 6])).await.unwrap();
    });
}
