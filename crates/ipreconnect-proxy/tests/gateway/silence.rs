//! Paths that fall silent: packets dropped by nftables, in a network namespace of the test's own.

use std::time::{Duration, Instant};

use crate::scene::{Scene, until, within};
use ipreconnect_lab::load::{Load, Outcome};
use ipreconnect_lab::namespace::{self, run};
use ipreconnect_lab::origin::{Script, ScriptedOrigin};

/// Runs the test of that name inside a namespace that has nftables.
fn inside(test: &str) -> bool {
    namespace::inside(test, &[("unshare", &["-n", "nft", "list", "ruleset"])])
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
