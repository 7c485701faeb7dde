//! Connecting: which endpoint, how soon, and what the server sees of it.

use std::net::ToSocketAddrs;
use std::time::Duration;

use ipreconnect::core::balance::{Policy, Standing};
use ipreconnect::core::origin::{Check, Health};
use ipreconnect::{Kind, Origin, Retry};
use ipreconnect_lab::namespace::skipped;
use ipreconnect_lab::origin::{Script, ScriptedOrigin};

use crate::scene::{ask, leads_to, origin, server, settings, until, with, within};

#[tokio::test]
async fn the_preferred_endpoint_is_taken_and_its_loss_is_not_seen() {
    let (blue, green) = (server("blue"), server("green"));
    let origin = origin(&[blue.address(), green.address()]);
    let mut link = within(5, origin.connect()).await.unwrap();
    assert!(leads_to(&link, &blue));
    assert_eq!(ask(&mut link).await.unwrap(), "blue");

    blue.kill();
    for _ in 0..50 {
        let mut link = within(5, origin.connect()).await.unwrap();
        assert_eq!(ask(&mut link).await.unwrap(), "green");
    }

    blue.revive().unwrap();
    let back = origin.watch(|status| {
        let mut endpoints = status.endpoints.iter();
        endpoints.all(|e| e.standing == Standing::Good)
    });
    within(20, back).await.unwrap();
    let link = within(5, origin.connect()).await.unwrap();
    assert!(leads_to(&link, &blue));
}

/// It is proven and preferred, and still on probation: the backup serves until that ends.
#[tokio::test]
async fn an_endpoint_that_comes_back_waits_while_the_backup_serves() {
    let (blue, green) = (server("blue"), server("green"));
    let origin = origin(&[blue.address(), green.address()]);
    within(5, origin.connect()).await.unwrap();
    blue.kill();
    within(5, origin.connect()).await.unwrap();
    blue.revive().unwrap();
    let on_probation = origin.watch(|status| {
        let blue = &status.endpoints[0];
        (blue.health, blue.standing) == (Health::Up, Standing::Doubtful)
    });
    within(20, on_probation).await.unwrap();
    let link = within(5, origin.connect()).await.unwrap();
    assert!(leads_to(&link, &green));
}

/// The half-open check: no accept, so no line in the server's log.
#[tokio::test]
async fn heartbeats_are_invisible_to_the_server() {
    let blue = server("blue");
    let mut settings = settings(&[blue.address()]);
    settings.supervisor.interval = Duration::from_millis(10);
    let origin = with(settings);
    within(5, origin.watch(|status| status.is_up()))
        .await
        .unwrap();
    // Nobody dials: heartbeats alone notice that it goes, and that it is back.
    blue.kill();
    within(5, origin.watch(|status| !status.is_up()))
        .await
        .unwrap();
    blue.revive().unwrap();
    within(5, origin.watch(|status| status.is_up()))
        .await
        .unwrap();
    assert_eq!(blue.accepted(), 0);
}

#[tokio::test]
async fn a_name_with_both_families_finds_the_one_that_listens() {
    let known: Vec<_> = "localhost:1".to_socket_addrs().unwrap().collect();
    let mut servers = vec![ScriptedOrigin::start(Script::Echo).unwrap()];
    if known.iter().any(|address| address.is_ipv6()) {
        servers.push(ScriptedOrigin::start_ipv6(Script::Echo).unwrap());
    } else {
        let test = "connect::a_name_with_both_families_finds_the_one_that_listens (IPv6)";
        skipped(test, "this machine knows localhost by IPv4 only");
    }
    for blue in servers {
        let origin = Origin::builder("test")
            .address(format!("localhost:{}", blue.address().port()))
            .start()
            .unwrap();
        let link = within(5, origin.connect()).await.unwrap();
        assert!(leads_to(&link, &blue));
    }
}

#[tokio::test]
async fn a_unix_socket_is_an_origin_too() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("origin.sock");
    let blue = ScriptedOrigin::start_unix(
        &path,
        Script::Answer {
            name: "blue".into(),
        },
    )
    .unwrap();
    let origin = Origin::builder("test")
        .address(format!("unix:{}", path.display()))
        .start()
        .unwrap();
    let mut link = within(5, origin.connect()).await.unwrap();
    assert_eq!(ask(&mut link).await.unwrap(), "blue");
    drop(link);

    blue.kill();
    let waiting = tokio::spawn({
        let origin = origin.clone();
        async move { origin.connect().await }
    });
    until("the caller waits", || origin.status().waiting == 1).await;
    blue.revive().unwrap();
    within(5, waiting).await.unwrap().unwrap();
}

#[tokio::test]
async fn equals_share_the_work() {
    let servers = [server("a"), server("b"), server("c")];
    let mut builder = Origin::builder("test").balance(Policy::RoundRobin).seed(7);
    for server in &servers {
        builder = builder.address(server.address().to_string());
    }
    let origin = builder.start().unwrap();
    let all_up = origin.watch(|status| {
        status.endpoints.len() == 3 && status.endpoints.iter().all(|e| e.health == Health::Up)
    });
    within(5, all_up).await.unwrap();
    for _ in 0..30 {
        let mut link = within(5, origin.connect()).await.unwrap();
        ask(&mut link).await.unwrap();
    }
    let shares: Vec<u64> = servers.iter().map(ScriptedOrigin::answered).collect();
    assert_eq!(shares, [10, 10, 10]);
}

#[tokio::test]
async fn reconfiguring_leads_new_links_elsewhere_and_leaves_old_ones() {
    let (blue, green) = (server("blue"), server("green"));
    let origin = origin(&[blue.address()]);
    let mut old = within(5, origin.connect()).await.unwrap();
    origin
        .reconfigure(settings(&[green.address()]))
        .await
        .unwrap();
    let moved = origin.watch(|status| {
        let mut endpoints = status.endpoints.iter();
        endpoints.all(|e| e.address == green.address().into()) && status.is_up()
    });
    within(5, moved).await.unwrap();
    let mut new = within(5, origin.connect()).await.unwrap();
    assert_eq!(ask(&mut new).await.unwrap(), "green");
    assert_eq!(ask(&mut old).await.unwrap(), "blue");
}

/// A listener whose queue is full drops every SYN: a dial neither succeeds nor fails.
#[tokio::test]
async fn an_address_that_arrives_while_a_dial_hangs_joins_the_race() {
    let full = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let hanging = full.local_addr().unwrap();
    rustix::net::listen(&full, 0).unwrap();
    let _queued: Vec<_> = (0..3)
        .map(|_| {
            let patience = Duration::from_millis(100);
            std::net::TcpStream::connect_timeout(&hanging, patience)
        })
        .collect();

    let green = server("green");
    let mut one = settings(&[hanging]);
    one.supervisor.connect_timeout = Duration::from_secs(60);
    one.supervisor.check = Check::Off;
    one.hold.patience = Duration::ZERO;
    let origin = with(one.clone());
    within(5, origin.watch(|status| !status.endpoints.is_empty()))
        .await
        .unwrap();
    let dialling = tokio::spawn({
        let origin = origin.clone();
        async move { origin.connect().await }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!dialling.is_finished());

    let mut both = settings(&[hanging, green.address()]);
    both.supervisor = one.supervisor;
    both.hold = one.hold;
    origin.reconfigure(both).await.unwrap();
    let link = within(10, dialling).await.unwrap().unwrap();
    assert!(leads_to(&link, &green));
}

#[tokio::test]
async fn addresses_that_cannot_be_used_are_refused_at_once() {
    for text in ["", "db", "db:port", "db:70000", "[::1", "unix:", ":5432"] {
        let error = Origin::builder("test").address(text).start().unwrap_err();
        assert_eq!(error.kind(), Kind::Address, "{text:?}");
        assert_eq!(error.retry(), Retry::Never);
        assert!(error.to_string().contains(&format!("{text:?}")), "{error}");
    }
    let error = Origin::builder("test").start().unwrap_err();
    assert_eq!(error.kind(), Kind::Address);
}
