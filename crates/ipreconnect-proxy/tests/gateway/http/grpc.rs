//! gRPC as its library speaks it, on both sides of the gateway.

mod server;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use bytes::Bytes;
use futures_util::{Stream, stream};
use http::uri::PathAndQuery;
use tokio::sync::mpsc;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};

use super::frames::{END_HEADERS, END_STREAM, HEADERS, Peer, RESET, asked, frame};
use super::*;
use crate::scene::until;
use server::{LONGEST, Raw, Server};

type Talker = tonic::client::Grpc<Channel>;

fn plan_h2() -> HttpPlan {
    let mut plan = plan();
    plan.settings.as_mut().unwrap().is_h2 = true;
    plan
}

/// The first one is preferred. One worker, so that its clients share what it has.
async fn scene_h2(servers: &[&Server]) -> Scene {
    let addresses: Vec<SocketAddr> = servers.iter().map(|server| server.address).collect();
    let mut settings = settings(&addresses);
    settings.hold.patience = 100 * MILLISECOND;
    scene_of(1, settings, plan_h2()).await
}

async fn talker(scene: &Scene) -> Talker {
    let endpoint = Endpoint::from_shared(format!("http://{}", scene.address)).unwrap();
    Talker::new(endpoint.connect().await.unwrap())
        .max_decoding_message_size(LONGEST)
        .max_encoding_message_size(LONGEST)
}

async fn once(
    talker: &mut Talker,
    request: Request<impl Into<Bytes>>,
) -> Result<Response<Bytes>, Status> {
    talker.ready().await.unwrap();
    let path = PathAndQuery::from_static("/talk/Once");
    within(20, talker.unary(request.map(Into::into), path, Raw)).await
}

/// Messages that a test sends one by one.
fn spoken() -> (
    mpsc::UnboundedSender<Bytes>,
    impl Stream<Item = Bytes> + Send + 'static,
) {
    let (say, mut said) = mpsc::unbounded_channel();
    (say, stream::poll_fn(move |cx| said.poll_recv(cx)))
}

#[tokio::test]
async fn calls_pass_with_metadata_both_ways() {
    let server = Server::start();
    let scene = scene_h2(&[&server]).await;
    let mut talker = talker(&scene).await;
    let mut request = Request::new("hello");
    let metadata = request.metadata_mut();
    metadata.insert("x-plain", "a, b".parse().unwrap());
    metadata.insert_bin("x-bin", MetadataValue::from_bytes(&[0, 1, 255]));
    metadata.append_bin("x-bin", MetadataValue::from_bytes(b"more"));
    request.set_timeout(std::time::Duration::from_secs(1234));
    let response = once(&mut talker, request).await.unwrap();
    assert_eq!(response.get_ref(), "hello");
    let metadata = response.metadata();
    assert_eq!(metadata.get("x-plain").unwrap(), "a, b");
    let binary = metadata.get_all_bin("x-bin").iter();
    let binary: Vec<Bytes> = binary.map(|one| one.to_bytes().unwrap()).collect();
    assert_eq!(binary, [&[0, 1, 255][..], b"more"]);
    assert_eq!(metadata.get("grpc-timeout").unwrap(), "1234000m");
}

#[tokio::test]
async fn streams_pass_in_each_direction() {
    let server = Server::start();
    let scene = scene_h2(&[&server]).await;
    let mut talker = talker(&scene).await;

    talker.ready().await.unwrap();
    let path = PathAndQuery::from_static("/talk/Many");
    let asked = talker.server_streaming(Request::new(Bytes::from("1000")), path, Raw);
    let mut messages = within(10, asked).await.unwrap().into_inner();
    for number in 0..1000 {
        let message = within(10, messages.message()).await.unwrap();
        assert_eq!(message.unwrap(), number.to_string());
    }
    assert_eq!(within(10, messages.message()).await.unwrap(), None);
    assert!(within(10, messages.trailers()).await.unwrap().is_some());

    talker.ready().await.unwrap();
    let path = PathAndQuery::from_static("/talk/Sum");
    let parts = stream::iter((0..1000).map(|_| Bytes::from_static(&[7; 1000])));
    let summed = within(10, talker.client_streaming(Request::new(parts), path, Raw)).await;
    assert_eq!(summed.unwrap().into_inner(), "1000000");
}

#[tokio::test]
async fn each_message_of_a_conversation_passes_at_once() {
    let server = Server::start();
    let scene = scene_h2(&[&server]).await;
    let mut talker = talker(&scene).await;
    talker.ready().await.unwrap();
    let (say, said) = spoken();
    let path = PathAndQuery::from_static("/talk/Both");
    // The answer begins before anything was said.
    let answer = within(10, talker.streaming(Request::new(said), path, Raw)).await;
    let mut answers = answer.unwrap().into_inner();
    for number in 0..100 {
        say.send(number.to_string().into()).unwrap();
        let message = within(10, answers.message()).await.unwrap();
        assert_eq!(message.unwrap(), number.to_string());
    }
    drop(say);
    assert_eq!(within(10, answers.message()).await.unwrap(), None);
}

#[tokio::test]
async fn a_pause_in_a_conversation_is_no_stall() {
    let server = Server::start();
    let mut plan = plan_h2();
    plan.limits.stall = 100 * MILLISECOND;
    let scene = scene_of(1, settings(&[server.address]), plan).await;
    let mut talker = talker(&scene).await;
    talker.ready().await.unwrap();
    let (say, said) = spoken();
    let path = PathAndQuery::from_static("/talk/Both");
    let answer = within(10, talker.streaming(Request::new(said), path, Raw)).await;
    let mut answers = answer.unwrap().into_inner();
    for word in ["before", "after"] {
        // It is the length of the pause that matters.
        tokio::time::sleep(300 * MILLISECOND).await;
        say.send(word.into()).unwrap();
        let message = within(10, answers.message()).await.unwrap();
        assert_eq!(message.unwrap(), word);
    }
}

#[tokio::test]
async fn errors_pass_with_all_that_belongs_to_them() {
    let server = Server::start();
    let scene = scene_h2(&[&server]).await;
    let mut talker = talker(&scene).await;
    let status = once(&mut talker, Request::new("fail")).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert_eq!(status.message(), "100 % wrong: \u{e4}\n");
    assert_eq!(status.details(), b"details");
    let why = status.metadata().get_bin("why-bin").unwrap();
    assert_eq!(why.to_bytes().unwrap(), &[0, 255, 7][..]);

    talker.ready().await.unwrap();
    let path = PathAndQuery::from_static("/talk/Nothing");
    let asked = talker.unary::<_, Bytes, _>(Request::new(Bytes::new()), path, Raw);
    let status = within(10, asked).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
}

/// Some clients take a head with a status for one only where the stream ends with it.
#[tokio::test]
async fn an_answer_that_is_only_trailers_ends_with_its_head() {
    let server = Server::start();
    let scene = scene_h2(&[&server]).await;
    let mut peer = Peer::new(&scene).await;
    let asked = asked("/talk/Nothing");
    peer.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, &asked))
        .await;
    let head = peer.next().await.unwrap();
    assert_eq!((head.kind, head.stream), (HEADERS, 1));
    assert_eq!(head.flags & END_STREAM, END_STREAM);
}

#[tokio::test]
async fn a_server_that_ends_a_call_early_is_heard() {
    let server = Server::start();
    let scene = scene_h2(&[&server]).await;
    for _ in 0..20 {
        let mut talker = talker(&scene).await;
        talker.ready().await.unwrap();
        let (say, said) = spoken();
        say.send("fail".into()).unwrap();
        for _ in 0..100 {
            say.send(vec![7; 10_000].into()).unwrap();
        }
        let path = PathAndQuery::from_static("/talk/Sum");
        let asked = talker.client_streaming::<_, _, Bytes, _>(Request::new(said), path, Raw);
        let status = within(10, asked).await.unwrap_err();
        assert_eq!(
            (status.code(), status.message()),
            (Code::ResourceExhausted, "no more")
        );
    }
}

#[tokio::test]
async fn long_messages_pass_whole() {
    let server = Server::start();
    let scene = scene_h2(&[&server]).await;
    let mut talker = talker(&scene).await;
    let long: Bytes = (0..5_000_000u32).map(|at| (at % 251) as u8).collect();
    let response = once(&mut talker, Request::new(long.clone())).await.unwrap();
    assert!(response.into_inner() == long);
}

#[tokio::test]
async fn what_a_client_gives_up_is_given_up_at_the_server() {
    let server = Server::start();
    let scene = scene_h2(&[&server]).await;
    let mut talker = talker(&scene).await;
    let open = || server.seen.open.load(SeqCst);

    // By its deadline.
    let mut request = Request::new("wait");
    request.set_timeout(300 * MILLISECOND);
    let status = once(&mut talker, request).await.unwrap_err();
    let codes = [Code::Cancelled, Code::DeadlineExceeded];
    assert!(codes.contains(&status.code()), "{status}");
    until("the call has ended", || open() == 0).await;

    // Before the answer.
    let mut other = talker.clone();
    let call = tokio::spawn(async move { once(&mut other, Request::new("wait")).await });
    until("the call is there", || open() == 1).await;
    call.abort();
    until("the call has ended", || open() == 0).await;

    // In the middle of a conversation, of which both directions are open.
    let mut peer = Peer::new(&scene).await;
    peer.send(frame(HEADERS, END_HEADERS, 1, &asked("/talk/Both")))
        .await;
    assert_eq!(peer.next().await.unwrap().kind, HEADERS);
    assert_eq!(open(), 1);
    peer.send(frame(RESET, 0, 1, &8u32.to_be_bytes())).await;
    until("the conversation has ended", || open() == 0).await;
    assert_eq!(
        once(&mut talker, Request::new("next"))
            .await
            .unwrap()
            .into_inner(),
        "next"
    );
}

#[tokio::test]
async fn a_hundred_calls_share_a_connection() {
    let server = Server::start();
    let scene = scene_h2(&[&server]).await;
    let talker = talker(&scene).await;
    let calls = (0..100).map(|number: u32| {
        let mut talker = talker.clone();
        async move {
            for round in 0..10 {
                let text = format!("{number} {round}");
                let response = once(&mut talker, Request::new(text.clone())).await.unwrap();
                assert_eq!(response.into_inner(), text);
            }
        }
    });
    within(20, futures_util::future::join_all(calls)).await;
    assert!(scene.origin.status().endpoints[0].open <= 1);
}

/// Calls from twenty sides until told to end: those that failed, by their message, and how.
async fn load(talker: &Talker, ends: &Arc<AtomicBool>) -> Vec<(String, Status)> {
    let callers = (0..20).map(|caller| {
        let (mut talker, ends) = (talker.clone(), Arc::clone(ends));
        tokio::spawn(async move {
            let mut failed = Vec::new();
            for number in 0.. {
                if ends.load(SeqCst) {
                    break;
                }
                let text = format!("{caller} {number}");
                match once(&mut talker, Request::new(text.clone())).await {
                    Ok(response) => assert_eq!(response.into_inner(), text),
                    Err(status) => failed.push((text, status)),
                }
            }
            failed
        })
    });
    let failed = futures_util::future::join_all(callers).await;
    failed.into_iter().flat_map(Result::unwrap).collect()
}

/// Waits until this server has had so many more calls.
async fn busy(server: &Server, more: usize) {
    let calls = || server.seen.calls.lock().unwrap().len();
    let wanted = calls() + more;
    until("there is load", || calls() >= wanted).await;
}

#[tokio::test]
async fn a_server_that_stops_in_order_loses_no_call() {
    let (mut first, second) = (Server::start(), Server::start());
    let scene = scene_h2(&[&first, &second]).await;
    let talker = talker(&scene).await;
    let ends = Arc::new(AtomicBool::new(false));
    let (failed, ()) = tokio::join!(load(&talker, &ends), async {
        busy(&first, 500).await;
        first.stop();
        busy(&second, 500).await;
        ends.store(true, SeqCst);
    });
    assert!(failed.is_empty(), "{failed:?}");
    let calls = [&first, &second].map(|server| server.seen.calls.lock().unwrap().clone());
    let calls = calls.concat();
    let different: BTreeSet<&Bytes> = calls.iter().collect();
    assert_eq!(different.len(), calls.len(), "nothing is carried out twice");
}

#[tokio::test]
async fn a_server_that_is_killed_loses_calls_and_nobody_lies_about_them() {
    let (mut first, second) = (Server::start(), Server::start());
    let scene = scene_h2(&[&first, &second]).await;
    let talker = talker(&scene).await;
    let ends = Arc::new(AtomicBool::new(false));
    let (failed, ()) = tokio::join!(load(&talker, &ends), async {
        busy(&first, 500).await;
        first.kill();
        busy(&second, 500).await;
        ends.store(true, SeqCst);
    });
    let calls = [&first, &second].map(|server| server.seen.calls.lock().unwrap().clone());
    let calls = calls.concat();
    let different: BTreeSet<&Bytes> = calls.iter().collect();
    assert_eq!(different.len(), calls.len(), "nothing is carried out twice");
    for (message, status) in failed {
        match status.code() {
            // It may be tried again: then it was not carried out.
            Code::Unavailable => assert!(!different.contains(&Bytes::from(message))),
            Code::Unknown => assert!(status.message().contains("Nobody knows"), "{status}"),
            _ => panic!("{status}"),
        }
    }
}

#[tokio::test]
async fn a_server_that_is_killed_in_a_stream_does_not_end_it() {
    let mut server = Server::start();
    let scene = scene_h2(&[&server]).await;
    let mut talker = talker(&scene).await;
    talker.ready().await.unwrap();
    let (say, said) = spoken();
    say.send("hello".into()).unwrap();
    let path = PathAndQuery::from_static("/talk/Both");
    let answer = within(
        10,
        talker.streaming::<_, _, Bytes, _>(Request::new(said), path, Raw),
    )
    .await;
    let mut answers = answer.unwrap().into_inner();
    assert_eq!(
        within(10, answers.message()).await.unwrap().unwrap(),
        "hello"
    );
    server.kill();
    let status = within(10, answers.message()).await.unwrap_err();
    assert_ne!(status.code(), Code::Ok, "{status}");
}

#[tokio::test]
async fn our_own_answers_are_such_as_clients_of_grpc_understand() {
    let mut server = Server::start();
    let scene = scene_h2(&[&server]).await;
    let mut talker = talker(&scene).await;
    once(&mut talker, Request::new("before")).await.unwrap();
    server.kill();
    let status = once(&mut talker, Request::new("after")).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("cannot be reached"), "{status}");
    let told = status.metadata().get("proxy-status").unwrap();
    assert_eq!(told, "ipreconnect; error=destination_unavailable");

    for kind in ["application/grpc", "application/grpc-web+proto"] {
        let mut client = Client::new(&scene).await;
        for _ in 0..2 {
            let head = "POST /talk/Once HTTP/1.1\r\nHost: a\r\nContent-Length: 5";
            client
                .send(format!("{head}\r\nContent-Type: {kind}\r\n\r\n\0\0\0\0\0"))
                .await;
            let answer = client.answer().await;
            assert_eq!((answer.status, answer.text()), (200, ""));
            assert_eq!(answer.field("Content-Type"), Some(kind));
            assert_eq!(answer.field("Grpc-Status"), Some("14"));
        }
    }
    let mut client = Client::new(&scene).await;
    let answer = client.post("/talk/Once", "{}").await;
    assert_eq!((answer.status, answer.field("Grpc-Status")), (503, None));
}
