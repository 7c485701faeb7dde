//! Requests that are spread: over endpoints by what they say, over origins by weight.

use std::collections::{BTreeMap, BTreeSet};

use ipreconnect::core::balance::Policy;
use ipreconnect::core::http::RouteRule;
use ipreconnect::{Origin as Kept, OriginSettings};
use ipreconnect_proxy::{HashOn, Hedge, HttpBranch, HttpRoute, HttpSettings, Rewrite};

use super::*;

async fn named(name: &'static str) -> Origin {
    Origin::start(move |_| vec![Act::ok(name)]).await
}

#[tokio::test]
async fn the_same_cookie_leads_to_the_same_endpoint() {
    let origins = [named("a").await, named("b").await, named("c").await];
    let mut settings: OriginSettings = settings(&origins.each_ref().map(|one| one.address));
    settings.balance = Policy::Hash;
    for place in &mut settings.places {
        place.priority = 0;
    }
    let mut plan = plan();
    plan.settings.as_mut().unwrap().hash_on = HashOn::Cookie("who".into());
    let scene = scene_with(settings, plan).await;
    crate::scene::until("all are up", || {
        let status = scene.origin.status();
        status
            .endpoints
            .iter()
            .all(|one| one.health == ipreconnect::core::origin::Health::Up)
    })
    .await;
    let mut led: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
    for turn in 0..200 {
        let mut client = Client::new(&scene).await;
        let who = turn % 20;
        client
            .send(format!(
                "GET / HTTP/1.1\r\nHost: a\r\nCookie: x=y; who={who}\r\n\r\n"
            ))
            .await;
        let text = client.answer().await.text().to_owned();
        led.entry(who).or_default().insert(text);
    }
    assert!(led.values().all(|places| places.len() == 1), "{led:?}");
    let places: BTreeSet<_> = led.values().flatten().collect();
    assert_eq!(places.len(), 3, "{led:?}");
}

#[tokio::test]
async fn each_has_its_turn_whether_a_connection_to_it_rests_or_not() {
    let origins = [named("a").await, named("b").await, named("c").await];
    let mut settings: OriginSettings = settings(&origins.each_ref().map(|one| one.address));
    settings.balance = Policy::RoundRobin;
    for place in &mut settings.places {
        place.priority = 0;
    }
    // Whoever is slow for a moment keeps his turn.
    settings.supervisor.interval = Duration::from_secs(3600);
    settings.supervisor.passive = None;
    settings.attempt_delay = Duration::from_secs(60);
    let mut plan = plan();
    if let Some(settings) = &mut plan.settings {
        settings.hedge = Hedge::Off;
    }
    let scene = scene_of(1, settings, plan).await;
    crate::scene::until("all are up", || {
        let status = scene.origin.status();
        let mut endpoints = status.endpoints.iter();
        endpoints.all(|one| one.health == ipreconnect::core::origin::Health::Up)
    })
    .await;
    let mut client = Client::new(&scene).await;
    let mut count: BTreeMap<String, u32> = BTreeMap::new();
    for _ in 0..60 {
        *count
            .entry(client.get("/").await.text().to_owned())
            .or_default() += 1;
    }
    assert!(count.values().all(|turns| *turns == 20), "{count:?}");
    let connections: usize = origins.iter().map(Origin::connections).sum();
    assert_eq!(connections, 3);
}

fn branches(kept: &[(&Kept, u32)], sticky: Option<&str>) -> HttpPlan {
    let branches = kept.iter().map(|(origin, weight)| HttpBranch {
        origin: (*origin).clone(),
        settings: HttpSettings::default(),
        weight: *weight,
    });
    let mut plan = plan();
    plan.routes = vec![HttpRoute {
        rule: RouteRule::default(),
        branches: branches.collect(),
        sticky: sticky.map(Into::into),
        rewrite: Rewrite::default(),
        requires: Vec::new(),
        fallback: None,
        mirror: None,
        cache: None,
    }];
    plan
}

#[tokio::test]
async fn a_split_follows_its_weights_and_cookies() {
    let (old, new) = (named("old").await, named("new").await);
    let mut scene = scene(&[old.address]).await;
    let other = scene.another("other", &[new.address]).await;
    scene.speak(Plane::Http(Box::new(branches(
        &[(&scene.origin, 9), (&other, 1)],
        Some("v"),
    ))));
    let mut count: BTreeMap<String, u32> = BTreeMap::new();
    for _ in 0..400 {
        let mut client = Client::new(&scene).await;
        let first = client.get("/").await;
        let cookie = first.field("Set-Cookie").unwrap().to_owned();
        let value = cookie.split(';').next().unwrap();
        // Whoever has the cookie stays where it was.
        for _ in 0..2 {
            client
                .send(format!(
                    "GET / HTTP/1.1\r\nHost: a\r\nCookie: {value}\r\n\r\n"
                ))
                .await;
            let next = client.answer().await;
            assert_eq!(next.text(), first.text(), "{cookie}");
            assert_eq!(next.field("Set-Cookie"), None);
        }
        *count.entry(first.text().to_owned()).or_default() += 1;
    }
    let new = count["new"];
    assert!((10..90).contains(&new), "{count:?}");
    // A cookie of a branch that does not exist is none.
    let mut client = Client::new(&scene).await;
    client
        .send("GET / HTTP/1.1\r\nHost: a\r\nCookie: v=gone\r\n\r\n")
        .await;
    assert!(client.answer().await.field("Set-Cookie").is_some());
}

#[tokio::test]
async fn a_branch_that_is_down_takes_nobody() {
    let old = named("old").await;
    let mut scene = scene(&[old.address]).await;
    let gone = named("gone").await;
    let address = gone.address;
    drop(gone);
    let other = scene.another("other", &[address]).await;
    crate::scene::until("it is down", || {
        other.status().phase == ipreconnect::core::origin::Phase::Down
    })
    .await;
    scene.speak(Plane::Http(Box::new(branches(
        &[(&scene.origin, 1), (&other, 99)],
        Some("v"),
    ))));
    for _ in 0..50 {
        let mut client = Client::new(&scene).await;
        client
            .send("GET / HTTP/1.1\r\nHost: a\r\nCookie: v=other\r\n\r\n")
            .await;
        assert_eq!(client.answer().await.text(), "old");
    }
}

#[tokio::test]
async fn branches_are_counted_so_that_they_can_be_compared() {
    let old = named("old").await;
    let new = Origin::start(|request| match request.line() {
        "GET /cut" => vec![
            Act::say("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart"),
            Act::Reset,
        ],
        "GET /missing" => vec![Act::say(
            "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        )],
        _ => vec![Act::say("HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n")],
    })
    .await;
    let mut scene = scene(&[old.address]).await;
    let other = scene.another("other", &[new.address]).await;
    let own = scene.origin.clone();
    let plan = branches(&[(&own, 1), (&other, 1)], Some("v"));
    scene.speak(Plane::Http(Box::new(plan)));
    let ask = |path: &'static str, branch: &'static str| {
        let scene = &scene;
        async move {
            let mut client = Client::new(scene).await;
            client
                .send(format!(
                    "GET {path} HTTP/1.1\r\nHost: a\r\nCookie: v={branch}\r\n\r\n"
                ))
                .await;
            client.more().await;
        }
    };
    for path in ["/", "/missing", "/cut"] {
        ask(path, "test").await;
        ask(path, "other").await;
    }
    let counted = || {
        let mut branches = scene.gateway.listeners().remove(0).branches;
        (branches.remove(0), branches.remove(0))
    };
    crate::scene::until("all are counted", || {
        let (first, second) = counted();
        first.requests == 3 && second.requests == 3
    })
    .await;
    let (first, second) = counted();
    assert_eq!(
        (first.origin.as_str(), first.route, first.weight),
        ("test", 1, 1)
    );
    assert_eq!(
        (first.client_errors, first.server_errors, first.cut_off),
        (0, 0, 0)
    );
    assert!(first.first_byte.is_some());
    assert_eq!(
        (second.client_errors, second.server_errors, second.cut_off),
        (1, 1, 1)
    );
}

#[tokio::test]
async fn a_mirror_gets_a_copy_and_nobody_waits_for_it() {
    let own = named("own").await;
    let shadow = Origin::start(|request| match request.connection {
        // Nobody hears the end of this.
        0 => vec![Act::Wait(std::sync::Arc::default())],
        _ => vec![Act::ok("nobody reads this")],
    })
    .await;
    let mut scene = scene_of(1, settings(&[own.address]), plan()).await;
    let copied = scene.another("copied", &[shadow.address]).await;
    crate::scene::until("it is up", || copied.status().is_up()).await;
    let mut plan = branches(&[(&scene.origin.clone(), 1)], None);
    plan.routes[0].mirror = Some(HttpBranch {
        origin: copied,
        settings: HttpSettings::default(),
        weight: 0,
    });
    scene.speak(Plane::Http(Box::new(plan)));
    let mut client = Client::new(&scene).await;
    for number in 0..20 {
        let answer = client.post(&format!("/{number}"), "the body").await;
        assert_eq!(answer.text(), "own");
    }
    crate::scene::until("all copies are there", || shadow.seen().len() == 20).await;
    let seen = shadow.seen();
    assert!(seen.iter().all(|copy| copy.body == b"the body"));
    let lines: BTreeSet<String> = seen.iter().map(|copy| copy.line().to_owned()).collect();
    assert_eq!(lines.len(), 20);
    // While it is away, nothing is.
    drop(shadow);
    for _ in 0..20 {
        assert_eq!(client.get("/").await.text(), "own");
    }
}
