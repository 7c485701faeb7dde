//! Requests that are spread: over endpoints by what they say, over origins by weight.

use std::collections::{BTreeMap, BTreeSet};

use ipreconnect::core::balance::Policy;
use ipreconnect::core::http::RouteRule;
use ipreconnect::{Origin as Kept, OriginSettings};
use ipreconnect_proxy::{HashOn, HttpBranch, HttpRoute, HttpSettings, Rewrite};

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
