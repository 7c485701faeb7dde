//! Clients of HTTP/2 that break its rules, or keep them only to do harm: their stream or connection is
//! ended, nothing of it reaches the origin, and others are served.

use std::sync::Arc;

use tokio::io::AsyncWriteExt;

use super::frames::*;
use super::*;
use crate::scene::until;

const NO_ERROR: u32 = 0;
const PROTOCOL: u32 = 1;
const FLOW: u32 = 3;
const CLOSED: u32 = 5;
const SIZE: u32 = 6;
const COMPRESSION: u32 = 9;
const CALM: u32 = 11;

/// What the gateway makes of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// The connection is ended for this reason.
    Connection(u32),
    /// The stream is.
    Stream(u32),
    /// There is an answer.
    Answer,
    /// The connection is gone without a word, or with one that was lost with it.
    Gone,
}

async fn fate(peer: &mut Peer) -> Fate {
    loop {
        let Some(frame) = peer.next().await else {
            return Fate::Gone;
        };
        match frame.kind {
            GOAWAY if frame.number(4) != NO_ERROR => return Fate::Connection(frame.number(4)),
            RESET => return Fate::Stream(frame.number(0)),
            HEADERS => return Fate::Answer,
            _ => {}
        }
    }
}

/// Says the same again and again until there is an answer to it.
async fn flood(peer: &mut Peer, piece: &[u8]) -> Fate {
    let Peer { read, write } = peer;
    let flooding = async {
        while write.write_all(piece).await.is_ok() {}
        std::future::pending::<()>().await;
    };
    let listening = async {
        loop {
            match frames::read(read).await {
                None => return Fate::Gone,
                Some(frame) if frame.kind == GOAWAY && frame.number(4) != NO_ERROR => {
                    return Fate::Connection(frame.number(4));
                }
                Some(_) => {}
            }
        }
    };
    within(20, async {
        tokio::select! {
            () = flooding => unreachable!(),
            fate = listening => fate,
        }
    })
    .await
}

/// An origin that answers nothing but `/fine`.
async fn origin() -> Origin {
    Origin::start(|request| match request.line() {
        "GET /fine" => vec![Act::ok("fine")],
        _ => vec![Act::Wait(Arc::default())],
    })
    .await
}

/// Others are served, and nothing but these requests has reached the origin.
async fn all_is_well(scene: &Scene, origin: &Origin, reached: &[&str], case: &str) {
    let mut client = Client::new(scene).await;
    assert_eq!(client.get("/fine").await.text(), "fine", "{case}");
    let seen = origin.seen();
    let others = seen.iter().filter(|request| request.line() != "GET /fine");
    for request in others {
        assert!(reached.contains(&request.line()), "{case}: {request:?}");
    }
}

fn request(path: &str, flags: u8, stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | flags, stream, &asked(path))
}

/// A setting and its value.
fn setting(key: u8, value: u32) -> Vec<u8> {
    let payload = [&[0, key][..], &value.to_be_bytes()].concat();
    frame(SETTINGS, 0, 0, &payload)
}

fn window(stream: u32, more: u32) -> Vec<u8> {
    frame(WINDOW, 0, stream, &more.to_be_bytes())
}

#[tokio::test]
async fn whoever_breaks_the_rules_of_a_connection_is_sent_away() {
    let origin = origin().await;
    let scene = scene(&[origin.address]).await;
    let ends = request("/held", END_STREAM, 1);
    let goes_on = request("/held", 0, 1);
    let cases = [
        ("data for the connection", frame(DATA, 0, 0, b"x"), PROTOCOL),
        (
            "a head for the connection",
            request("/bad", END_STREAM, 0),
            PROTOCOL,
        ),
        (
            "a reset of the connection",
            frame(RESET, 0, 0, &[0; 4]),
            PROTOCOL,
        ),
        (
            "a priority of the connection",
            frame(PRIORITY, 0, 0, &[0; 5]),
            PROTOCOL,
        ),
        ("settings of a stream", frame(SETTINGS, 0, 1, &[]), PROTOCOL),
        ("a ping of a stream", frame(PING, 0, 1, &[0; 8]), PROTOCOL),
        (
            "a farewell of a stream",
            frame(GOAWAY, 0, 1, &[0; 8]),
            PROTOCOL,
        ),
        (
            "a continuation of nothing",
            frame(CONTINUATION, END_HEADERS, 1, &[]),
            PROTOCOL,
        ),
        (
            "a continuation of another stream",
            [
                frame(HEADERS, 0, 1, &asked("/bad")),
                frame(CONTINUATION, END_HEADERS, 3, &[]),
            ]
            .concat(),
            PROTOCOL,
        ),
        (
            "something amid a head",
            [
                frame(HEADERS, END_STREAM, 1, &asked("/bad")),
                frame(PING, 0, 0, &[0; 8]),
            ]
            .concat(),
            PROTOCOL,
        ),
        (
            "a stream of the gateway's",
            request("/bad", END_STREAM, 2),
            PROTOCOL,
        ),
        (
            "data for a stream that is not",
            frame(DATA, 0, 1, b"x"),
            PROTOCOL,
        ),
        (
            "a reset of a stream that is not",
            frame(RESET, 0, 1, &[0; 4]),
            PROTOCOL,
        ),
        ("a window of a stream that is not", window(1, 1), PROTOCOL),
        (
            "a stream that was passed over",
            [
                request("/held", END_STREAM, 3),
                request("/bad", END_STREAM, 1),
            ]
            .concat(),
            PROTOCOL,
        ),
        (
            "data behind the end",
            [ends.clone(), frame(DATA, 0, 1, b"x")].concat(),
            CLOSED,
        ),
        (
            "a head behind the end",
            [ends.clone(), request("/bad", END_STREAM, 1)].concat(),
            CLOSED,
        ),
        (
            "a frame that is too long",
            frame(DATA, 0, 1, &[0; 16_385]),
            SIZE,
        ),
        (
            "a setting that is cut off",
            frame(SETTINGS, 0, 0, &[0; 5]),
            SIZE,
        ),
        (
            "an acknowledgement that says more",
            frame(SETTINGS, ACK, 0, &[0; 6]),
            SIZE,
        ),
        ("a short ping", frame(PING, 0, 0, &[0; 7]), SIZE),
        (
            "a short reset",
            [ends.clone(), frame(RESET, 0, 1, &[0; 3])].concat(),
            SIZE,
        ),
        ("a short window", frame(WINDOW, 0, 0, &[0; 3]), SIZE),
        ("a window of nothing", window(0, 0), PROTOCOL),
        (
            "a window of nothing for a stream",
            [goes_on.clone(), window(1, 0)].concat(),
            PROTOCOL,
        ),
        ("a window beyond all", window(0, 0x7fff_ffff), FLOW),
        ("a push that is neither", setting(2, 2), PROTOCOL),
        ("a first window beyond all", setting(4, 0x8000_0000), FLOW),
        (
            "a first window that opens another one beyond all",
            [
                goes_on.clone(),
                window(1, 0x7fff_0000),
                setting(4, 0x7fff_ffff),
            ]
            .concat(),
            FLOW,
        ),
        ("frames that are too short", setting(5, 16_383), PROTOCOL),
        (
            "frames that are too long",
            setting(5, 0x0100_0000),
            PROTOCOL,
        ),
        (
            "a promise of the client",
            [goes_on.clone(), frame(PUSH, END_HEADERS, 1, &[0, 0, 0, 2])].concat(),
            PROTOCOL,
        ),
        (
            "a head that cannot be unpacked",
            frame(
                HEADERS,
                END_HEADERS | END_STREAM,
                1,
                &[0xff, 0xff, 0xff, 0xff, 0xff],
            ),
            COMPRESSION,
        ),
        (
            "an entry that is not",
            frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0xfe]),
            COMPRESSION,
        ),
        (
            "more padding than frame",
            [goes_on, frame(DATA, PADDED, 1, &[9, 0])].concat(),
            PROTOCOL,
        ),
    ];
    for (case, said, reason) in cases {
        let mut peer = Peer::new(&scene).await;
        peer.send(&said).await;
        let fate = fate(&mut peer).await;
        // The general reason may stand for a special one.
        let is_right = matches!(fate, Fate::Connection(told) if [reason, PROTOCOL].contains(&told));
        assert!(is_right, "{case}: {fate:?}");
        while peer.next().await.is_some() {}
        all_is_well(&scene, &origin, &["POST /held"], case).await;
    }
}

#[tokio::test]
async fn whoever_breaks_the_rules_of_a_stream_loses_that_and_no_other() {
    let origin = origin().await;
    let scene = scene(&[origin.address]).await;
    let goes_on = request("/held", 0, 1);
    let prior = [&1u32.to_be_bytes()[..], &[0], &asked("/bad")].concat();
    let flags = END_HEADERS | END_STREAM | PRIORITISED;
    for (case, said, reason) in [
        (
            "a window beyond all",
            [goes_on.clone(), window(1, 0x7fff_ffff)].concat(),
            FLOW,
        ),
        (
            "a stream that depends on itself",
            frame(HEADERS, flags, 1, &prior),
            PROTOCOL,
        ),
    ] {
        let mut peer = Peer::new(&scene).await;
        peer.send(&said).await;
        assert_eq!(fate(&mut peer).await, Fate::Stream(reason), "{case}");
        peer.send(request("/fine", END_STREAM, 3)).await;
        all_is_well(&scene, &origin, &["POST /held", "POST /fine"], case).await;
    }
}

const BAD: [(&str, &str); 4] = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/bad"),
    (":authority", "shop"),
];

#[tokio::test]
async fn heads_that_cannot_be_are_refused_and_the_connection_goes_on() {
    let origin = origin().await;
    let scene = scene(&[origin.address]).await;
    let with = |more: &[(&'static str, &'static str)]| [&BAD[..], more].concat();
    let without = |name: &str| {
        let rest = BAD.iter().filter(|field| field.0 != name);
        rest.copied().collect::<Vec<_>>()
    };
    let instead = |name: &str, value: &'static str| {
        let fields = BAD.iter().map(|field| match field.0 == name {
            true => (field.0, value),
            false => *field,
        });
        fields.collect::<Vec<_>>()
    };
    for head in [
        with(&[("Upper", "x")]),
        with(&[("connection", "close")]),
        with(&[("connection", "x"), ("x", "y")]),
        with(&[("keep-alive", "timeout=5")]),
        with(&[("proxy-connection", "close")]),
        with(&[("transfer-encoding", "chunked")]),
        with(&[("upgrade", "h2c")]),
        with(&[("te", "gzip")]),
        with(&[("a b", "x")]),
        with(&[("", "x")]),
        with(&[("x", "a\r\nb: c")]),
        with(&[("x", "a\0b")]),
        with(&[("x", "a\nb")]),
        with(&[("host", "other")]),
        with(&[("content-length", "x")]),
        with(&[("content-length", "-1")]),
        with(&[("content-length", "1"), ("content-length", "2")]),
        with(&[(":method", "GET")]),
        with(&[(":path", "/")]),
        with(&[(":scheme", "http")]),
        with(&[(":authority", "shop")]),
        with(&[("x", "y"), (":authority", "shop")]),
        with(&[(":status", "200")]),
        with(&[(":unknown", "x")]),
        without(":method"),
        without(":scheme"),
        without(":path"),
        instead(":path", ""),
        instead(":path", "bad"),
        instead(":path", "/a b"),
        instead(":path", "/a\r\nb"),
        instead(":method", "GE T"),
        instead(":method", "TRACE"),
        instead(":method", "CONNECT"),
        instead(":authority", "a b"),
        instead(":authority", "user@shop"),
        vec![(":method", "CONNECT"), (":authority", "shop:443")],
    ] {
        let mut peer = Peer::new(&scene).await;
        let packed = fields(head.iter().copied());
        peer.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, &packed))
            .await;
        let case = format!("{head:?}");
        match fate(&mut peer).await {
            // What is wrong with a stream may be taken for wrong with the connection (RFC 9113, section 5.4).
            Fate::Connection(PROTOCOL) => {}
            Fate::Stream(PROTOCOL) | Fate::Answer => {
                let held = || {
                    let seen = origin.seen();
                    seen.iter().filter(|one| one.line() == "POST /held").count()
                };
                let before = held();
                peer.send(request("/held", END_STREAM, 3)).await;
                until("the connection goes on", || held() > before).await;
            }
            fate => panic!("{case}: {fate:?}"),
        }
        all_is_well(&scene, &origin, &["POST /held"], &case).await;
    }
}

#[tokio::test]
async fn bodies_that_are_not_as_long_as_they_say_are_refused() {
    let origin = origin().await;
    let scene = scene(&[origin.address]).await;
    for (case, said) in [
        ("more", frame(DATA, 0, 1, b"123456")),
        ("less", frame(DATA, END_STREAM, 1, b"1234")),
        ("none", frame(DATA, END_STREAM, 1, b"")),
        (
            "less and trailers",
            [
                frame(DATA, 0, 1, b"1234"),
                frame(HEADERS, END_HEADERS | END_STREAM, 1, &fields([("x", "y")])),
            ]
            .concat(),
        ),
    ] {
        let mut peer = Peer::new(&scene).await;
        let head = fields([&BAD[..], &[("content-length", "5")]].concat());
        peer.send(frame(HEADERS, END_HEADERS, 1, &head)).await;
        peer.send(said).await;
        let fate = fate(&mut peer).await;
        let is_refused = matches!(fate, Fate::Stream(PROTOCOL) | Fate::Answer);
        assert!(is_refused, "{case}: {fate:?}");
        all_is_well(&scene, &origin, &[], case).await;
    }
}

#[tokio::test]
async fn trailers_that_do_not_end_the_stream_break_it() {
    let origin = origin().await;
    let scene = scene(&[origin.address]).await;
    let mut peer = Peer::new(&scene).await;
    peer.send(request("/held", 0, 1)).await;
    peer.send(frame(DATA, 0, 1, b"x")).await;
    peer.send(frame(HEADERS, END_HEADERS, 1, &fields([("x", "y")])))
        .await;
    let fate = fate(&mut peer).await;
    let is_refused = matches!(fate, Fate::Stream(PROTOCOL) | Fate::Connection(PROTOCOL));
    assert!(is_refused, "{fate:?}");
    all_is_well(&scene, &origin, &[], "trailers").await;
}

/// CVE-2024-27316 and its kin.
#[tokio::test]
async fn a_head_that_has_no_end_ends_the_connection() {
    let origin = origin().await;
    let scene = scene(&[origin.address]).await;
    for (case, piece) in [
        ("empty pieces", frame(CONTINUATION, 0, 1, &[])),
        (
            "small pieces",
            frame(CONTINUATION, 0, 1, &fields([("a", "b")])),
        ),
        (
            "long pieces",
            frame(
                CONTINUATION,
                0,
                1,
                &fields([("a", "b".repeat(16_000).as_str())]),
            ),
        ),
    ] {
        let mut peer = Peer::new(&scene).await;
        peer.send(frame(HEADERS, 0, 1, &asked("/bad"))).await;
        let fate = flood(&mut peer, &piece).await;
        let is_ended = matches!(
            fate,
            Fate::Connection(CALM | PROTOCOL | COMPRESSION) | Fate::Gone
        );
        assert!(is_ended, "{case}: {fate:?}");
        all_is_well(&scene, &origin, &[], case).await;
    }
}

/// CVE-2016-6581: one long field, which the table remembers, and names again with one byte each.
#[tokio::test]
async fn a_small_head_that_unpacks_to_a_large_one_is_refused() {
    let origin = origin().await;
    let scene = scene(&[origin.address]).await;
    let mut peer = Peer::new(&scene).await;
    let long = fields([("a", "b".repeat(4000).as_str())]);
    let mut block = asked("/bad");
    // To be remembered.
    block.push(0x40);
    block.extend_from_slice(&long[1..]);
    block.extend(vec![0xbe; 12_000]);
    peer.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, &block))
        .await;
    let fate = fate(&mut peer).await;
    let is_refused = matches!(fate, Fate::Answer | Fate::Stream(_) | Fate::Connection(_));
    assert!(is_refused, "{fate:?}");
    all_is_well(&scene, &origin, &[], "bomb").await;
}

/// CVE-2025-8671: resets that the client makes the gateway do.
#[tokio::test]
async fn whoever_has_its_requests_broken_off_is_sent_away() {
    let origin = origin().await;
    let scene = scene(&[origin.address]).await;
    let mut peer = Peer::new(&scene).await;
    let Peer { read, write } = &mut peer;
    let asking = async {
        let mut stream = 1;
        while write
            .write_all(&[request("/held", 0, stream), window(stream, 0x7fff_ffff)].concat())
            .await
            .is_ok()
        {
            stream += 2;
        }
        std::future::pending::<()>().await;
    };
    let listening = async {
        while let Some(frame) = frames::read(read).await {
            if frame.kind == GOAWAY && frame.number(4) != NO_ERROR {
                return frame.number(4);
            }
        }
        CALM
    };
    let reason = within(20, async {
        tokio::select! {
            () = asking => unreachable!(),
            reason = listening => reason,
        }
    });
    assert_eq!(reason.await, CALM);
    all_is_well(&scene, &origin, &["POST /held"], "made resets").await;
}

/// CVE-2019-9518.
#[tokio::test]
async fn data_without_data_does_not_go_on_for_ever() {
    let origin = origin().await;
    let scene = scene(&[origin.address]).await;
    let mut peer = Peer::new(&scene).await;
    peer.send(request("/held", 0, 1)).await;
    let fate = flood(&mut peer, &frame(DATA, 0, 1, &[])).await;
    assert!(
        matches!(fate, Fate::Connection(CALM) | Fate::Gone),
        "{fate:?}"
    );
    all_is_well(&scene, &origin, &[], "empty data").await;
}

/// CVE-2019-9512, -9513, -9515: frames that ask for nothing, and cost something. Whoever says nothing else
/// is idle.
#[tokio::test]
async fn floods_of_frames_that_ask_for_nothing_end() {
    let origin = origin().await;
    let mut plan = plan();
    plan.limits.idle = 300 * MILLISECOND;
    let scene = scene_of(1, settings(&[origin.address]), plan).await;
    let looped = [&3u32.to_be_bytes()[..], &[0]].concat();
    for (case, piece) in [
        ("pings", frame(PING, 0, 0, &[0; 8])),
        ("settings", setting(3, 1)),
        ("priorities", frame(PRIORITY, 0, 1, &looped)),
        ("windows", window(0, 1)),
        ("unknown frames", frame(0xbe, 0, 0, &[0; 8])),
    ] {
        let pieces = piece.repeat(1000);
        let mut peer = Peer::new(&scene).await;
        let others = all_is_well(&scene, &origin, &[], case);
        tokio::join!(flood(&mut peer, &pieces), others);
        // The same without reading what is said to them.
        let mut peer = Peer::new(&scene).await;
        let flooding = async { while peer.send(&pieces).await {} };
        let others = all_is_well(&scene, &origin, &[], case);
        within(20, async { tokio::join!(flooding, others) }).await;
    }
}

/// CVE-2019-9517, -9511: large answers are asked for, and not taken.
#[tokio::test]
async fn whoever_takes_nothing_loses_its_answer() {
    const LONG: usize = 5_000_000;
    let origin = Origin::start(|request| match request.line() {
        "GET /fine" => vec![Act::ok("fine")],
        _ => vec![
            Act::say(format!("HTTP/1.1 200 OK\r\nContent-Length: {LONG}\r\n\r\n")),
            Act::Say(vec![b'x'; LONG]),
        ],
    })
    .await;
    let mut plan = plan();
    plan.limits.stall = 300 * MILLISECOND;
    plan.limits.idle = 300 * MILLISECOND;
    let scene = scene_of(1, settings(&[origin.address]), plan).await;
    let open = || scene.origin.status().endpoints[0].open;

    // By a window that is closed.
    let mut peer = Peer::new(&scene).await;
    peer.send(setting(4, 0)).await;
    for stream in (1..40).step_by(2) {
        peer.send(request("/long", END_STREAM, stream)).await;
    }
    let (mut broken_off, mut data) = (0, 0);
    while broken_off < 20 {
        let frame = peer.next().await.unwrap();
        broken_off += u32::from(frame.kind == RESET);
        data += if frame.kind == DATA {
            frame.payload.len()
        } else {
            0
        };
    }
    assert_eq!(data, 0);
    until("the origin's connections are let go", || open() == 0).await;

    // By windows that are open, and a connection that is not read.
    let mut peer = Peer::new(&scene).await;
    peer.send(setting(4, 0x7fff_ffff)).await;
    peer.send(window(0, 0x7fff_0000)).await;
    for stream in (1..40).step_by(2) {
        peer.send(request("/long", END_STREAM, stream)).await;
    }
    until("they are there", || origin.seen().len() == 40).await;
    until("the origin's connections are let go", || open() == 0).await;
    let mut left = 0;
    while let Some(frame) = peer.next().await {
        left += frame.payload.len();
    }
    // What the gateway and the kernel held of all of them.
    assert!(left < 10 * LONG, "{left}");
    all_is_well(&scene, &origin, &["POST /long"], "slow readers").await;
}
