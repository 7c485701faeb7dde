use std::io::Read;
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use tracing_subscriber::layer::SubscriberExt;

use super::*;

/// A journal, and a way to say something in it.
fn journal(ways: &[LogWay]) -> (Journal, impl tracing::Subscriber + Send + Sync + 'static) {
    let journal = Journal::default();
    journal.write_to(ways).unwrap();
    let subscriber = tracing_subscriber::registry().with(journal.clone());
    (journal, subscriber)
}

fn file(path: &Path) -> LogWay {
    LogWay::File {
        path: path.to_owned(),
        format: LineFormat::Text,
    }
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = clock::now() + Duration::from_secs(20);
    while !holds() {
        assert!(clock::now() < deadline, "never came true: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn lines(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn a_storm_is_one_line_with_a_count_everywhere() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let (journal, subscriber) = journal(&[file(&path)]);
    tracing::subscriber::with_default(subscriber, || {
        for port in 0..1_000 {
            tracing::warn!(client = %format!("192.0.2.1:{port}"), "not let in");
            tracing::warn!(origin = format!("o{port}"), "endpoint down");
        }
    });
    journal.end();
    let lines = lines(&path);
    assert_eq!(
        lines
            .iter()
            .filter(|line| line.contains("endpoint down"))
            .count(),
        1_000
    );
    let refused: Vec<_> = lines
        .iter()
        .filter(|line| line.contains("not let in"))
        .collect();
    assert_eq!(refused.len(), 6, "{refused:?}");
    assert!(
        refused[5].contains("not let in (995 more like this within "),
        "{}",
        refused[5]
    );
    let events = journal.events().latest(500);
    assert!(
        events
            .iter()
            .any(|event| event.message.contains("995 more like this"))
    );
}

#[test]
fn a_file_that_is_moved_away_is_begun_anew() {
    let directory = tempfile::tempdir().unwrap();
    let (path, old) = (directory.path().join("log"), directory.path().join("log.1"));
    let (journal, subscriber) = journal(&[file(&path)]);
    tracing::subscriber::with_default(subscriber, || {
        tracing::info!("one");
        until("it is written", || lines(&path).len() == 1);
        std::fs::rename(&path, &old).unwrap();
        tracing::info!("two");
        until("it is written", || lines(&path).len() == 1);
    });
    assert!(lines(&old)[0].ends_with("INFO one"));
    assert!(lines(&path)[0].ends_with("INFO two"));
    journal.end();
}

#[test]
fn nobody_waits_for_a_way_that_takes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (pipe, path) = (directory.path().join("pipe"), directory.path().join("log"));
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let reader = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(&pipe)
        .unwrap();
    let (journal, subscriber) = journal(&[file(&pipe), file(&path)]);
    let long = "x".repeat(1_000);
    tracing::subscriber::with_default(subscriber, || {
        for number in 0..2_000 {
            tracing::info!(%long, at = format!("{number}"), "nobody reads this there");
        }
        until("all is in the file", || {
            lines(&path)
                .iter()
                .filter(|line| line.contains("nobody reads this"))
                .count()
                == 2_000
        });
    });
    // The pipe is full, and that is told where somebody reads.
    until("it is told", || {
        lines(&path)
            .iter()
            .any(|line| line.contains("the log cannot be written here"))
    });
    drop(reader);
    journal.end();
}

#[test]
fn what_is_too_much_is_lost_and_counted() {
    let queue = Queue::default();
    let line = Arc::new(Line::own(Level::INFO, &"x".repeat(1_000)));
    for _ in 0..10_000 {
        queue.put(&line);
    }
    let batch = queue.take(100_000, Duration::ZERO);
    assert!(batch.lines.len() * line.size() <= 4 * 1024 * 1024);
    assert_eq!(batch.lines.len() as u64 + batch.lost, 10_000);
    assert!(queue.take(1, Duration::ZERO).lines.is_empty());
}

#[test]
fn a_syslog_daemon_that_comes_late_and_one_that_is_replaced_hear_everything() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log.sock");
    let (journal, subscriber) = journal(&[LogWay::Syslog(SyslogPlace::Unix(path.clone()))]);
    let daemon = || {
        // What was there before is gone.
        let _ = std::fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        socket
    };
    let hear = |socket: &UnixDatagram| {
        let mut bytes = [0; 4096];
        let count = socket.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..count]).into_owned()
    };
    tracing::subscriber::with_default(subscriber, || {
        tracing::warn!("one");
        let first = daemon();
        assert!(hear(&first).starts_with("<28>"), "a warning of a daemon");
        drop(first);
        let second = daemon();
        tracing::error!("two");
        let heard = hear(&second);
        assert!(
            heard.starts_with("<27>") && heard.ends_with(": two"),
            "{heard}"
        );
    });
    journal.end();
}

#[test]
fn a_daemon_over_tcp_that_was_started_again_hears_what_is_said_after_it() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (journal, subscriber) = journal(&[LogWay::Syslog(SyslogPlace::Tcp(address))]);
    let hear = |listener: &TcpListener| {
        let (mut stream, _) = listener.accept().unwrap();
        let mut bytes = [0; 4096];
        let count = stream.read(&mut bytes).unwrap();
        (
            stream,
            String::from_utf8_lossy(&bytes[..count]).into_owned(),
        )
    };
    tracing::subscriber::with_default(subscriber, || {
        tracing::info!("one");
        let (stream, heard) = hear(&listener);
        assert!(heard.ends_with(" - - one"), "{heard}");
        let length = heard.split(' ').next().unwrap().parse::<usize>().unwrap();
        assert_eq!(
            heard.len(),
            length + 1 + length.to_string().len(),
            "octets are counted"
        );
        drop((stream, listener));
        let again = TcpListener::bind(address).unwrap();
        tracing::info!("two");
        assert!(hear(&again).1.ends_with(" - - two"));
    });
    journal.end();
}

#[test]
fn the_level_holds_for_what_is_written_and_not_for_what_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let (journal, subscriber) = journal(&[file(&path)]);
    journal.set_level(Level::ERROR);
    tracing::subscriber::with_default(subscriber, || {
        tracing::info!("a word");
        tracing::error!("a cry");
    });
    journal.end();
    assert_eq!(lines(&path).len(), 1);
    let kept = journal.events().latest(10);
    let kept: Vec<_> = kept.iter().map(|event| event.message.as_str()).collect();
    assert_eq!(kept, ["a word", "a cry"]);
}

#[test]
fn what_cannot_be_opened_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let (journal, subscriber) = journal(&[file(&path)]);
    let error = journal.write_to(&[file(&directory.path().join("none/log"))]);
    assert!(error.unwrap_err().to_string().contains("none/log"));
    tracing::subscriber::with_default(subscriber, || tracing::info!("still here"));
    journal.end();
    assert_eq!(lines(&path).len(), 1);
}
