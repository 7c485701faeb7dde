//! Endpoints whose answers are far worse than those of the others.

use ipreconnect::core::balance::Policy;
use ipreconnect::core::outlier::{Offence, Passive};

use super::*;

/// A gateway that spreads requests evenly over these.
async fn evenly(origins: &[&Origin]) -> Scene {
    let addresses: Vec<SocketAddr> = origins.iter().map(|origin| origin.address).collect();
    let mut settings = settings(&addresses);
    for place in &mut settings.places {
        place.priority = 0;
    }
    settings.balance = Policy::RoundRobin;
    settings.supervisor.passive = Some(Passive::default());
    scene_with(settings, plan()).await
}

async fn well() -> Origin {
    Origin::start(|_| vec![Act::ok("well")]).await
}

fn failure() -> Vec<Act> {
    vec![Act::say("HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n")]
}

fn ejected(scene: &Scene) -> Vec<SocketAddr> {
    let status = scene.origin.status();
    let ejected = status.endpoints.iter().filter(|one| one.ejected.is_some());
    ejected
        .map(|one| one.address.to_string().parse().unwrap())
        .collect()
}

/// The statuses of so many answers to each of some clients at once.
async fn ask(scene: &Scene, rounds: usize) -> Vec<u16> {
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let mut client = Client::new(scene).await;
        clients.spawn(async move {
            let mut statuses = Vec::new();
            for _ in 0..rounds {
                statuses.push(client.get("/").await.status);
            }
            statuses
        });
    }
    clients.join_all().await.concat()
}

/// Asks until one is set aside.
async fn until_ejected(scene: &Scene) -> SocketAddr {
    for _ in 0..500 {
        ask(scene, 5).await;
        if let [one] = ejected(scene)[..] {
            return one;
        }
    }
    panic!("nobody is set aside: {:?}", scene.origin.status());
}

#[tokio::test]
async fn one_that_answers_500_to_everything_is_set_aside() {
    let (one, two) = (well().await, well().await);
    let bad = Origin::start(|_| failure()).await;
    let scene = evenly(&[&one, &bad, &two]).await;
    assert_eq!(until_ejected(&scene).await, bad.address);
    let statuses = ask(&scene, 100).await;
    let failed = statuses.iter().filter(|status| **status == 500).count();
    // What was under way, and another try if this takes longer than its time.
    assert!(
        failed * 20 < statuses.len(),
        "{failed} of {}",
        statuses.len()
    );
    let status = scene.origin.status();
    assert!(status.is_up());
    let endpoint = status.endpoints.iter().find(|one| one.ejected.is_some());
    if let Some(ejected) = endpoint.and_then(|endpoint| endpoint.ejected) {
        let why = ejected.offence.to_string();
        assert!(why.starts_with("100 % of "), "{why}");
        assert!(why.ends_with(" answers were 5xx"), "{why}");
    }
}

#[tokio::test]
async fn one_that_loses_every_request_is_set_aside() {
    let (one, two) = (well().await, well().await);
    let bad = Origin::start(|_| vec![Act::Reset]).await;
    let scene = evenly(&[&one, &two, &bad]).await;
    assert_eq!(until_ejected(&scene).await, bad.address);
}

#[tokio::test]
async fn one_that_is_far_slower_is_set_aside() {
    let (one, two) = (well().await, well().await);
    let slow = Origin::start(|_| vec![Act::Pause(MILLISECOND * 200), Act::ok("late")]).await;
    let scene = evenly(&[&one, &slow, &two]).await;
    assert_eq!(until_ejected(&scene).await, slow.address);
    let status = scene.origin.status();
    let offence = status.endpoints.iter().find_map(|one| one.ejected);
    let offence = offence.map(|ejected| ejected.offence);
    assert!(matches!(offence, Some(Offence::Slow { .. })), "{offence:?}");
}

#[tokio::test]
async fn nobody_is_set_aside_where_all_fail() {
    let all = [
        Origin::start(|_| failure()).await,
        Origin::start(|_| failure()).await,
        Origin::start(|_| failure()).await,
    ];
    let scene = evenly(&[&all[0], &all[1], &all[2]]).await;
    let seen = || all.iter().all(|origin| origin.seen().len() >= 200);
    while !seen() {
        assert!(ask(&scene, 10).await.iter().all(|status| *status == 500));
        assert_eq!(ejected(&scene), []);
    }
}

#[tokio::test]
async fn half_of_them_are_never_too_many() {
    let one = well().await;
    let bad = Origin::start(|_| failure()).await;
    let alone = evenly(&[&bad]).await;
    ask(&alone, 50).await;
    assert_eq!(ejected(&alone), []);
    let two = evenly(&[&one, &bad]).await;
    assert_eq!(until_ejected(&two).await, bad.address);
}
