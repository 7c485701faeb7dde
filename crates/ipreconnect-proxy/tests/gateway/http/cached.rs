//! Answers that are kept, and given again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use ipreconnect::core::http::RouteRule;
use ipreconnect_proxy::{
    Cache, CacheSettings, HttpBranch, HttpRoute, HttpSettings, Purge, Rewrite,
};
use tokio::sync::Notify;

use super::*;
use crate::scene::until;

/// A gateway that keeps the answers of this origin.
async fn keeping(origin: &Origin) -> (Scene, Cache) {
    keeping_with(origin, CacheSettings::default()).await
}

async fn keeping_with(origin: &Origin, settings: CacheSettings) -> (Scene, Cache) {
    let mut scene = scene(&[origin.address]).await;
    let cache = Cache::new(settings);
    let mut plan = plan();
    plan.routes = vec![route(&[&scene.origin], &cache)];
    scene.speak(Plane::Http(Box::new(plan)));
    (scene, cache)
}

/// To one of these, by halves.
fn route(origins: &[&ipreconnect::Origin], cache: &Cache) -> HttpRoute {
    let branches = origins.iter().map(|origin| HttpBranch {
        origin: (*origin).clone(),
        settings: HttpSettings::default(),
        weight: 1,
    });
    HttpRoute {
        rule: RouteRule::default(),
        branches: branches.collect(),
        sticky: None,
        rewrite: Rewrite::default(),
        requires: Vec::new(),
        fallback: None,
        mirror: None,
        cache: Some(cache.clone()),
    }
}

fn answer(fields: &str, body: &str) -> Vec<Act> {
    let length = body.len();
    vec![Act::say(format!(
        "HTTP/1.1 200 OK\r\n{fields}Content-Length: {length}\r\n\r\n{body}"
    ))]
}

fn unchanged(fields: &str) -> Vec<Act> {
    vec![Act::say(format!(
        "HTTP/1.1 304 Not Modified\r\n{fields}\r\n"
    ))]
}

const LONG: &str = "Cache-Control: max-age=600\r\n";
/// Stale at once, and to be asked for by its tag.
const TAGGED: &str = "Cache-Control: max-age=0\r\nETag: \"a\"\r\n";

async fn get(client: &mut Client, path: &str, fields: &str) -> Answer {
    client
        .send(format!("GET {path} HTTP/1.1\r\nHost: shop\r\n{fields}\r\n"))
        .await;
    client.answer().await
}

fn status(answer: &Answer) -> &str {
    answer.field("Cache-Status").unwrap()
}

#[tokio::test]
async fn an_answer_is_asked_for_once_and_given_to_all() {
    let origin = Origin::start(|_| answer(LONG, "kept")).await;
    let (scene, _) = keeping(&origin).await;
    let mut client = Client::new(&scene).await;
    let first = client.get("/a?b").await;
    assert_eq!(status(&first), "ipreconnect; fwd=uri-miss; stored");
    let second = Client::new(&scene).await.get("/a?b").await;
    assert_eq!((second.status, second.text()), (200, "kept"));
    assert!(status(&second).starts_with("ipreconnect; hit; ttl="));
    assert_eq!(second.field("Age"), Some("0"));
    // The same connection goes on, and another query is another answer.
    client.get("/a?b").await;
    client.get("/a?c").await;
    client
        .send("HEAD /a?b HTTP/1.1\r\nHost: SHOP\r\n\r\n")
        .await;
    let (code, head) = client.head().await;
    assert_eq!(code, 200);
    assert!(head.contains("Content-Length: 4\r\n"), "{head}");
    assert_eq!(client.get("/a?b").await.text(), "kept");
    assert_eq!(origin.seen().len(), 2);
}

#[tokio::test]
async fn what_is_not_for_others_is_asked_for_each_time() {
    let origin = Origin::start(|request| match request.line() {
        "GET /private" => answer("Cache-Control: private, max-age=600\r\n", "x"),
        "GET /varies" => answer(&format!("{LONG}Vary: *\r\n"), "x"),
        "GET /nothing" => answer("", "x"),
        _ => answer(LONG, "x"),
    })
    .await;
    let (scene, _) = keeping(&origin).await;
    let mut client = Client::new(&scene).await;
    for (path, fields) in [
        ("/private", ""),
        ("/varies", ""),
        ("/nothing", ""),
        ("/known", "Authorization: Basic x\r\n"),
        ("/part", "Range: bytes=0-0\r\n"),
        ("/match", "If-Match: \"a\"\r\n"),
    ] {
        let before = origin.seen().len();
        for _ in 0..2 {
            assert_eq!(get(&mut client, path, fields).await.status, 200);
        }
        assert_eq!(origin.seen().len(), before + 2, "{path}");
    }
}

#[tokio::test]
async fn a_variant_is_for_those_who_ask_for_it() {
    let origin = Origin::start(|request| {
        let language = request.field("accept-language").unwrap_or("none");
        answer(&format!("{LONG}Vary: Accept-Language\r\n"), language)
    })
    .await;
    let (scene, _) = keeping(&origin).await;
    let mut client = Client::new(&scene).await;
    for _ in 0..2 {
        for language in ["en, de", "fr"] {
            let fields = format!("Accept-Language: {language}\r\n");
            assert_eq!(get(&mut client, "/", &fields).await.text(), language);
        }
        assert_eq!(client.get("/").await.text(), "none");
    }
    assert_eq!(origin.seen().len(), 3);
}

#[tokio::test]
async fn what_is_stale_is_confirmed_and_then_updated() {
    let origin = Origin::start(|request| match request.field("if-none-match") {
        Some("\"a\"") => unchanged(&format!("{LONG}ETag: \"a\"\r\nX-New: 1\r\n")),
        _ => answer(TAGGED, "kept"),
    })
    .await;
    let (scene, _) = keeping(&origin).await;
    let mut client = Client::new(&scene).await;
    client.get("/").await;
    let confirmed = client.get("/").await;
    assert_eq!((confirmed.status, confirmed.text()), (200, "kept"));
    assert_eq!(confirmed.field("X-New"), Some("1"));
    assert!(status(&confirmed).starts_with("ipreconnect; fwd=stale; fwd-status=304"));
    assert!(status(&client.get("/").await).starts_with("ipreconnect; hit"));
    assert_eq!(origin.seen().len(), 2);
    // All of it came over one connection.
    assert_eq!(origin.connections(), 1);
}

#[tokio::test]
async fn a_client_that_has_it_or_wants_a_part_is_answered_from_here() {
    let origin = Origin::start(|_| answer(&format!("{LONG}ETag: \"a\"\r\n"), "0123456789")).await;
    let (scene, _) = keeping(&origin).await;
    let mut client = Client::new(&scene).await;
    client.get("/").await;
    let has = get(&mut client, "/", "If-None-Match: W/\"a\"\r\n").await;
    assert_eq!((has.status, has.field("ETag")), (304, Some("\"a\"")));
    assert_eq!(has.field("Content-Length"), None);
    let part = get(&mut client, "/", "Range: bytes=2-3\r\n").await;
    assert_eq!((part.status, part.text()), (206, "23"));
    assert_eq!(part.field("Content-Range"), Some("bytes 2-3/10"));
    let other = get(&mut client, "/", "Range: bytes=2-3\r\nIf-Range: \"b\"\r\n").await;
    assert_eq!((other.status, other.text()), (200, "0123456789"));
    let beyond = get(&mut client, "/", "Range: bytes=10-\r\n").await;
    assert_eq!(beyond.status, 416);
    assert_eq!(origin.seen().len(), 1);
}

#[tokio::test]
async fn what_is_cut_off_or_too_long_is_not_kept() {
    let count = Arc::new(AtomicUsize::new(0));
    let origin = Origin::start({
        let count = Arc::clone(&count);
        move |request| match request.line() {
            "GET /cut" if count.fetch_add(1, SeqCst) == 0 => vec![
                Act::say(format!("HTTP/1.1 200 OK\r\n{LONG}Content-Length: 8\r\n\r\nhalf")),
                Act::Close,
            ],
            "GET /close" => vec![
                Act::say(format!("HTTP/1.1 200 OK\r\n{LONG}\r\nwhole?")),
                Act::Close,
            ],
            "GET /chunks" => vec![Act::say(format!(
                "HTTP/1.1 200 OK\r\n{LONG}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n"
            ))],
            "GET /long" => answer(LONG, &"x".repeat(3000)),
            _ => answer(LONG, "complete"),
        }
    })
    .await;
    let settings = CacheSettings {
        object: 2000,
        ..CacheSettings::default()
    };
    let (scene, _) = keeping_with(&origin, settings).await;
    let mut client = Client::new(&scene).await;
    client.send("GET /cut HTTP/1.1\r\nHost: shop\r\n\r\n").await;
    client.rest().await;
    let mut client = Client::new(&scene).await;
    assert_eq!(client.get("/cut").await.text(), "complete");
    for (path, times) in [("/close", 2), ("/long", 2), ("/chunks", 1)] {
        let before = origin.seen().len();
        client.get(path).await;
        let second = client.get(path).await;
        assert_eq!(origin.seen().len(), before + times, "{path}");
        if path == "/chunks" {
            assert_eq!(second.text(), "abcd");
            assert_eq!(second.field("Content-Length"), Some("4"));
        }
    }
}

#[tokio::test]
async fn a_change_makes_void_what_was_there() {
    let origin = Origin::start(|request| match request.line() {
        "POST /a" => answer("Location: /b\r\n", "done"),
        "POST /fails" => vec![Act::say(
            "HTTP/1.1 500 Oh\r\nLocation: /c\r\nContent-Length: 0\r\n\r\n",
        )],
        _ => answer(LONG, "x"),
    })
    .await;
    let (scene, cache) = keeping(&origin).await;
    let mut client = Client::new(&scene).await;
    for path in ["/a", "/b", "/c"] {
        client.get(path).await;
    }
    client.post("/a", "x").await;
    client.post("/fails", "x").await;
    let before = origin.seen().len();
    for path in ["/a", "/b", "/c"] {
        client.get(path).await;
    }
    assert_eq!(origin.seen().len(), before + 2);
    assert_eq!(cache.purge(&Purge::Url("HTTP://shop/a".into())), 1);
    assert_eq!(cache.purge(&Purge::Url("/b".into())), 1);
    assert_eq!(cache.purge(&Purge::Prefix("http://shop/".into())), 1);
    client.get("/a").await;
    assert_eq!(origin.seen().len(), before + 3);
    assert_eq!(cache.purge(&Purge::All), 1);
}

#[tokio::test]
async fn many_who_ask_at_once_are_answered_by_one_asking() {
    let go = Arc::new(Notify::new());
    let origin = Origin::start({
        let go = Arc::clone(&go);
        move |_| {
            let mut acts = vec![Act::Wait(Arc::clone(&go))];
            acts.extend(answer(LONG, "for all"));
            acts
        }
    })
    .await;
    let (scene, _) = keeping(&origin).await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        let mut client = Client::new(&scene).await;
        client.send("GET / HTTP/1.1\r\nHost: shop\r\n\r\n").await;
        clients.push(client);
    }
    crate::scene::until("the origin is asked", || origin.seen().len() == 1).await;
    go.notify_one();
    for client in &mut clients {
        assert_eq!(client.answer().await.text(), "for all");
    }
    assert_eq!(origin.seen().len(), 1);
}

#[tokio::test]
async fn who_waited_for_what_is_not_for_all_asks_for_himself() {
    let go = Arc::new(Notify::new());
    let first = Arc::new(AtomicBool::new(true));
    let origin = Origin::start({
        let (go, first) = (Arc::clone(&go), Arc::clone(&first));
        move |_| {
            let mut acts = Vec::new();
            if first.swap(false, SeqCst) {
                acts.push(Act::Wait(Arc::clone(&go)));
            }
            acts.extend(answer("Cache-Control: private\r\n", "own"));
            acts
        }
    })
    .await;
    let (scene, _) = keeping(&origin).await;
    let mut clients = Vec::new();
    for _ in 0..10 {
        let mut client = Client::new(&scene).await;
        client.send("GET / HTTP/1.1\r\nHost: shop\r\n\r\n").await;
        clients.push(client);
    }
    crate::scene::until("the origin is asked", || !origin.seen().is_empty()).await;
    go.notify_one();
    for client in &mut clients {
        assert_eq!(client.answer().await.text(), "own");
    }
    assert_eq!(origin.seen().len(), 10);
}

#[tokio::test]
async fn an_old_answer_is_served_while_a_new_one_is_fetched() {
    let count = Arc::new(AtomicUsize::new(0));
    let origin = Origin::start({
        let count = Arc::clone(&count);
        move |_| match count.fetch_add(1, SeqCst) {
            0 => answer(
                "Cache-Control: max-age=0, stale-while-revalidate=600\r\n",
                "old",
            ),
            _ => answer(LONG, "new"),
        }
    })
    .await;
    let (scene, _) = keeping(&origin).await;
    let mut client = Client::new(&scene).await;
    assert_eq!(client.get("/").await.text(), "old");
    let second = client.get("/").await;
    assert_eq!(second.text(), "old");
    assert!(status(&second).starts_with("ipreconnect; hit"));
    crate::scene::until("the origin is asked anew", || origin.seen().len() == 2).await;
    // What came is stored a moment later.
    while client.get("/").await.text() != "new" {}
    assert_eq!(origin.seen().len(), 2);
}

#[tokio::test]
async fn an_origin_that_fails_is_stood_in_for_unless_that_is_forbidden() {
    let fails = Arc::new(AtomicBool::new(false));
    let origin = Origin::start({
        let fails = Arc::clone(&fails);
        move |request| {
            if fails.load(SeqCst) {
                if request.line() == "GET /resets" {
                    return vec![Act::Reset];
                }
                return vec![Act::say("HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")];
            }
            match request.line() {
                "GET /strict" => answer(
                    "Cache-Control: max-age=0, must-revalidate\r\nETag: \"a\"\r\n",
                    "kept",
                ),
                _ => answer(TAGGED, "kept"),
            }
        }
    })
    .await;
    let (scene, _) = keeping(&origin).await;
    let mut client = Client::new(&scene).await;
    for path in ["/a", "/resets", "/strict"] {
        assert_eq!(client.get(path).await.status, 200);
    }
    fails.store(true, SeqCst);
    let failed = client.get("/a").await;
    assert_eq!((failed.status, failed.text()), (200, "kept"));
    assert!(status(&failed).contains("fwd-status=503"));
    assert_eq!(client.get("/strict").await.status, 503);
    let reset = client.get("/resets").await;
    assert_eq!((reset.status, reset.text()), (200, "kept"));
    assert!(status(&reset).contains("detail=\"no answer\""));
}

#[tokio::test]
async fn an_origin_that_is_gone_is_stood_in_for_at_once() {
    let origin = Origin::start(|_| answer(TAGGED, "kept")).await;
    let (scene, _) = keeping(&origin).await;
    let mut client = Client::new(&scene).await;
    client.get("/").await;
    drop(origin);
    // Not one of them waits in the hold, whether it is the one that finds out or a later one.
    for _ in 0..5 {
        let kept = within(5, client.get("/")).await;
        assert_eq!((kept.status, kept.text()), (200, "kept"));
    }
}

#[tokio::test]
async fn memory_is_bounded() {
    let origin = Origin::start(|_| answer(LONG, &"x".repeat(4000))).await;
    let settings = CacheSettings {
        size: 64 * 1024,
        object: 16 * 1024,
        ..CacheSettings::default()
    };
    let (scene, cache) = keeping_with(&origin, settings).await;
    let mut client = Client::new(&scene).await;
    for number in 0..100 {
        client.get(&format!("/{number}")).await;
        // What is used stays.
        client.get("/0").await;
    }
    let asked = |path: &str| {
        let seen = origin.seen();
        seen.iter().filter(|request| request.line() == path).count()
    };
    assert_eq!(asked("GET /0"), 1);
    let kept = cache.purge(&Purge::All);
    assert!((5..=16).contains(&kept), "{kept}");
}

#[tokio::test]
async fn what_is_kept_is_compressed_for_each_as_he_likes_it() {
    const TEXT: &str = "Content-Type: text/plain\r\nCache-Control: max-age=600\r\nETag: \"a\"\r\n";
    let body = "so much of the same ".repeat(20_000);
    let long = body.clone();
    let origin = Origin::start(move |_| answer(TEXT, &long)).await;
    let mut scene = scene(&[origin.address]).await;
    let mut plan = plan();
    plan.compresses = true;
    plan.routes = vec![route(
        &[&scene.origin],
        &Cache::new(CacheSettings::default()),
    )];
    scene.speak(Plane::Http(Box::new(plan)));
    let mut client = Client::new(&scene).await;
    for (turn, coding) in ["gzip", "identity", "br", "zstd", "gzip"]
        .iter()
        .enumerate()
    {
        let answer = get(&mut client, "/", &format!("Accept-Encoding: {coding}\r\n")).await;
        assert_eq!(answer.field("Vary"), Some("Accept-Encoding"), "{turn}");
        let is_hit = status(&answer).starts_with("ipreconnect; hit");
        assert_eq!(is_hit, turn > 0, "{}", status(&answer));
        if *coding == "identity" {
            assert_eq!(answer.text(), body);
            assert_eq!(answer.field("ETag"), Some("\"a\""));
            continue;
        }
        assert_eq!(answer.field("Content-Encoding"), Some(*coding));
        assert_eq!(answer.field("Content-Length"), None);
        assert_eq!(answer.field("ETag"), Some("W/\"a\""));
        assert_eq!(super::compress::plain(coding, &answer.body), body, "{turn}");
    }
    // A part of it is a part of the text and not of what it was pressed to.
    let part = get(
        &mut client,
        "/",
        "Accept-Encoding: gzip\r\nRange: bytes=0-3\r\n",
    )
    .await;
    assert_eq!((part.status, part.text()), (206, "so m"));
    assert_eq!(origin.seen().len(), 1);
}

#[tokio::test]
async fn each_branch_of_a_route_keeps_its_own_answers() {
    let (one, two) = (
        Origin::start(|_| answer(LONG, "one")).await,
        Origin::start(|_| answer(LONG, "two")).await,
    );
    let mut scene = scene(&[one.address]).await;
    let other = scene.another("other", &[two.address]).await;
    crate::scene::until("it is up", || other.status().is_up()).await;
    let mut plan = plan();
    let mut both = route(
        &[&scene.origin, &other],
        &Cache::new(CacheSettings::default()),
    );
    both.sticky = Some("v".into());
    plan.routes = vec![both];
    scene.speak(Plane::Http(Box::new(plan)));
    let mut client = Client::new(&scene).await;
    for turn in 0..20 {
        for (branch, text) in [("test", "one"), ("other", "two")] {
            let answer = get(&mut client, "/", &format!("Cookie: v={branch}\r\n")).await;
            assert_eq!(answer.text(), text, "{turn}");
        }
    }
    assert_eq!((one.seen().len(), two.seen().len()), (1, 1));
}

#[tokio::test]
async fn what_may_be_somebodys_own_is_given_to_nobody_else() {
    let is_broken = Arc::new(AtomicBool::new(false));
    let breaks = Arc::clone(&is_broken);
    let origin = Origin::start(move |request| {
        let who = request.field("cookie").unwrap_or("nobody").to_owned();
        match request.line() {
            _ if breaks.load(SeqCst) => {
                vec![Act::say("HTTP/1.1 500 Sorry\r\nContent-Length: 0\r\n\r\n")]
            }
            // What it is good for is not said.
            "GET /account" => answer("ETag: \"a\"\r\n", &who),
            "GET /page" => answer("Last-Modified: Mon, 01 Jan 2024 00:00:00 GMT\r\n", &who),
            "GET /checked" => answer("Cache-Control: no-cache\r\nETag: \"a\"\r\n", &who),
            _ => answer(LONG, &who),
        }
    })
    .await;
    let (scene, _) = keeping(&origin).await;
    let mut client = Client::new(&scene).await;
    let alice = "Cookie: alice\r\n";
    for path in ["/account", "/page", "/checked"] {
        assert_eq!(get(&mut client, path, alice).await.text(), "alice");
        assert_eq!(
            get(&mut client, path, "Cookie: bob\r\n").await.text(),
            "bob"
        );
        assert_eq!(get(&mut client, path, "").await.text(), "nobody", "{path}");
        // What is for nobody in particular is not for who may be somebody, either.
        assert_eq!(get(&mut client, path, alice).await.text(), "alice");
    }
    assert_eq!(get(&mut client, "/style", alice).await.text(), "alice");
    is_broken.store(true, SeqCst);
    for path in ["/account", "/page", "/checked"] {
        assert_eq!(get(&mut client, path, alice).await.status, 500, "{path}");
    }
    // The origin has said that it is good for all.
    assert_eq!(
        get(&mut client, "/style", "Cookie: bob\r\n").await.text(),
        "alice"
    );
}

#[tokio::test]
async fn what_the_origin_was_not_told_is_no_reason_for_its_answer() {
    let origin = Origin::start(|request| {
        let accepted = request.field("accept").unwrap_or("anything").to_owned();
        answer(&format!("{LONG}Vary: Accept\r\n"), &accepted)
    })
    .await;
    let (scene, _) = keeping(&origin).await;
    let mut client = Client::new(&scene).await;
    let hidden = "Accept: html\r\nConnection: accept\r\n";
    assert_eq!(get(&mut client, "/", hidden).await.text(), "anything");
    assert_eq!(
        get(&mut client, "/", "Accept: html\r\n").await.text(),
        "html"
    );
    assert_eq!(get(&mut client, "/", "").await.text(), "anything");
    assert_eq!(origin.seen().len(), 2);
}

#[tokio::test]
async fn the_url_is_the_one_that_the_origin_is_told() {
    let origin = Origin::start(|request| {
        let told = ["x-forwarded-proto", "x-forwarded-host"];
        let told = told.map(|name| request.field(name).unwrap_or("none").to_owned());
        answer(LONG, &told.join(" "))
    })
    .await;
    let mut scene = scene(&[origin.address]).await;
    let cache = Cache::new(CacheSettings::default());
    let mut plan = plan();
    plan.routes = vec![route(&[&scene.origin], &cache)];
    plan.forwarding.trust = vec!["127.0.0.0/8".parse().unwrap()];
    scene.speak(Plane::Http(Box::new(plan)));
    let mut client = Client::new(&scene).await;
    for _ in 0..2 {
        for (fields, wanted) in [
            ("", "http none"),
            ("X-Forwarded-Proto: http\r\n", "http none"),
            ("X-Forwarded-Proto: https\r\n", "https none"),
            ("X-Forwarded-Host: shop.example\r\n", "http shop.example"),
            ("X-Forwarded-Host: evil.example\r\n", "http evil.example"),
        ] {
            let answer = get(&mut client, "/", fields).await;
            assert_eq!(answer.text(), wanted, "{fields}");
        }
    }
    assert_eq!(origin.seen().len(), 4);
    // All that is known of a URL is forgotten with it.
    assert_eq!(cache.purge(&Purge::Url("/".into())), 4);
    assert_eq!(origin.seen().len(), 4);
}

#[tokio::test]
async fn when_the_one_who_asks_for_all_leaves_another_one_does() {
    let bell = Arc::new(Notify::new());
    let rings = Arc::clone(&bell);
    let origin = Origin::start(move |_| {
        let mut acts = vec![Act::Wait(Arc::clone(&rings))];
        acts.extend(answer(LONG, "x"));
        acts
    })
    .await;
    let (scene, _) = keeping(&origin).await;
    let mut first = Client::new(&scene).await;
    first.send("GET /a HTTP/1.1\r\nHost: shop\r\n\r\n").await;
    until("it is asked for", || origin.seen().len() == 1).await;
    let mut others = Vec::new();
    for _ in 0..20 {
        let mut client = Client::new(&scene).await;
        client.send("GET /a HTTP/1.1\r\nHost: shop\r\n\r\n").await;
        others.push(client);
    }
    // They wait when one that came later is answered.
    let mut last = Client::new(&scene).await;
    last.send("nonsense\r\n\r\n").await;
    assert_eq!(last.answer().await.status, 400);
    drop(first);
    until("somebody else asks", || origin.seen().len() == 2).await;
    bell.notify_waiters();
    bell.notify_one();
    bell.notify_one();
    for client in &mut others {
        assert_eq!(client.answer().await.text(), "x");
    }
    assert_eq!(origin.seen().len(), 2);
}

#[tokio::test]
async fn bodies_on_their_way_have_a_bound_too() {
    const LENGTH: usize = 200_000;
    let bell = Arc::new(Notify::new());
    let rings = Arc::clone(&bell);
    let origin = Origin::start(move |_| {
        let head = format!("HTTP/1.1 200 OK\r\n{LONG}Content-Length: {LENGTH}\r\n\r\n");
        let most = [head.into_bytes(), vec![b'x'; LENGTH - 1]].concat();
        vec![Act::Say(most), Act::Wait(Arc::clone(&rings)), Act::say("x")]
    })
    .await;
    let settings = CacheSettings {
        size: 1024 * 1024,
        object: 256 * 1024,
        ..CacheSettings::default()
    };
    let (scene, _) = keeping_with(&origin, settings).await;
    let mut clients = Vec::new();
    for number in 0..6 {
        let mut client = Client::new(&scene).await;
        client
            .send(format!("GET /{number} HTTP/1.1\r\nHost: shop\r\n\r\n"))
            .await;
        assert_eq!(client.head().await.0, 200);
        while client.unread.len() < LENGTH - 1 {
            assert!(client.fill().await);
        }
        clients.push(client);
    }
    for _ in 0..100 {
        bell.notify_one();
        tokio::task::yield_now().await;
        bell.notify_waiters();
    }
    for client in &mut clients {
        while client.unread.len() < LENGTH {
            bell.notify_waiters();
            assert!(client.fill().await);
        }
    }
    let before = origin.seen().len();
    assert_eq!(before, 6);
    let mut kept = 0;
    for number in 0..6 {
        let mut client = Client::new(&scene).await;
        client
            .send(format!("GET /{number} HTTP/1.1\r\nHost: shop\r\n\r\n"))
            .await;
        let (_, head) = client.head().await;
        kept += usize::from(head.contains("ipreconnect; hit"));
    }
    assert!((1..=2).contains(&kept), "{kept} were kept");
}

#[tokio::test]
async fn who_asks_in_his_own_name_changes_nothing_for_others() {
    let origin = Origin::start(|request| match request.field("authorization") {
        Some(_) => vec![Act::say(
            "HTTP/1.1 401 Who?\r\nCache-Control: no-store\r\nContent-Length: 0\r\n\r\n",
        )],
        None => answer(
            "Cache-Control: max-age=0, stale-while-revalidate=600, stale-if-error=600\r\nETag: \"a\"\r\n",
            "for all",
        ),
    })
    .await;
    let (scene, _) = keeping(&origin).await;
    let mut client = Client::new(&scene).await;
    assert_eq!(client.get("/").await.text(), "for all");
    let named = get(&mut client, "/", "Authorization: Basic x\r\n").await;
    assert_eq!(named.text(), "for all");
    // Nobody has asked in that name behind his back.
    assert_eq!(origin.seen().len(), 1);
    // A part of what is stale is asked for by each.
    let answer = get(&mut client, "/x", "Authorization: Basic x\r\n").await;
    assert_eq!(answer.status, 401);
    assert!(status(&client.get("/").await).contains("hit"));
}

#[tokio::test]
async fn what_a_client_forbids_to_keep_is_not_kept() {
    let origin = Origin::start(|_| answer(LONG, "x")).await;
    let (scene, _) = keeping(&origin).await;
    let mut client = Client::new(&scene).await;
    get(&mut client, "/", "Cache-Control: no-store\r\n").await;
    get(&mut client, "/", "Cache-Control: no-store\r\n").await;
    assert_eq!(origin.seen().len(), 2);
    get(&mut client, "/", "").await;
    get(&mut client, "/", "").await;
    assert_eq!(origin.seen().len(), 3);
}
