//! Proxies behind this one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipreconnect::Origin as Kept;
use ipreconnect::core::forward::{ForwardPolicy, Places};
use ipreconnect_proxy::{ForwardPlan, ForwardWay, Parent, Speaks, Via};
use tokio::io::AsyncWriteExt;
use tokio::sync::Notify;

use super::{Stage, echo, echoes, open, plan_of, plane};
use crate::http::{Act, Origin};
use crate::scene::within;

/// A proxy at this address, kept as origins are.
fn parent(name: &str, at: SocketAddr, speaks: Speaks) -> ForwardWay {
    parent_as(name, at, speaks, None)
}

fn parent_as(
    name: &str,
    at: SocketAddr,
    speaks: Speaks,
    credentials: Option<(&str, &str)>,
) -> ForwardWay {
    let origin = Kept::builder(name).address(at.to_string());
    ForwardWay::Parent(Parent {
        origin: origin.hold(Duration::ZERO).start().unwrap(),
        speaks,
        credentials: credentials.map(|(user, password)| (user.into(), password.into())),
    })
}

/// A proxy over HTTP for all hosts.
pub(super) fn by(at: SocketAddr) -> Via {
    let ways = vec![parent("parent", at, Speaks::Http)];
    Via { to: None, ways }
}

async fn through(ways: Vec<ForwardWay>) -> Stage {
    Stage::with(open(), |plan| {
        plan.via = vec![Via { to: None, ways }];
    })
    .await
}

async fn nowhere() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

async fn get(stage: &Stage, to: impl std::fmt::Display) -> crate::http::Answer {
    let mut client = stage.client().await;
    client
        .send(format!("GET http://{to}/x HTTP/1.1\r\nHost: x\r\n\r\n"))
        .await;
    client.answer().await
}

/// A tunnel to there, open.
async fn tunnels(stage: &Stage, to: impl std::fmt::Display) {
    let mut client = stage.client().await;
    client
        .send(format!("CONNECT {to} HTTP/1.1\r\nHost: x\r\n\r\n"))
        .await;
    let (status, head) = client.head().await;
    assert_eq!(status, 200, "{head}");
    echoes(client.stream()).await;
}

#[tokio::test]
async fn requests_and_tunnels_go_by_a_proxy_of_either_kind() {
    let origin = Origin::start(|request| vec![Act::ok(&request.head)]).await;
    let to = echo().await;
    for speaks in [Speaks::Http, Speaks::Socks5] {
        let parents = Stage::new(open()).await;
        parents.name("inside.test", "127.0.0.1");
        let stage = through(vec![parent("parent", parents.scene.address, speaks)]).await;
        // Only the proxy behind knows where that is.
        let port = origin.address.port();
        for _ in 0..2 {
            let answer = get(&stage, format!("inside.test:{port}")).await;
            assert_eq!(
                answer.text(),
                format!("GET /x HTTP/1.1\r\nHost: inside.test:{port}\r\n\r\n")
            );
        }
        tunnels(&stage, format!("inside.test:{}", to.port())).await;
        tunnels(&stage, to).await;
        assert_eq!(stage.zone.asked_at_all(), 0);
        let line = stage.line("\"target\":\"/x\"").await;
        assert!(line.contains("\"via\":\"parent\""), "{line}");
        let line = stage.line("CONNECT").await;
        assert!(line.contains("\"via\":\"parent\""), "{line}");
        // The tunnel that requests share is still open.
        let (protocol, count) = match speaks {
            Speaks::Http => ("HTTP/1.1", 4),
            Speaks::Socks5 => ("SOCKS5", 2),
        };
        let what = format!("\"protocol\":\"{protocol}\"");
        let heard = parents.lines(&what, count).await;
        assert!(
            heard.iter().all(|line| line.contains("\"status\":200")),
            "{heard:?}"
        );
    }
}

#[tokio::test]
async fn what_cannot_be_reached_by_one_goes_by_the_next() {
    let origin = Origin::start(|request| vec![Act::ok(request.body.len().to_string())]).await;
    let to = echo().await;
    let parents = Stage::new(open()).await;
    let dead = nowhere().await;
    for speaks in [Speaks::Http, Speaks::Socks5] {
        let ways = vec![
            parent("dead", dead, speaks),
            parent("alive", parents.scene.address, speaks),
            ForwardWay::Direct,
        ];
        let stage = through(ways).await;
        assert_eq!(get(&stage, origin.address).await.status, 200);
        tunnels(&stage, to).await;
        let line = stage.line("CONNECT").await;
        assert!(line.contains("\"via\":\"alive\""), "{line}");
        // Bodies that have begun to come are not lost with the way.
        let mut client = stage.client().await;
        client
            .send(format!(
                "POST http://{}/ HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12345",
                origin.address
            ))
            .await;
        client.send("67890").await;
        assert_eq!(client.answer().await.text(), "10");
        let direct = through(vec![parent("dead", dead, speaks), ForwardWay::Direct]).await;
        assert_eq!(get(&direct, origin.address).await.status, 200);
        tunnels(&direct, to).await;
        let line = direct.line("CONNECT").await;
        assert!(!line.contains("\"via\""), "{line}");
    }
}

#[tokio::test]
async fn a_proxy_that_is_away_is_passed_by_and_used_when_it_is_there() {
    let to = echo().await;
    let at = nowhere().await;
    let other = Stage::new(open()).await;
    let ways = vec![
        parent("first", at, Speaks::Http),
        parent("second", other.scene.address, Speaks::Http),
    ];
    let stage = through(ways).await;
    tunnels(&stage, to).await;
    assert!(stage.line("second").await.contains("CONNECT"));
    let listener = tokio::net::TcpListener::bind(at).await.unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut heard = [0; 1024];
                let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut heard).await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nit is back").await;
            });
        }
    });
    let began = Instant::now();
    loop {
        let mut client = stage.client().await;
        client
            .send(format!("CONNECT {to} HTTP/1.1\r\nHost: x\r\n\r\n"))
            .await;
        assert_eq!(client.head().await.0, 200);
        client.send("x").await;
        if client.bytes().await.starts_with(b"it is back") {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(15), "it is not used");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn credentials_are_shown_and_asked_of_nobody_else() {
    let seen = Origin::start(|request| {
        let shown = request.field("proxy-authorization").map(str::to_owned);
        match (request.line().starts_with("CONNECT"), shown.as_deref()) {
            (true, Some("Basic YW5uOmh1c2g=")) => {
                vec![Act::say("HTTP/1.1 200 OK\r\n\r\n"), Act::Echo]
            }
            (false, Some("Basic YW5uOmh1c2g=")) => vec![Act::ok(request.line())],
            _ => vec![Act::say(
                "HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n",
            )],
        }
    })
    .await;
    let with = |credentials| vec![parent_as("parent", seen.address, Speaks::Http, credentials)];
    let stage = through(with(Some(("ann", "hush")))).await;
    assert_eq!(get(&stage, "a.test").await.text(), "GET http://a.test/x");
    tunnels(&stage, "a.test:443").await;
    // One that asks again and again is asked once, and its client never.
    for (credentials, words) in [
        (None, "wants credentials"),
        (Some(("ann", "wrong")), "does not take our credentials"),
    ] {
        let before = seen.seen().len();
        let stage = through(with(credentials)).await;
        let answer = get(&stage, "a.test").await;
        assert_eq!(answer.status, 502);
        assert!(answer.text().contains(words), "{}", answer.text());
        assert_eq!(answer.field("Proxy-Authenticate"), None);
        let mut client = stage.client().await;
        client
            .send("CONNECT a.test:443 HTTP/1.1\r\nHost: x\r\n\r\n")
            .await;
        let answer = client.answer().await;
        assert_eq!(answer.status, 502);
        assert!(answer.text().contains(words), "{}", answer.text());
        assert_eq!(seen.seen().len(), before + 2);
    }
}

#[tokio::test]
async fn bad_proxies_are_passed_by() {
    let to = echo().await;
    let never = Arc::new(Notify::new());
    type Play = Box<dyn Fn() -> Vec<Act> + Send + Sync>;
    let bad: [(&str, Play); 5] = [
        (
            "hangs",
            Box::new(move || vec![Act::Wait(Arc::clone(&never))]),
        ),
        ("garbage", Box::new(|| vec![Act::say(vec![0xff; 64])])),
        ("long", Box::new(|| vec![Act::say(vec![b'a'; 40_000])])),
        ("gone", Box::new(|| vec![Act::Close])),
        (
            "broken",
            Box::new(|| vec![Act::say("HTTP/1.1 503 Away\r\nContent-Length: 0\r\n\r\n")]),
        ),
    ];
    for (name, play) in bad {
        let proxy = Origin::start(move |_| play()).await;
        let ways = vec![
            parent(name, proxy.address, Speaks::Http),
            ForwardWay::Direct,
        ];
        let stage = through(ways).await;
        within(20, tunnels(&stage, to)).await;
    }
    for reply in [
        &b"HTTP/1.1 400 Bad\r\n\r\n"[..],
        &[5, 9],
        &[5, 0, 5, 1, 0, 1, 0, 0, 0, 0, 0, 0],
    ] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.write_all(reply).await;
                let mut heard = [0; 64];
                while tokio::io::AsyncReadExt::read(&mut stream, &mut heard)
                    .await
                    .is_ok_and(|n| n > 0)
                {}
            }
        });
        let ways = vec![parent("bad", at, Speaks::Socks5), ForwardWay::Direct];
        let stage = through(ways).await;
        within(20, tunnels(&stage, to)).await;
    }
}

#[tokio::test]
async fn one_that_has_decided_is_believed() {
    let to = echo().await;
    let mut policy = open();
    assert!(policy.block.add("127.0.0.1"));
    policy.block.finish();
    let strict = Stage::new(policy).await;
    for speaks in [Speaks::Http, Speaks::Socks5] {
        let ways = vec![
            parent("strict", strict.scene.address, speaks),
            ForwardWay::Direct,
        ];
        let stage = through(ways).await;
        let mut client = stage.client().await;
        client
            .send(format!("CONNECT {to} HTTP/1.1\r\nHost: x\r\n\r\n"))
            .await;
        let answer = client.answer().await;
        assert_eq!(answer.status, 403, "{}", answer.text());
        assert!(
            answer
                .text()
                .contains("the proxy strict on the way there refuses"),
            "{}",
            answer.text()
        );
    }
}

#[tokio::test]
async fn hosts_have_ways_of_their_own() {
    let origin = Origin::start(|_| vec![Act::ok("direct")]).await;
    let parents = Origin::start(|_| vec![Act::ok("by proxy")]).await;
    let stage = Stage::with(open(), |plan| {
        let mut to = Places::default();
        assert!(to.add(".corp.test") && to.add("127.0.0.0/8"));
        to.finish();
        plan.via = vec![
            Via {
                to: Some(to),
                ways: vec![ForwardWay::Direct],
            },
            Via {
                to: None,
                ways: vec![parent("parent", parents.address, Speaks::Http)],
            },
        ];
    })
    .await;
    stage.name("a.corp.test", "127.0.0.1");
    let port = origin.address.port();
    assert_eq!(
        get(&stage, format!("a.corp.test:{port}")).await.text(),
        "direct"
    );
    assert_eq!(get(&stage, origin.address).await.text(), "direct");
    assert_eq!(
        get(&stage, format!("other.test:{port}")).await.text(),
        "by proxy"
    );
}

#[tokio::test]
async fn what_is_denied_here_is_not_asked_for_there() {
    let parents = Origin::start(|_| vec![Act::ok("never")]).await;
    let stage = Stage::with(ForwardPolicy::default(), |plan| {
        plan.via = vec![Via {
            to: None,
            ways: vec![parent("parent", parents.address, Speaks::Http)],
        }];
    })
    .await;
    assert_eq!(get(&stage, "10.0.0.1").await.status, 403);
    assert_eq!(get(&stage, "2130706433").await.status, 403);
    let asked = parents
        .seen()
        .into_iter()
        .filter(|request| request.line().contains("GET"));
    assert_eq!(asked.count(), 0);
}

#[tokio::test]
async fn chains_that_lead_back_end() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let back = listener.local_addr().unwrap();
    let first = through(vec![parent("back", back, Speaks::Http)]).await;
    let second = through(vec![parent("first", first.scene.address, Speaks::Http)]).await;
    let to = second.scene.address;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut onward = tokio::net::TcpStream::connect(to).await.unwrap();
            tokio::spawn(async move {
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut onward).await;
            });
        }
    });
    let answer = get(&first, "a.test").await;
    assert_eq!(answer.status, 508, "{}", answer.text());
    let mut client = first.client().await;
    client
        .send("CONNECT a.test:443 HTTP/1.1\r\nHost: x\r\n\r\n")
        .await;
    let answer = client.answer().await;
    assert_eq!(answer.status, 502, "{}", answer.text());
    assert!(
        answer.text().contains("on the way there refuses: 502"),
        "{}",
        answer.text()
    );
    let line = first.lines("has come through this proxy", 2).await;
    assert!(line.len() < 10, "{line:?}");
}

#[tokio::test]
async fn proxies_are_told_of_those_before_them_and_origins_are_not() {
    let proxy = Origin::start(|request| vec![Act::ok(&request.head)]).await;
    let origin = Origin::start(|request| vec![Act::ok(&request.head)]).await;
    let asks = |to: SocketAddr| {
        format!(
            "GET http://{to}/ HTTP/1.1\r\nHost: x\r\nVia: 1.1 secret.corp, 1.1 ipreconnect-0a1b2c3d\r\n\r\n"
        )
    };
    let chained = through(vec![parent("proxy", proxy.address, Speaks::Http)]).await;
    let mut client = chained.client().await;
    client.send(asks(origin.address)).await;
    let told = client.answer().await.text().to_owned();
    assert!(
        told.contains("Via: 1.1 ipreconnect-0a1b2c3d, 1.1 ipreconnect-"),
        "{told}"
    );
    assert!(!told.contains("secret.corp"), "{told}");
    let direct = Stage::new(open()).await;
    let mut client = direct.client().await;
    client.send(asks(origin.address)).await;
    let told = client.answer().await.text().to_owned();
    assert!(!told.to_lowercase().contains("via"), "{told}");
}

#[tokio::test]
async fn one_that_does_not_know_us_is_passed_by_with_the_body() {
    let strict = Origin::start(|_| {
        vec![Act::say(
            "HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n",
        )]
    })
    .await;
    let origin = Origin::start(|request| vec![Act::ok(request.body.len().to_string())]).await;
    let ways = vec![
        parent("strict", strict.address, Speaks::Http),
        ForwardWay::Direct,
    ];
    let stage = through(ways).await;
    let mut client = stage.client().await;
    client
        .send(format!(
            "POST http://{}/ HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n12345",
            origin.address
        ))
        .await;
    assert_eq!(client.answer().await.text(), "5");
    tunnels(&stage, echo().await).await;
}

#[tokio::test]
async fn what_is_allowed_by_its_address_goes_by_no_other_proxy() {
    let parents = Origin::start(|_| vec![Act::ok("by proxy")]).await;
    let origin = Origin::start(|_| vec![Act::ok("direct")]).await;
    let by_address = || {
        let mut allow = Places::default();
        assert!(allow.add("127.0.0.0/8") && allow.add("named.test"));
        allow.finish();
        ForwardPolicy {
            allow: Some(allow),
            ..open()
        }
    };
    let port = origin.address.port();
    for (has_direct, wanted) in [(true, 200), (false, 403)] {
        let mut ways = vec![parent("parent", parents.address, Speaks::Http)];
        ways.extend(has_direct.then_some(ForwardWay::Direct));
        let stage = Stage::with(by_address(), |plan| {
            plan.via = vec![Via { to: None, ways }];
        })
        .await;
        stage.name("other.test", "127.0.0.1");
        let answer = get(&stage, format!("other.test:{port}")).await;
        assert_eq!(answer.status, wanted, "{}", answer.text());
        let answer = get(&stage, format!("named.test:{port}")).await;
        assert_eq!(answer.text(), "by proxy");
    }
}

#[tokio::test]
async fn what_a_proxy_says_of_a_tunnel_has_no_length() {
    // What stands in the head of such an answer means nothing (RFC 9110, section 9.3.6).
    for fields in ["Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n"] {
        let proxy = Origin::start(move |_| {
            let head = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
            vec![Act::say(head), Act::Echo]
        })
        .await;
        let stage = through(vec![parent("proxy", proxy.address, Speaks::Http)]).await;
        within(20, tunnels(&stage, "a.test:443")).await;
    }
}

#[tokio::test]
async fn garbage_for_an_answer_harms_nobody_else() {
    let origin = Origin::start(|request| match request.line() {
        line if line.contains("/chunks") => vec![
            Act::say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n"),
            Act::Close,
        ],
        line if line.contains("/both") => vec![Act::say(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
        )],
        line if line.contains("/noise") => vec![Act::say(b"HTTP/1.1 200 OK\r\n\0\xff: x\r\n\r\n".to_vec())],
        line if line.contains("/short") => {
            vec![Act::say("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"), Act::Close]
        }
        _ => vec![Act::ok("fine")],
    })
    .await;
    let stage = through(vec![parent("proxy", origin.address, Speaks::Http)]).await;
    for path in ["chunks", "both", "noise", "short"] {
        let mut client = stage.client().await;
        client
            .send(format!(
                "GET http://a.test/{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            ))
            .await;
        // Nothing that looks whole: an error of ours, or an answer that breaks off.
        let heard = String::from_utf8_lossy(&client.rest().await).into_owned();
        let is_whole = heard.contains("\r\n0\r\n\r\n") || heard.ends_with("fine");
        let is_error = heard.starts_with("HTTP/1.1 502 ");
        assert!(is_error || !is_whole, "{path}: {heard}");
        assert_eq!(get(&stage, "a.test").await.text(), "fine", "after {path}");
    }
}

#[tokio::test]
async fn a_proxy_that_is_this_one_itself_is_found() {
    for speaks in [Speaks::Http, Speaks::Socks5] {
        let mut stage = Stage::new(open()).await;
        let names = stage.names.clone();
        let own = parent("own", stage.scene.address, speaks);
        let to = echo().await;
        let plan = |ways| ForwardPlan {
            via: vec![Via { to: None, ways }],
            ..plan_of(open(), &names)
        };
        stage.scene.speak(plane(plan(vec![own.clone()])));
        let mut client = stage.client().await;
        client
            .send(format!("CONNECT {to} HTTP/1.1\r\nHost: x\r\n\r\n"))
            .await;
        let answer = client.answer().await;
        assert_eq!(answer.status, 508, "{}", answer.text());
        let wanted = "the proxy own on the way there is this proxy itself";
        assert!(answer.text().contains(wanted), "{}", answer.text());
        // Another way is taken all the same.
        stage
            .scene
            .speak(plane(plan(vec![own, ForwardWay::Direct])));
        tunnels(&stage, to).await;
    }
}

#[tokio::test]
async fn who_asks_why_is_told_by_which_way() {
    let parents = Stage::new(open()).await;
    let ways = |has_direct: bool| {
        let mut ways = vec![parent("parent", parents.scene.address, Speaks::Http)];
        ways.extend(has_direct.then_some(ForwardWay::Direct));
        ways
    };
    let mut by_address = Places::default();
    assert!(by_address.add("127.0.0.0/8"));
    by_address.finish();
    let by_address = ForwardPolicy {
        allow: Some(by_address),
        ..open()
    };
    for (policy, has_direct, is_open, proxies, addresses) in [
        // Only the proxy can look it up, and it is not asked here.
        (open(), false, true, 1, 0),
        (open(), true, true, 1, 0),
        // What is allowed by its address alone goes by no proxy.
        (by_address.clone(), false, false, 0, 0),
        (by_address, true, false, 0, 0),
    ] {
        let stage = Stage::with(policy, |plan| {
            plan.via = vec![Via {
                to: None,
                ways: ways(has_direct),
            }];
        })
        .await;
        let directions = stage.scene.gateway.directions("test").unwrap();
        let told = directions.explain("nowhere.test").await.unwrap();
        assert_eq!(told.is_open(), is_open, "{told:?}");
        assert_eq!(
            (told.proxies.len(), told.addresses.len()),
            (proxies, addresses),
            "{told:?}"
        );
        assert_eq!(stage.zone.asked_at_all() > 0, has_direct, "{told:?}");
    }
}
