//! The origin of these measurements: it answers every request with the same bytes, and as little work as
//! it can.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;

use rustix::buffer::spare_capacity;
use rustix::event::epoll;

use crate::bench::origin::READY;

/// The end of a head, which is the end of a request here.
const END: &[u8] = b"\r\n\r\n";
const LISTENER: u64 = u64::MAX;

struct Client {
    stream: TcpStream,
    /// How much of [`END`] has come.
    matched: usize,
    /// What did not fit.
    unsent: Vec<u8>,
}

/// Serves for ever.
pub(crate) fn run(port: &str, length: &str) -> ExitCode {
    let (Ok(port), Ok(length)) = (port.parse(), length.parse()) else {
        eprintln!("error: {port} is no port, or {length} no number");
        return ExitCode::from(2);
    };
    match serve(port, length) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: the origin on port {port} ended: {error}");
            ExitCode::FAILURE
        }
    }
}

fn answer(length: usize) -> Vec<u8> {
    let mut answer = format!(
        "HTTP/1.1 200 OK\r\nServer: bench\r\nDate: Sat, 21 Nov 2026 20:00:00 GMT\r\n\
         Content-Type: text/plain\r\nContent-Length: {length}\r\nETag: \"6740-400\"\r\n\r\n"
    )
    .into_bytes();
    answer.resize(answer.len() + length, b'x');
    answer
}

fn serve(port: u16, length: usize) -> io::Result<()> {
    let answer = answer(length);
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    listener.set_nonblocking(true)?;
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let readable = epoll::EventFlags::IN;
    epoll::add(
        &poll,
        &listener,
        epoll::EventData::new_u64(LISTENER),
        readable,
    )?;
    println!("{READY}");
    let mut clients: BTreeMap<u64, Client> = BTreeMap::new();
    let mut next = 0;
    let mut events = Vec::with_capacity(256);
    let mut bytes = vec![0; 64 * 1024];
    loop {
        events.clear();
        epoll::wait(&poll, spare_capacity(&mut events), None)?;
        for event in events.drain(..) {
            let (number, came) = (event.data.u64(), event.flags);
            if number == LISTENER {
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(true)?;
                    stream.set_nodelay(true)?;
                    let data = epoll::EventData::new_u64(next);
                    epoll::add(&poll, &stream, data, readable)?;
                    let client = Client {
                        stream,
                        matched: 0,
                        unsent: Vec::new(),
                    };
                    clients.insert(next, client);
                    next += 1;
                }
                continue;
            }
            let Some(client) = clients.get_mut(&number) else {
                continue;
            };
            if !client.turn(&mut bytes, &answer) {
                clients.remove(&number);
                continue;
            }
            let flags = match client.unsent.is_empty() {
                true => readable,
                false => epoll::EventFlags::OUT,
            };
            if flags != readable || came.contains(epoll::EventFlags::OUT) {
                let data = epoll::EventData::new_u64(number);
                epoll::modify(&poll, &client.stream, data, flags)?;
            }
        }
    }
}

impl Client {
    /// Reads and answers; false when it has gone.
    fn turn(&mut self, bytes: &mut [u8], answer: &[u8]) -> bool {
        if !self.unsent.is_empty() {
            let unsent = std::mem::take(&mut self.unsent);
            return self.send(&unsent);
        }
        let count = match self.stream.read(bytes) {
            Ok(0) => return false,
            Ok(count) => count,
            Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
        };
        for byte in &bytes[..count] {
            self.matched = match byte {
                byte if *byte == END[self.matched] => self.matched + 1,
                b'\r' => 1,
                _ => 0,
            };
            if self.matched == END.len() {
                self.matched = 0;
                if !self.send(answer) {
                    return false;
                }
            }
        }
        true
    }

    fn send(&mut self, bytes: &[u8]) -> bool {
        let sent = match self.stream.write(bytes) {
            Ok(sent) => sent,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(_) => return false,
        };
        self.unsent.extend_from_slice(&bytes[sent..]);
        true
    }
}
