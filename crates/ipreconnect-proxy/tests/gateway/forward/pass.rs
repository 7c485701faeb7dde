//! What gets through, and what of it.

use ipreconnect_proxy::{Cache, CacheSettings, Headers};

use super::{Stage, echo, echoes, open, plan_of, plane};
use crate::http::{Act, Origin};

/// An origin that says what it was asked.
async fn mirror() -> Origin {
    Origin::start(|request| vec![Act::ok(&request.head)]).await
}

#[tokio::test]
async fn a_request_goes_where_it_says_and_says_nothing_of_the_client() {
    let stage = Stage::new(open()).await;
    let origin = mirror().await;
    stage.name("web.test", "127.0.0.1");
    let port = origin.address.port();
    let mut client = stage.client().await;
    client
        .send(format!(
            "GET http://Web.Test:{port}/a?b=c%zz HTTP/1.1\r\nHost: other\r\nProxy-Authorization: Basic YTpi\r\nProxy-Connection: keep-alive\r\nAuthorization: Basic Yzpk\r\nVia: 1.1 before\r\nX-Forwarded-For: 10.9.8.7\r\nForwarded: for=10.9.8.7\r\nX-Real-IP: 10.9.8.7\r\nCookie: a=b\r\nConnection: keep-alive, x-hop\r\nX-Hop: 1\r\nTE: trailers\r\n\r\n"
        ))
        .await;
    let answer = client.answer().await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.text(),
        format!(
            "GET /a?b=c%zz HTTP/1.1\r\nHost: web.test:{port}\r\nAuthorization: Basic Yzpk\r\nCookie: a=b\r\n\r\n"
        )
    );
    assert_eq!(answer.field("Via"), None);
    // The connection goes on, and so does the one to the origin.
    client
        .send(format!(
            "GET http://web.test:{port}?q HTTP/1.1\r\nHost: x\r\n\r\n"
        ))
        .await;
    assert!(
        client
            .answer()
            .await
            .text()
            .starts_with("GET /?q HTTP/1.1\r\n")
    );
    client
        .send(format!(
            "OPTIONS http://web.test:{port} HTTP/1.1\r\nHost: x\r\n\r\n"
        ))
        .await;
    assert!(
        client
            .answer()
            .await
            .text()
            .starts_with("OPTIONS * HTTP/1.1\r\n")
    );
    let connections: Vec<_> = origin.seen().iter().map(|one| one.connection).collect();
    assert_eq!(connections, [0, 0, 0]);
    let line = stage.line("zz").await;
    for wanted in [
        "\"method\":\"GET\"",
        "\"host\":\"Web.Test:",
        "\"target\":\"/a?b=c%zz\"",
        "\"status\":200",
        &format!("\"origin\":\"web.test:{port}\""),
        &format!("\"endpoint\":\"127.0.0.1:{port}\""),
        "\"dns_ms\":",
        "\"connect_ms\":",
        "\"first_byte_ms\":",
        "\"end\":\"----\"",
    ] {
        assert!(line.contains(wanted), "{wanted} in {line}");
    }
}

#[tokio::test]
async fn what_is_told_of_the_client_is_as_it_is_wanted() {
    let origin = mirror().await;
    let port = origin.address.port();
    let asks = format!(
        "GET http://127.0.0.1:{port}/ HTTP/1.1\r\nHost: x\r\nVia: 1.1 before\r\nX-Forwarded-For: 10.9.8.7\r\n\r\n"
    );
    let heard = async |headers| {
        let stage = Stage::with(open(), |plan| plan.headers = headers).await;
        let mut client = stage.client().await;
        client.send(&asks).await;
        let answer = client.answer().await;
        let via = answer.field("Via").map(str::to_owned);
        (answer.text().to_owned(), via)
    };
    let head = |more: &str| format!("GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{more}\r\n");
    let untouched = head("Via: 1.1 before\r\nX-Forwarded-For: 10.9.8.7\r\n");
    assert_eq!(heard(Headers::Untouched).await, (untouched, None));
    assert_eq!(heard(Headers::Hide).await, (head(""), None));
    let (told, via) = heard(Headers::Tell).await;
    let via = via.unwrap();
    assert!(via.starts_with("1.1 ipreconnect-"), "{via}");
    let more = format!(
        "Via: 1.1 before\r\nX-Forwarded-For: 10.9.8.7\r\nX-Forwarded-For: 127.0.0.1\r\nForwarded: for=127.0.0.1\r\nVia: {via}\r\n"
    );
    assert_eq!(told, head(&more));
}

#[tokio::test]
async fn answers_pass_as_they_are() {
    let stage = Stage::new(open()).await;
    let origin = Origin::start(|request| {
        let port = request.field("host").unwrap().rsplit(':').next().unwrap().to_owned();
        vec![Act::say(format!(
            "HTTP/1.1 302 Found\r\nServer: its/own\r\nLocation: http://127.0.0.1:{port}/there\r\nContent-Length: 0\r\n\r\n"
        ))]
    })
    .await;
    stage.name("web.test", "127.0.0.1");
    let port = origin.address.port();
    let mut client = stage.client().await;
    client
        .send(format!(
            "GET http://web.test:{port}/ HTTP/1.1\r\nHost: x\r\n\r\n"
        ))
        .await;
    let answer = client.answer().await;
    assert_eq!(answer.field("Server"), Some("its/own"));
    let there = format!("http://127.0.0.1:{port}/there");
    assert_eq!(answer.field("Location"), Some(there.as_str()));
}

#[tokio::test]
async fn where_an_answer_leads_is_judged_when_it_is_asked_for() {
    let mut policy = open();
    assert!(policy.block.add("127.0.0.2"));
    policy.block.finish();
    let stage = Stage::new(policy).await;
    let leads = ["http://169.254.169.254/latest", "http://127.0.0.2/"];
    let origin = Origin::start(move |request| {
        let to = leads[usize::from(request.line().contains("/1"))];
        vec![Act::say(format!(
            "HTTP/1.1 307 Elsewhere\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n"
        ))]
    })
    .await;
    let mut client = stage.client().await;
    for number in 0..2 {
        client
            .send(format!(
                "GET http://{}/{number} HTTP/1.1\r\nHost: x\r\n\r\n",
                origin.address
            ))
            .await;
        let answer = client.answer().await;
        assert_eq!(answer.status, 307);
        let to = answer.field("Location").unwrap();
        client
            .send(format!("GET {to} HTTP/1.1\r\nHost: x\r\n\r\n"))
            .await;
        assert_eq!(client.answer().await.status, 403, "{to}");
    }
}

#[tokio::test]
async fn a_tunnel_carries_everything_both_ways() {
    let stage = Stage::new(open()).await;
    let to = echo().await;
    stage.name("echo.test", "127.0.0.1");
    let mut client = stage.client().await;
    let port = to.port();
    client
        .send(format!(
            "CONNECT echo.test:{port} HTTP/1.1\r\nHost: echo.test:{port}\r\n\r\n"
        ))
        .await;
    let (status, head) = client.head().await;
    assert_eq!(status, 200);
    assert!(!head.to_lowercase().contains("content-length"), "{head}");
    echoes(client.stream()).await;
    let line = stage.line("CONNECT").await;
    for wanted in [
        &format!("\"target\":\"echo.test:{port}\""),
        &format!("\"endpoint\":\"127.0.0.1:{port}\""),
        "\"status\":200",
        "\"bytes_out\":100004",
        "\"dns_ms\":",
        "\"first_byte_ms\":",
        "\"end\":\"----\"",
    ] {
        assert!(line.contains(wanted), "{wanted} in {line}");
    }
}

#[tokio::test]
async fn what_is_said_before_a_tunnel_is_open_is_not_lost() {
    let stage = Stage::new(open()).await;
    let to = echo().await;
    let mut client = stage.client().await;
    client
        .send(format!("CONNECT {to} HTTP/1.0\r\n\r\nearly"))
        .await;
    assert_eq!(client.head().await.0, 200);
    assert_eq!(client.bytes().await, b"early");
}

#[tokio::test]
async fn answers_are_kept_where_they_may_be() {
    let origin = Origin::start(|_| {
        vec![Act::say(
            "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 4\r\n\r\nkept",
        )]
    })
    .await;
    let stage = Stage::with(open(), |plan| {
        plan.cache = Some(Cache::new(CacheSettings::default()));
    })
    .await;
    stage.name("web.test", "127.0.0.1");
    stage.name("other.test", "127.0.0.1");
    let port = origin.address.port();
    let mut client = stage.client().await;
    for (host, wanted) in [
        ("web", 1),
        ("web", 1),
        ("WEB", 1),
        ("other", 2),
        ("other", 2),
    ] {
        client
            .send(format!(
                "GET http://{host}.test:{port}/ HTTP/1.1\r\nHost: x\r\n\r\n"
            ))
            .await;
        assert_eq!(client.answer().await.text(), "kept");
        assert_eq!(origin.seen().len(), wanted, "{host}");
    }
}

#[tokio::test]
async fn browsers_are_told_of_it() {
    let stage = Stage::with(open(), |plan| plan.pac = Some("/proxy.pac".into())).await;
    let mut client = stage.client().await;
    client
        .send("GET /proxy.pac?x HTTP/1.1\r\nHost: proxy.test:3128\r\n\r\n")
        .await;
    let answer = client.answer().await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.field("Content-Type"),
        Some("application/x-ns-proxy-autoconfig")
    );
    let wanted = "return \"PROXY proxy.test:3128; SOCKS5 proxy.test:3128\";";
    assert!(answer.text().contains(wanted), "{}", answer.text());
    client
        .send("GET /other HTTP/1.1\r\nHost: proxy.test:3128\r\n\r\n")
        .await;
    assert_eq!(client.answer().await.status, 400);
}

#[tokio::test]
async fn other_rules_hold_for_the_next_request() {
    let mut stage = Stage::new(open()).await;
    let origin = mirror().await;
    let asks = format!(
        "GET http://127.0.0.1:{}/ HTTP/1.1\r\nHost: x\r\n\r\n",
        origin.address.port()
    );
    let mut client = stage.client().await;
    client.send(&asks).await;
    assert_eq!(client.answer().await.status, 200);
    let mut stricter = open();
    assert!(stricter.block.add("127.0.0.1"));
    stricter.block.finish();
    let names = stage.names.clone();
    stage.scene.speak(plane(plan_of(stricter, &names)));
    client.send(&asks).await;
    assert_eq!(client.answer().await.status, 403);
    stage.scene.speak(plane(plan_of(open(), &names)));
    client.send(&asks).await;
    assert_eq!(client.answer().await.status, 200);
}
