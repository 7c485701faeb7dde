//! Checks that ask an endpoint how it is.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ipreconnect::core::failure::{Cause, Layer};
use ipreconnect::core::origin::{Check, Health};
use ipreconnect::core::question::{HttpQuestion, Question, Words};
use ipreconnect::{Origin, Status};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::scene::{settings, until, with, within};

/// A server that answers each check by a status; 0 is none.
struct Server {
    address: SocketAddr,
    status: Arc<AtomicU16>,
    asked: Arc<Mutex<Vec<String>>>,
    /// Connections that were reset, and not closed.
    resets: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let status = Arc::new(AtomicU16::new(200));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let resets = Arc::new(AtomicUsize::new(0));
        let state = (Arc::clone(&status), Arc::clone(&asked), Arc::clone(&resets));
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (status, asked, resets) = state.clone();
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        match stream.read_u8().await {
                            Ok(byte) => head.push(byte),
                            Err(_) => return,
                        }
                    }
                    asked.lock().unwrap().push(String::from_utf8(head).unwrap());
                    let status = status.load(SeqCst);
                    if status == 0 {
                        std::future::pending::<()>().await;
                    }
                    let body = "x".repeat(10_000);
                    let answer = format!(
                        "HTTP/1.1 {status} X\r\nContent-Length: 10000\r\nConnection: close\r\n\r\n{body}"
                    );
                    stream.write_all(answer.as_bytes()).await.unwrap();
                    stream.shutdown().await.unwrap();
                    if stream.read_u8().await.unwrap_err().kind()
                        != std::io::ErrorKind::UnexpectedEof
                    {
                        resets.fetch_add(1, SeqCst);
                    }
                });
            }
        });
        Self {
            address,
            status,
            asked,
            resets,
            task,
        }
    }

    fn says(&self, status: u16) {
        self.status.store(status, SeqCst);
    }
}

fn page(is_h2: bool) -> Question {
    Question::Http(Arc::new(HttpQuestion {
        path: "/healthz?deep".into(),
        host: Some("shop".into()),
        good: "200-399".parse().unwrap(),
        is_h2,
    }))
}

fn words(send: &[u8], expect: &[u8]) -> Question {
    Question::Words(Arc::new(Words {
        send: send.into(),
        expect: expect.into(),
    }))
}

fn asked(addresses: &[SocketAddr], question: Question) -> Origin {
    let mut settings = settings(addresses);
    settings.supervisor.check = Check::Question(question);
    settings.supervisor.interval = Duration::from_millis(50);
    with(settings)
}

async fn see(origin: &Origin, is_seen: impl FnMut(&Status) -> bool) -> Status {
    within(20, origin.watch(is_seen)).await.unwrap()
}

fn is(status: &Status, endpoint: usize, health: Health) -> bool {
    let endpoint = status.endpoints.get(endpoint);
    endpoint.is_some_and(|endpoint| endpoint.health == health)
}

fn all_up(status: &Status) -> bool {
    !status.endpoints.is_empty() && status.endpoints.iter().all(|e| e.health == Health::Up)
}

#[tokio::test]
async fn a_server_that_answers_badly_is_down_and_told_why() {
    let (blue, green) = (Server::start().await, Server::start().await);
    let origin = asked(&[blue.address, green.address], page(false));
    see(&origin, all_up).await;
    let head = blue.asked.lock().unwrap()[0].clone();
    assert!(head.starts_with("GET /healthz?deep HTTP/1.1\r\nHost: shop\r\n"));
    let agent = concat!(
        "\r\nUser-Agent: ipreconnect/",
        env!("CARGO_PKG_VERSION"),
        " health\r\n"
    );
    assert!(head.contains(agent), "{head}");

    blue.says(503);
    let status = see(&origin, |s| is(s, 0, Health::Down)).await;
    let failure = status.endpoints[0].failure.clone().unwrap();
    assert_eq!(
        (failure.cause, failure.layer()),
        (Cause::Unhealthy, Layer::Application)
    );
    assert_eq!(
        failure.to_string(),
        "the health check was answered with 503"
    );
    let link = within(10, origin.connect()).await.unwrap();
    assert_eq!(link.address().to_string(), green.address.to_string());

    // It answers, and not in time.
    green.says(0);
    let status = see(&origin, |s| is(s, 1, Health::Down)).await;
    let told = status.endpoints[1].failure.clone().unwrap().to_string();
    assert_eq!(told, "the health check was not answered within 500ms");

    blue.says(204);
    see(&origin, |s| is(s, 0, Health::Up)).await;
    assert_eq!(blue.resets.load(SeqCst), 0);
}

#[tokio::test]
async fn one_bad_answer_is_no_proof() {
    let blue = Server::start().await;
    let mut settings = settings(&[blue.address]);
    settings.supervisor.check = Check::Question(page(false));
    settings.supervisor.interval = Duration::from_millis(50);
    settings.supervisor.thresholds.down_after = 1000;
    let origin = with(settings);
    see(&origin, all_up).await;
    blue.says(500);
    see(&origin, |s| is(s, 0, Health::Suspect)).await;
    // That it can be connected to takes nothing back.
    within(10, origin.connect()).await.unwrap();
    let asked = blue.asked.lock().unwrap().len();
    until("it was asked again", || {
        blue.asked.lock().unwrap().len() >= asked + 2
    })
    .await;
    assert_eq!(origin.status().endpoints[0].health, Health::Suspect);
    blue.says(200);
    see(&origin, all_up).await;
}

#[tokio::test]
async fn a_server_of_http2_is_asked_in_http2() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let status = Arc::new(AtomicU16::new(200));
    let (seen, says) = (Arc::new(Mutex::new(Vec::new())), Arc::clone(&status));
    let asked_for = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (seen, says) = (Arc::clone(&seen), Arc::clone(&says));
            tokio::spawn(async move {
                let Ok(mut connection) = h2::server::handshake(stream).await else {
                    return;
                };
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    seen.lock().unwrap().push(format!(
                        "{} {} {:?}",
                        request.method(),
                        request.uri(),
                        request.headers()["user-agent"]
                    ));
                    let answer = http::Response::builder().status(says.load(SeqCst));
                    respond
                        .send_response(answer.body(()).unwrap(), true)
                        .unwrap();
                }
            });
        }
    });
    let origin = asked(&[address], page(true));
    see(&origin, Status::is_up).await;
    let first = asked_for.lock().unwrap()[0].clone();
    assert!(
        first.starts_with("GET http://shop/healthz?deep \"ipreconnect/"),
        "{first}"
    );
    status.store(500, SeqCst);
    let down = see(&origin, |s| is(s, 0, Health::Down)).await;
    let told = down.endpoints[0].failure.clone().unwrap().to_string();
    assert_eq!(told, "the health check was answered with 500");
    status.store(301, SeqCst);
    see(&origin, Status::is_up).await;
}

#[tokio::test]
async fn a_server_that_speaks_http1_does_not_pass_for_one_of_http2() {
    let blue = Server::start().await;
    let origin = asked(&[blue.address], page(true));
    let down = see(&origin, |s| is(s, 0, Health::Down)).await;
    let failure = down.endpoints[0].failure.clone().unwrap();
    assert_eq!(failure.cause, Cause::Unhealthy, "{failure}");
}

/// A server that says `first` to everybody, and `answer` to who says something.
async fn speaker(first: &'static [u8], answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                stream.write_all(first).await.ok();
                let mut piece = [0; 64];
                while let Ok(1..) = stream.read(&mut piece).await {
                    for byte in answer {
                        stream.write_u8(*byte).await.ok();
                    }
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn any_protocol_can_be_asked_in_its_own_words() {
    let redis = asked(
        &[speaker(b"", b"+PONG\r\n").await],
        words(b"PING\r\n", b"+PONG"),
    );
    see(&redis, Status::is_up).await;
    let mail = asked(
        &[speaker(b"220 mail ready\r\n", b"").await],
        words(b"", b"220 "),
    );
    see(&mail, Status::is_up).await;
    for (answer, told) in [
        (
            &b"-LOADING\r\n"[..],
            "the health check was answered with \"-LOADING\\r\\n\"",
        ),
        (b"+PO", "the health check was not answered within 500ms"),
    ] {
        let server = speaker(b"", Box::leak(answer.into())).await;
        let origin = asked(&[server], words(b"PING\r\n", b"+PONG"));
        let down = see(&origin, |s| is(s, 0, Health::Down)).await;
        // An answer may be told by its first byte.
        let failure = down.endpoints[0].failure.clone().unwrap().to_string();
        let begins = told.split("LOADING").next().unwrap();
        assert!(failure.starts_with(begins), "{failure}");
    }
}
