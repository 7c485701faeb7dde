//! Syslog: the daemon of this machine, as syslog(3) speaks to it, or one elsewhere (RFC 5424, over UDP by RFC 5426
//! or TCP by RFC 6587).

use std::fmt;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use time::OffsetDateTime;
use tracing::Level;

use super::line::{Line, shorten};
use super::{Failure, Way};
use crate::moment::{millis, rfc3339};

/// Daemons without a facility of their own.
const DAEMON: u8 = 3;
/// The longest message: what every daemon takes whole (RFC 5424, section 6.1).
const LONGEST: usize = 2048;
/// For a daemon that does not take what it is told.
const PATIENCE: Duration = Duration::from_secs(5);
const NAME: &str = "ipreconnect";
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// Where the daemon listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyslogPlace {
    /// A Unix socket, of datagrams or of a stream.
    Unix(PathBuf),
    /// UDP.
    Udp(SocketAddr),
    /// TCP.
    Tcp(SocketAddr),
}

impl Default for SyslogPlace {
    fn default() -> Self {
        Self::Unix(PathBuf::from("/dev/log"))
    }
}

impl fmt::Display for SyslogPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Udp(address) => write!(f, "udp://{address}"),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

impl FromStr for SyslogPlace {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if let Some(path) = text.strip_prefix("unix:") {
            return match path.is_empty() {
                true => Err(()),
                false => Ok(Self::Unix(PathBuf::from(path))),
            };
        }
        let address = |text: &str| text.parse().map_err(|_| ());
        if let Some(rest) = text.strip_prefix("udp://") {
            return address(rest).map(Self::Udp);
        }
        let rest = text.strip_prefix("tcp://").ok_or(())?;
        address(rest).map(Self::Tcp)
    }
}

/// A way to that daemon, opened when it is needed.
pub(super) struct Syslog {
    place: SyslogPlace,
    host: String,
    open: Option<Open>,
}

enum Open {
    Datagram(UnixDatagram),
    Stream(UnixStream),
    Udp(UdpSocket),
    Tcp(TcpStream),
}

impl Syslog {
    pub(super) fn new(place: SyslogPlace) -> Self {
        let host = rustix::system::uname();
        Self {
            place,
            host: host.nodename().to_string_lossy().into_owned(),
            open: None,
        }
    }

    fn send(&mut self, line: &Line) -> io::Result<()> {
        let open = match &mut self.open {
            Some(open) => open,
            none => none.insert(Open::to(&self.place)?),
        };
        match open {
            Open::Datagram(socket) => socket.send(local(line).as_bytes()).map(drop),
            Open::Stream(stream) => {
                let mut text = local(line).into_bytes();
                text.push(0);
                stream.write_all(&text)
            }
            Open::Udp(socket) => socket.send(remote(line, &self.host).as_bytes()).map(drop),
            Open::Tcp(stream) => {
                let text = remote(line, &self.host);
                // Counted octets (RFC 6587, section 3.4.1).
                stream.write_all(format!("{} {text}", text.len()).as_bytes())
            }
        }
    }
}

impl Open {
    fn to(place: &SyslogPlace) -> io::Result<Self> {
        match place {
            SyslogPlace::Unix(path) => {
                let socket = UnixDatagram::unbound()?;
                socket.set_write_timeout(Some(PATIENCE))?;
                match socket.connect(path) {
                    Ok(()) => Ok(Self::Datagram(socket)),
                    Err(error) if is_of_another_kind(&error) => {
                        let stream = UnixStream::connect(path)?;
                        stream.set_write_timeout(Some(PATIENCE))?;
                        Ok(Self::Stream(stream))
                    }
                    Err(error) => Err(error),
                }
            }
            SyslogPlace::Udp(address) => {
                let local = if address.is_ipv4() {
                    "0.0.0.0:0"
                } else {
                    "[::]:0"
                };
                let socket = UdpSocket::bind(local)?;
                socket.connect(address)?;
                Ok(Self::Udp(socket))
            }
            SyslogPlace::Tcp(address) => {
                let stream = TcpStream::connect_timeout(address, PATIENCE)?;
                stream.set_write_timeout(Some(PATIENCE))?;
                Ok(Self::Tcp(stream))
            }
        }
    }
}

impl Open {
    /// Whether the daemon has closed a stream: what is written would be taken by nobody.
    fn has_ended(&self) -> bool {
        let peek = |socket: BorrowedFd<'_>| {
            let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
            match recv(socket, &mut [0; 1], flags) {
                Ok((_, count)) => count == 0,
                Err(error) => error != Errno::AGAIN,
            }
        };
        match self {
            Self::Datagram(_) | Self::Udp(_) => false,
            Self::Stream(stream) => peek(stream.as_fd()),
            Self::Tcp(stream) => peek(stream.as_fd()),
        }
    }
}

fn is_of_another_kind(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::PROTOTYPE.raw_os_error())
}

impl Way for Syslog {
    fn write(&mut self, lines: &[Arc<Line>]) -> Result<(), Failure> {
        if self.open.as_ref().is_some_and(Open::has_ended) {
            self.open = None;
        }
        for (done, line) in lines.iter().enumerate() {
            if let Err(error) = self.send(line) {
                // A daemon that was started again listens on another socket of the same name.
                self.open = None;
                if self.send(line).is_err() {
                    self.open = None;
                    return Err(Failure::Again {
                        done,
                        why: format!("{}: {error}", self.place),
                    });
                }
            }
        }
        Ok(())
    }
}

fn priority(line: &Line) -> u8 {
    let severity = match line.level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    };
    DAEMON * 8 + severity
}

/// As syslog(3) writes to /dev/log.
fn local(line: &Line) -> String {
    let second = i64::try_from(line.at.as_secs()).unwrap_or_default();
    let time = OffsetDateTime::from_unix_timestamp(second).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let month = MONTHS.get(usize::from(u8::from(time.month())) - 1).copied();
    let text = format!(
        "<{}>{} {:2} {:02}:{:02}:{:02} {NAME}[{}]: {}",
        priority(line),
        month.unwrap_or_default(),
        time.day(),
        time.hour(),
        time.minute(),
        time.second(),
        std::process::id(),
        line.text()
    );
    shortened(text)
}

fn remote(line: &Line, host: &str) -> String {
    let text = format!(
        "<{}>1 {} {host} {NAME} {} - - {}",
        priority(line),
        rfc3339(millis(line.at)),
        std::process::id(),
        line.text()
    );
    shortened(text)
}

fn shortened(mut text: String) -> String {
    shorten(&mut text, LONGEST);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_told_as_daemons_read_them() {
        let mut line = Line::own(Level::ERROR, "endpoint down");
        line.at = Duration::from_secs(86_400 * 31 + 1);
        let id = std::process::id();
        assert_eq!(
            local(&line),
            format!("<27>Feb  1 00:00:01 ipreconnect[{id}]: endpoint down")
        );
        assert_eq!(
            remote(&line, "host"),
            format!("<27>1 1970-02-01T00:00:01.000Z host ipreconnect {id} - - endpoint down")
        );
        let long = Line::own(Level::INFO, &"ä".repeat(5_000));
        assert!(local(&long).len() <= LONGEST);
    }

    #[test]
    fn places_are_read() {
        let read = |text: &str| text.parse::<SyslogPlace>().map(|place| place.to_string());
        for text in [
            "unix:/dev/log",
            "udp://192.0.2.1:514",
            "tcp://[2001:db8::1]:601",
        ] {
            assert_eq!(read(text).as_deref(), Ok(text));
        }
        for text in ["", "unix:", "udp://host:514", "udp://192.0.2.1", "/dev/log"] {
            assert_eq!(read(text), Err(()), "{text}");
        }
    }
}
