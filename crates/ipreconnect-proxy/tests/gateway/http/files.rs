//! Answers that memory has no room for.

use std::path::Path;

use ipreconnect::core::http::RouteRule;
use ipreconnect_proxy::{
    Cache, CacheSettings, HttpBranch, HttpRoute, HttpSettings, Purge, Rewrite,
};

use super::*;
use crate::scene::until;

const BODY: usize = 60_000;

/// A gateway whose cache has room for some ten answers in memory, and for many in files.
async fn scene_by(origin: &Origin, cache: &Cache) -> Scene {
    let mut scene = scene(&[origin.address]).await;
    let route = HttpRoute {
        rule: RouteRule::default(),
        branches: vec![HttpBranch {
            origin: scene.origin.clone(),
            settings: HttpSettings::default(),
            weight: 1,
        }],
        sticky: None,
        rewrite: Rewrite::default(),
        requires: Vec::new(),
        fallback: None,
        mirror: None,
        cache: Some(cache.clone()),
    };
    scene.speak(Plane::Http(Box::new(HttpPlan {
        routes: vec![route],
        ..plan()
    })));
    scene
}

fn settings() -> CacheSettings {
    CacheSettings {
        size: 800_000,
        object: 200_000,
        disk: 4_000_000,
        ..CacheSettings::default()
    }
}

async fn origin() -> Origin {
    Origin::start(|request| {
        let path = request.line().split(' ').nth(1).unwrap().to_owned();
        let body = path.repeat(BODY / path.len());
        vec![Act::say(format!(
            "HTTP/1.1 200 OK\r\nCache-Control: max-age=600\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ))]
    })
    .await
}

fn files(directory: &Path) -> usize {
    std::fs::read_dir(directory).map_or(0, Iterator::count)
}

/// A cache with files below a place that is not there yet.
fn cache_in(place: &tempfile::TempDir) -> (std::path::PathBuf, Cache) {
    let directory = place.path().join("files");
    let cache = Cache::with_files(settings(), &directory).unwrap();
    (directory, cache)
}

async fn get(client: &mut Client, path: &str) {
    let answer = client.get(path).await;
    assert_eq!(answer.text(), path.repeat(BODY / path.len()), "{path}");
}

#[tokio::test]
async fn what_memory_has_no_room_for_comes_back_from_files() {
    let place = tempfile::tempdir().unwrap();
    let (directory, cache) = cache_in(&place);
    let origin = origin().await;
    let scene = scene_by(&origin, &cache).await;
    let mut client = Client::new(&scene).await;
    for number in 10..40 {
        get(&mut client, &format!("/{number}")).await;
    }
    until("answers are in files", || files(&directory) >= 15).await;
    // What is found in a file is nobody's to ask for again.
    let asked = origin.seen().len();
    for number in 10..25 {
        get(&mut client, &format!("/{number}")).await;
    }
    let again = origin.seen().len() - asked;
    assert!(again <= 3, "{again} of 15 were asked for again");
    // What is forgotten is forgotten there, too.
    assert!(cache.purge(&Purge::All) >= 20);
    until("files go", || files(&directory) == 0).await;
    let asked = origin.seen().len();
    get(&mut client, "/10").await;
    assert_eq!(origin.seen().len(), asked + 1);
    // What is made void is not brought back.
    for number in 10..40 {
        get(&mut client, &format!("/{number}")).await;
    }
    until("answers are in files", || files(&directory) >= 15).await;
    for number in 10..40 {
        client.post(&format!("/{number}"), "x").await;
    }
    let asked = origin.seen().len();
    for number in 10..40 {
        get(&mut client, &format!("/{number}")).await;
    }
    assert_eq!(origin.seen().len(), asked + 30);
}

#[tokio::test]
async fn files_have_a_bound_and_go_with_the_cache() {
    let place = tempfile::tempdir().unwrap();
    let (directory, cache) = cache_in(&place);
    let origin = origin().await;
    let scene = scene_by(&origin, &cache).await;
    let mut client = Client::new(&scene).await;
    for number in 100..250 {
        get(&mut client, &format!("/{number}")).await;
    }
    until("old ones go", || files(&directory) <= 4_000_000 / BODY + 1).await;
    // One that was taken away is asked for again.
    for file in std::fs::read_dir(&directory).unwrap() {
        std::fs::remove_file(file.unwrap().path()).unwrap();
    }
    for number in 200..250 {
        get(&mut client, &format!("/{number}")).await;
    }
    drop((client, scene, cache));
    until("the directory goes", || !directory.exists()).await;
}

#[tokio::test]
async fn each_answer_to_a_url_is_found_by_itself() {
    const URLS: usize = 12;
    const VARIANTS: usize = 30;
    let place = tempfile::tempdir().unwrap();
    let (directory, cache) = cache_in(&place);
    let origin = Origin::start(|request| {
        let tongue = request.field("accept-language").unwrap_or_default();
        let body = format!("{tongue:>8}").repeat(500);
        vec![Act::say(format!(
            "HTTP/1.1 200 OK\r\nCache-Control: max-age=600\r\nVary: Accept-Language\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ))]
    })
    .await;
    let scene = scene_by(&origin, &cache).await;
    let mut client = Client::new(&scene).await;
    let mut ask = async |url: usize, variant: usize| {
        client
            .send(format!(
                "GET /{url} HTTP/1.1\r\nHost: shop\r\nAccept-Language: x{variant}\r\n\r\n"
            ))
            .await;
        let answer = client.answer().await;
        assert_eq!(
            answer.text(),
            format!("{:>8}", format!("x{variant}")).repeat(500)
        );
    };
    for url in 0..URLS {
        for variant in 0..VARIANTS {
            ask(url, variant).await;
        }
    }
    // Whole URLs leave memory, and there are more answers than URLs by far.
    until("answers are in files", || files(&directory) >= 3 * VARIANTS).await;
    let (asked, kept) = (origin.seen().len(), files(&directory));
    ask(0, 7).await;
    assert_eq!(origin.seen().len(), asked);
    // The others of that URL stay where they are.
    until("it is in memory", || files(&directory) < kept).await;
    assert!(
        files(&directory) >= kept - 1 - VARIANTS,
        "{}",
        files(&directory)
    );
    ask(0, 8).await;
    ask(0, 7).await;
    assert_eq!(origin.seen().len(), asked);
}

#[tokio::test]
async fn answers_that_do_not_come_take_no_room_from_others() {
    let cache = Cache::new(CacheSettings {
        size: 8_000_000,
        object: 1_000_000,
        ..CacheSettings::default()
    });
    let never = std::sync::Arc::new(tokio::sync::Notify::new());
    let origin = Origin::start(move |request| {
        let head = |length: usize| {
            format!(
                "HTTP/1.1 200 OK\r\nCache-Control: max-age=600\r\nContent-Length: {length}\r\n\r\n"
            )
        };
        match request.line().contains("/stalls") {
            true => vec![
                Act::say(head(1_000_000) + "x"),
                Act::Wait(std::sync::Arc::clone(&never)),
            ],
            false => vec![Act::say(head(4) + "kept")],
        }
    })
    .await;
    let scene = scene_by(&origin, &cache).await;
    let mut stalled = Vec::new();
    for number in 0..40 {
        let mut client = Client::new(&scene).await;
        client
            .send(format!(
                "GET /stalls{number} HTTP/1.1\r\nHost: shop\r\n\r\n"
            ))
            .await;
        client.head().await;
        stalled.push(client);
    }
    let asked = origin.seen().len();
    let mut client = Client::new(&scene).await;
    for _ in 0..3 {
        assert_eq!(client.get("/").await.text(), "kept");
    }
    assert_eq!(origin.seen().len(), asked + 1);
}
