use super::*;
use crate::link::{Fault, TcpLink};
use crate::origin::{Script, ScriptedOrigin};
use crate::patience::{soon, until};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn answering(name: &str) -> ScriptedOrigin {
    ScriptedOrigin::start(Script::Answer { name: name.into() }).unwrap()
}

/// Forty requests, in 200 ms.
fn short(target: SocketAddr) -> Load {
    Load {
        clients: 4,
        lasting: ms(200),
        ..Load::on(target)
    }
}

#[tokio::test]
async fn a_healthy_origin_answers_everything() {
    let origin = answering("blue");
    let report = soon(short(origin.address()).start().unwrap().finished()).await;
    assert_eq!(
        (report.offered(), report.answered(), report.failed()),
        (40, 40, 0)
    );
    assert_eq!(
        report.answers_by_name,
        BTreeMap::from([("blue".to_owned(), 40)])
    );
    assert!(report.p50() <= report.p99() && report.p99() <= report.max());
    assert!(
        report.longest_stall >= ms(5),
        "40 answers leave a gap of 5 ms"
    );
    assert_eq!(origin.accepted(), 40);
}

#[tokio::test]
async fn the_schedule_does_not_wait_for_answers() {
    let origin = answering("blue");
    origin.freeze();
    let running = short(origin.address()).start().unwrap();
    until(|| running.live().offered == 40).await;
    assert_eq!(running.live().in_flight(), 40);
    origin.thaw();
    let report = soon(running.finished()).await;
    assert_eq!(report.answered(), 40);
    let first = &report.requests[0];
    assert_eq!((first.client, first.number, first.scheduled), (0, 0, ms(0)));
    assert!(first.latency >= ms(190), "it waited from its schedule on");
    assert!(report.longest_stall >= ms(190));
}

/// The report of a load on an origin like this, of which every request ends in the same way.
async fn outcome(load: Load) -> Outcome {
    let report = soon(load.start().unwrap().finished()).await;
    assert_eq!(report.answered(), 0);
    assert_eq!(report.longest_stall, report_length(&report));
    assert_eq!((report.p50(), report.max()), (None, None));
    assert_eq!(report.outcomes.len(), 1, "{:?}", report.outcomes);
    *report.outcomes.keys().next().unwrap()
}

/// These loads all run their full time.
fn report_length(report: &Report) -> Duration {
    assert_eq!(report.offered(), 40);
    ms(200)
}

#[tokio::test]
async fn tells_how_requests_fail() {
    let origin = answering("blue");
    let link = TcpLink::to(origin.address()).unwrap();
    link.set(Fault::Reset).unwrap();
    assert_eq!(outcome(short(link.address())).await, Outcome::Reset);
    link.clear().unwrap();
    link.set(Fault::Refuse).unwrap();
    assert_eq!(outcome(short(link.address())).await, Outcome::Refused);

    let crowded = Load {
        most_in_flight: 0,
        ..short(origin.address())
    };
    assert_eq!(outcome(crowded).await, Outcome::Unsent);

    let echo = ScriptedOrigin::start(Script::Echo).unwrap();
    assert_eq!(outcome(short(echo.address())).await, Outcome::Garbled);

    let impatient = |target| Load {
        deadline: ms(50),
        ..short(target)
    };
    let silent = ScriptedOrigin::start(Script::Silent).unwrap();
    assert_eq!(
        outcome(impatient(silent.address())).await,
        Outcome::TimedOut
    );
}

#[tokio::test]
async fn tells_a_close_from_a_reset() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = listener.local_addr().unwrap();
    let closing = tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            // Reading the request first makes the close an end of file.
            let read = tokio::io::AsyncReadExt::read(&mut client, &mut [0; 100]).await;
            drop((client, read));
        }
    });
    assert_eq!(outcome(short(target)).await, Outcome::ClosedEarly);
    closing.abort();
}

#[tokio::test]
async fn counts_answers_by_origin() {
    let (blue, green) = (answering("blue"), answering("green"));
    let first = soon(short(blue.address()).start().unwrap().finished()).await;
    let second = soon(short(green.address()).start().unwrap().finished()).await;
    assert_eq!(first.answers_by_name["blue"], 40);
    assert_eq!(second.answers_by_name["green"], 40);
}

#[tokio::test]
async fn stops_early_and_lets_what_is_in_flight_finish() {
    let origin = answering("blue");
    origin.freeze();
    let load = Load {
        lasting: Duration::from_secs(600),
        ..short(origin.address())
    };
    let running = load.start().unwrap();
    until(|| running.live().offered >= 8).await;
    running.stop();
    origin.thaw();
    let report = soon(running.finished()).await;
    assert_eq!(report.failed(), 0);
    assert!((8..1000).contains(&report.answered()));
    assert!(report.longest_stall < Duration::from_secs(300));
}

#[tokio::test]
async fn refuses_what_it_cannot_do() {
    let load = Load::on(SocketAddr::from(([127, 0, 0, 1], 9)));
    let impossible = [
        Load {
            clients: 0,
            ..load.clone()
        },
        Load {
            every: Duration::ZERO,
            ..load.clone()
        },
        Load {
            lasting: Duration::MAX,
            ..load
        },
    ];
    for load in impossible {
        let error = load.start().err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}

fn request(scheduled: u64, latency: u64, outcome: Outcome) -> Request {
    let ended = ms(scheduled + latency);
    Request::new(0, scheduled, ms(scheduled), outcome, ended)
}

fn report(requests: Vec<Request>, ended: u64) -> Report {
    Report::new(requests, BTreeMap::new(), ms(ended))
}

#[test]
fn a_stall_is_the_largest_gap() {
    use Outcome::{Answered, Reset};
    let answered = |at| request(at, 0, Answered);
    let stall = |requests, ended| report(requests, ended).longest_stall;
    assert_eq!(stall(vec![], 100), ms(100));
    assert_eq!(
        stall(vec![answered(10), answered(30), answered(95)], 100),
        ms(65)
    );
    assert_eq!(stall(vec![answered(70), answered(95)], 100), ms(70));
    assert_eq!(stall(vec![answered(10), answered(20)], 100), ms(80));
    // A failure is no answer, and a late answer ends its gap where it comes.
    assert_eq!(stall(vec![answered(10), request(20, 5, Reset)], 30), ms(20));
    assert_eq!(
        stall(vec![answered(10), request(20, 200, Answered)], 100),
        ms(210)
    );
}

proptest! {
    #[test]
    fn percentiles_are_by_nearest_rank(
        latencies in prop::collection::vec(0_u64..5000, 1..300),
    ) {
        let requests = latencies.iter().map(|latency| request(0, *latency, Outcome::Answered));
        let report = report(requests.collect(), 5000);
        for (percentile, share) in [(report.p50(), 50), (report.p99(), 99), (report.max(), 100)] {
            let value = percentile.unwrap();
            let within = latencies.iter().filter(|latency| ms(**latency) <= value).count();
            let below = latencies.iter().filter(|latency| ms(**latency) < value).count();
            prop_assert!(within * 100 >= latencies.len() * share);
            prop_assert!(below * 100 < latencies.len() * share);
        }
    }
}
