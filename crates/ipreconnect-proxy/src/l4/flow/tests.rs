use std::future::poll_fn;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::task::Poll;

use ipreconnect::socket::{Socket, register};
use ipreconnect_lab::namespace::skipped;
use rustix::thread::{Uid, set_thread_res_uid};

use super::{Flow, Progress};
use crate::l4::pipes::Pipe;

/// A user who may have no more than the usual pipes.
const NOBODY: u32 = 65_534;
/// More than one user's share of 64 KiB each (`pipe-user-pages-soft`, pipe(7)).
const SHARE: usize = 1_100;

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (near, listener.accept().unwrap().0)
}

fn registered(stream: TcpStream) -> Socket {
    stream.set_nonblocking(true).unwrap();
    register(OwnedFd::from(stream)).unwrap()
}

/// Carries `bytes` through a flow, and returns what arrived.
fn carry(bytes: Vec<u8>) -> Vec<u8> {
    let ((mut writer, source), (sink, mut reader)) = (pair(), pair());
    let writing = std::thread::spawn(move || {
        writer.write_all(&bytes).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
        writer
    });
    let reading = std::thread::spawn(move || {
        let mut arrived = Vec::new();
        reader.read_to_end(&mut arrived).unwrap();
        arrived
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (source, sink) = (registered(source), registered(sink));
        let mut flow = Flow::default();
        let carried = poll_fn(|cx| {
            loop {
                match flow.poll(cx, (&source, &sink), usize::MAX, |_| {}) {
                    Poll::Ready(Ok(Progress::More)) => {}
                    other => return other,
                }
            }
        });
        assert_eq!(carried.await, Ok(Progress::Done));
    });
    drop(writing.join().unwrap());
    reading.join().unwrap()
}

fn pattern(count: u32) -> Vec<u8> {
    (0..count)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect()
}

#[test]
fn what_is_carried_arrives_whole() {
    for count in [0, 1, 16_383, 16_384, 16_385, 300_000, 9_000_000] {
        assert!(carry(pattern(count)) == pattern(count), "{count} bytes");
    }
}

#[test]
fn without_pipes_everything_is_copied() {
    let alone = std::thread::spawn(|| {
        let nobody = Uid::from_raw(NOBODY);
        if set_thread_res_uid(nobody, nobody, nobody).is_err() {
            return skipped("without_pipes_everything_is_copied", "it needs root");
        }
        let mut held = Vec::new();
        while let Some(pipe) = Pipe::take() {
            held.push(pipe);
            assert!(held.len() < SHARE, "the kernel knows no limit");
        }
        assert!(carry(pattern(9_000_000)) == pattern(9_000_000));
        drop(held);
        assert!(carry(pattern(9_000_000)) == pattern(9_000_000));
    });
    alone.join().unwrap();
}
