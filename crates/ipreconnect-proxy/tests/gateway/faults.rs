//! The main job on real sockets: an origin is killed, frozen, revived, and clients do not notice.

use std::time::Duration;

use crate::scene::{Scene, until, within};
use ipreconnect_lab::load::{Load, Report};
use ipreconnect_lab::origin::{Script, ScriptedOrigin};

fn answer(name: &str) -> ScriptedOrigin {
    ScriptedOrigin::start(Script::Once { name: name.into() }).unwrap()
}

fn load(scene: &Scene, seconds: u64) -> Load {
    Load {
        clients: 20,
        lasting: Duration::from_secs(seconds),
        ..Load::on(scene.address)
    }
}

fn show(report: &Report) {
    eprintln!(
        "offered {} answered {} failed {} stall {:?} outcomes {:?} names {:?}",
        report.offered(),
        report.answered(),
        report.failed(),
        report.longest_stall,
        report.outcomes,
        report.answers_by_name
    );
}

#[tokio::test]
async fn a_crash_with_a_backup_loses_only_what_the_dead_had_accepted() {
    let (a, b) = (answer("a"), answer("b"));
    let scene = Scene::new(&[a.address(), b.address()]);
    scene.up().await;
    let running = load(&scene, 3).start().unwrap();
    until("traffic", || a.answered() > 200).await;
    let open = a.open() as u64;
    a.kill();
    let report = within(20, running.finished()).await;
    show(&report);
    assert!(
        report.failed() <= open + 2,
        "{} failed, {open} were open",
        report.failed()
    );
    assert!(report.answers_by_name["b"] > 500);
}

#[tokio::test]
async fn without_a_backup_clients_wait_and_are_served() {
    let a = answer("a");
    let scene = Scene::new(&[a.address()]);
    scene.up().await;
    let running = load(&scene, 4).start().unwrap();
    until("traffic", || a.answered() > 200).await;
    let open = a.open() as u64;
    a.kill();
    tokio::time::sleep(Duration::from_secs(2)).await;
    a.revive().unwrap();
    let report = within(20, running.finished()).await;
    show(&report);
    assert!(
        report.failed() <= open + 2,
        "{} failed, {open} were open",
        report.failed()
    );
}

#[tokio::test]
async fn a_frozen_process_is_left_for_the_backup_and_used_again_when_it_thaws() {
    let (a, b) = (answer("a"), answer("b"));
    let scene = Scene::new(&[a.address(), b.address()]);
    scene.up().await;
    let running = load(&scene, 9).start().unwrap();
    until("traffic", || a.answered() > 200).await;
    a.freeze();
    until("the backup serves", || b.answered() > 100).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = a.answered();
    a.thaw();
    until("the first serves again", || a.answered() > before + 1000).await;
    let report = within(20, running.finished()).await;
    show(&report);
    assert!(report.answered() * 10 >= report.offered() * 8);
}
