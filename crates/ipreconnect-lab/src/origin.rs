//! Scripted origins: small servers that can be killed, revived, frozen and slowed.
//!
//! They keep their address for life. What each does with a connection is its [`Script`].

mod desk;
mod script;
mod stage;
#[cfg(test)]
mod tests;

pub use script::Script;

use crate::door::{Door, Seat, TcpSeat, UnixSeat};
use stage::{Stage, Wire, serve};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A server that plays a [`Script`] on an address of its own, and ends when dropped.
///
/// `A` is the kind of its address: `SocketAddr` for a loopback port, `PathBuf` for a Unix socket.
pub struct ScriptedOrigin<A = SocketAddr> {
    address: A,
    door: Arc<dyn Entrance>,
    stage: Arc<Stage>,
}

impl ScriptedOrigin {
    /// An origin on a free port of `127.0.0.1`.
    ///
    /// # Errors
    /// Those of bind(2) and listen(2).
    ///
    /// # Panics
    /// Outside a tokio runtime, which runs the origin from then on.
    pub fn start(script: Script) -> io::Result<Self> {
        Self::start_on(Ipv4Addr::LOCALHOST.into(), script)
    }

    /// An origin on that very address: another one of loopback, with the port of an origin that exists,
    /// as where a name moves to.
    ///
    /// # Errors
    /// Those of bind(2) and listen(2).
    ///
    /// # Panics
    /// Outside a tokio runtime, which runs the origin from then on.
    pub fn start_at(address: SocketAddr, script: Script) -> io::Result<Self> {
        let seat = TcpSeat::at(address)?;
        Self::play(seat.address(), seat, script)
    }

    /// An origin on a free port of `[::1]`.
    ///
    /// # Errors
    /// Those of bind(2) and listen(2).
    ///
    /// # Panics
    /// Outside a tokio runtime, which runs the origin from then on.
    pub fn start_ipv6(script: Script) -> io::Result<Self> {
        Self::start_on(Ipv6Addr::LOCALHOST.into(), script)
    }

    /// Where clients connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    fn start_on(ip: IpAddr, script: Script) -> io::Result<Self> {
        let seat = TcpSeat::on(ip)?;
        Self::play(seat.address(), seat, script)
    }
}

impl ScriptedOrigin<PathBuf> {
    /// An origin on a Unix socket of this path, which is removed in the end. A socket that a dead
    /// server left there is replaced.
    ///
    /// # Errors
    /// Those of bind(2) and listen(2); `AddrInUse` if something else is there.
    ///
    /// # Panics
    /// Outside a tokio runtime, which runs the origin from then on.
    pub fn start_unix(path: impl Into<PathBuf>, script: Script) -> io::Result<Self> {
        let path = path.into();
        Self::play(path.clone(), UnixSeat::on(path), script)
    }

    /// Where clients connect to.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.address
    }
}

impl<A> ScriptedOrigin<A> {
    fn play<S>(address: A, seat: S, script: Script) -> io::Result<Self>
    where
        S: Seat,
        S::Stream: Wire,
    {
        let door = Arc::new(Door::open_on(seat)?);
        let stage = Arc::new(Stage::new(script));
        tokio::spawn(serve(Arc::clone(&door), Arc::clone(&stage)));
        Ok(Self {
            address,
            door,
            stage,
        })
    }

    /// Dies as a killed process does: connects are refused before this returns, and every connection
    /// is reset. The address is kept from others.
    ///
    /// A Unix peer sees end of file instead, unless the origin had something of it left to read.
    pub fn kill(&self) {
        self.door.shut();
        self.stage.cue(|cue| cue.kills += 1);
    }

    /// Comes back as a new process does: listening on the same address before this returns, and not
    /// frozen.
    ///
    /// # Errors
    /// Those of bind(2) and listen(2).
    pub fn revive(&self) -> io::Result<()> {
        self.stage.cue(|cue| cue.frozen = false);
        self.door.open()
    }

    /// Stands still as a stopped process does: its kernel goes on accepting into the queue and
    /// receiving into the buffers, but nobody accepts, reads or answers.
    pub fn freeze(&self) {
        self.stage.cue(|cue| cue.frozen = true);
    }

    /// Goes on where it froze.
    pub fn thaw(&self) {
        self.stage.cue(|cue| cue.frozen = false);
    }

    /// Sends each answer that begins from now on later by this much; zero is the normal speed.
    pub fn slow(&self, by: Duration) {
        self.stage.cue(|cue| cue.delay = by);
    }

    /// Answers whoever waits at a [`Script::Waiter`] now.
    pub fn release(&self) {
        self.stage.cue(|cue| cue.releases += 1);
    }

    /// Connections that the application has accepted, ever. What the kernel has accepted into the
    /// queue of a frozen origin does not count.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.stage.accepted()
    }

    /// Connections that the application has open now.
    #[must_use]
    pub fn open(&self) -> usize {
        self.stage.open()
    }

    /// Answers sent, ever.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.stage.answered()
    }

    /// Clients that wait for [`ScriptedOrigin::release`] now.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.stage.waiting()
    }
}

impl<A> Drop for ScriptedOrigin<A> {
    fn drop(&mut self) {
        self.door.shut();
        self.stage.cue(|cue| cue.over = true);
    }
}

/// A door, whatever its kind of address.
trait Entrance: Send + Sync {
    fn open(&self) -> io::Result<()>;
    fn shut(&self);
}

impl<S: Seat> Entrance for Door<S> {
    fn open(&self) -> io::Result<()> {
        Door::open(self)
    }

    fn shut(&self) {
        Door::shut(self);
    }
}
