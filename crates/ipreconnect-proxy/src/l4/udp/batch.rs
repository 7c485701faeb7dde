//! Many datagrams in one system call: recvmmsg(2), sendmmsg(2), and the control messages that go with
//! them. All `unsafe` of this crate is here.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr;

/// Datagrams in one batch.
pub(super) const SLOTS: usize = 256;
/// The longest datagram, or as many as the kernel puts together, fits.
const BUFFER: usize = 64 * 1024;
/// Control messages of one datagram: a local address and a segment size, with room to spare.
const CONTROL: usize = 128;

#[derive(Clone, Copy)]
#[repr(C, align(16))]
struct Control([u8; CONTROL]);

/// Datagrams that were received together. Each stays in its slot, and may be sent on from there.
pub(super) struct Batch {
    buffers: Box<[u8]>,
    names: Box<[libc::sockaddr_storage]>,
    controls: Box<[Control]>,
    vectors: Box<[libc::iovec]>,
    headers: Box<[libc::mmsghdr]>,
    received: Box<[Received]>,
    used: usize,
    /// Messages to be sent, each of one or several slots' bytes.
    outgoing: Box<[libc::mmsghdr]>,
    /// The slots of each message, as places in `pieces`.
    runs: Vec<Run>,
    pieces: Box<[libc::iovec]>,
    taken: usize,
}

/// One message: datagrams of one length, but for the last, and where they go.
#[derive(Clone, Debug)]
struct Run {
    pieces: Range<usize>,
    bytes: usize,
    segment: usize,
    to: Option<SocketAddr>,
    from: Option<IpAddr>,
}

/// Longer datagrams are sent alone: what does not fit into one packet is not cut into segments.
const MERGED: usize = 1_400;
/// Datagrams in one message (`UDP_MAX_SEGMENTS` of the kernels that have least), and their bytes.
const SEGMENTS: usize = 64;
const MESSAGE: usize = 65_000;

const NOTHING: libc::iovec = libc::iovec {
    iov_base: ptr::null_mut(),
    iov_len: 0,
};

/// One received datagram, or several of one length that the kernel put together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Received {
    /// Who sent it; nobody is named on a connected socket.
    pub(super) from: Option<SocketAddr>,
    /// The local address it was sent to, where the socket was asked to tell.
    pub(super) to: Option<IpAddr>,
    /// Bytes.
    pub(super) length: usize,
    /// The length of each but the last, if there are several.
    pub(super) segment: Option<u16>,
}

/// Whether senders are to be named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Senders {
    Named,
    Known,
}

impl Batch {
    pub(super) fn new() -> Self {
        let mut batch = Self {
            buffers: vec![0; SLOTS * BUFFER].into(),
            // SAFETY: all zeroes is a `sockaddr_storage` of no family.
            names: vec![unsafe { std::mem::zeroed() }; SLOTS].into(),
            controls: vec![Control([0; CONTROL]); SLOTS].into(),
            vectors: vec![NOTHING; SLOTS].into(),
            // SAFETY: all zeroes is an `mmsghdr` without name, buffers and control messages.
            headers: vec![unsafe { std::mem::zeroed() }; SLOTS].into(),
            received: vec![Received::default(); SLOTS].into(),
            used: 0,
            // SAFETY: as above.
            outgoing: vec![unsafe { std::mem::zeroed() }; SLOTS].into(),
            runs: Vec::with_capacity(SLOTS),
            pieces: vec![NOTHING; SLOTS].into(),
            taken: 0,
        };
        // What is boxed stays where it is for as long as the batch lives.
        let buffers = batch.buffers.chunks_mut(BUFFER);
        for ((vector, header), buffer) in batch
            .vectors
            .iter_mut()
            .zip(&mut batch.headers)
            .zip(buffers)
        {
            vector.iov_base = buffer.as_mut_ptr().cast();
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
        }
        batch
    }

    /// Forgets what was received.
    pub(super) fn clear(&mut self) {
        self.used = 0;
        self.unqueue();
    }

    /// Forgets what is queued.
    pub(super) fn unqueue(&mut self) {
        self.runs.clear();
        self.taken = 0;
    }

    /// Slots that are taken.
    pub(super) fn used(&self) -> usize {
        self.used
    }

    /// Receives up to `most` datagrams into free slots. Fewer than could be taken means that no more
    /// waited.
    pub(super) fn receive(
        &mut self,
        socket: &impl AsFd,
        senders: Senders,
        most: usize,
    ) -> io::Result<Range<usize>> {
        let begin = self.used;
        let end = (begin + most).min(SLOTS);
        for slot in begin..end {
            self.vectors[slot].iov_len = BUFFER;
            let header = &mut self.headers[slot].msg_hdr;
            (header.msg_name, header.msg_namelen) = match senders {
                Senders::Named => (
                    ptr::from_mut(&mut self.names[slot]).cast(),
                    size_of::<libc::sockaddr_storage>() as libc::socklen_t,
                ),
                Senders::Known => (ptr::null_mut(), 0),
            };
            header.msg_control = self.controls[slot].0.as_mut_ptr().cast();
            header.msg_controllen = CONTROL;
            header.msg_flags = 0;
        }
        let Some(headers) = self.headers.get_mut(begin..end) else {
            return Ok(begin..begin);
        };
        // SAFETY: every header names a slot's own name, buffer and control messages, of the lengths
        // given, which nobody else uses during the call.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_fd().as_raw_fd(),
                headers.as_mut_ptr(),
                headers.len() as libc::c_uint,
                libc::MSG_DONTWAIT,
                ptr::null_mut(),
            )
        };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        self.used = begin + count;
        for slot in begin..self.used {
            self.received[slot] = self.parse(slot);
        }
        Ok(begin..self.used)
    }

    /// Receives one datagram on a connected socket: the cheapest way for a socket that has one.
    pub(super) fn receive_one(&mut self, socket: &impl AsFd) -> io::Result<Range<usize>> {
        let slot = self.used;
        let begin = slot * BUFFER;
        let Some(buffer) = self.buffers.get_mut(begin..begin + BUFFER) else {
            return Ok(slot..slot);
        };
        let length = rustix::net::recv(socket, buffer, rustix::net::RecvFlags::DONTWAIT)?.0;
        self.received[slot] = Received {
            length,
            ..Received::default()
        };
        self.used = slot + 1;
        Ok(slot..slot + 1)
    }

    /// What is in a slot.
    pub(super) fn received(&self, slot: usize) -> Received {
        self.received.get(slot).copied().unwrap_or_default()
    }

    fn parse(&self, slot: usize) -> Received {
        let header = &self.headers[slot];
        let (mut to, mut segment) = (None, None);
        // SAFETY: the kernel filled the slot's own control buffer, and said how much of it, and the
        // macros of cmsg(3) stay within that.
        unsafe {
            let mut message = libc::CMSG_FIRSTHDR(&raw const header.msg_hdr);
            while let Some(control) = message.as_ref() {
                let data = libc::CMSG_DATA(message);
                match (control.cmsg_level, control.cmsg_type) {
                    (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                        let info: libc::in_pktinfo = ptr::read_unaligned(data.cast());
                        to = Some(ipv4(info.ipi_addr).into());
                    }
                    (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                        let info: libc::in6_pktinfo = ptr::read_unaligned(data.cast());
                        to = Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).into());
                    }
                    (libc::SOL_UDP, libc::UDP_GRO) => {
                        let size: libc::c_int = ptr::read_unaligned(data.cast());
                        segment = u16::try_from(size).ok();
                    }
                    _ => {}
                }
                message = libc::CMSG_NXTHDR(&raw const header.msg_hdr, message);
            }
        }
        let length = header.msg_len as usize;
        let from = (!header.msg_hdr.msg_name.is_null())
            .then(|| socket_address(&self.names[slot]))
            .flatten();
        Received {
            from,
            to,
            length,
            segment: segment.filter(|size| usize::from(*size) < length),
        }
    }

    /// All bytes in a slot.
    fn bytes(&self, slot: usize) -> &[u8] {
        let begin = slot * BUFFER;
        let length = self.received(slot).length.min(BUFFER);
        self.buffers.get(begin..begin + length).unwrap_or_default()
    }

    /// The datagrams in a slot: one, or several that the kernel put together.
    pub(super) fn datagrams(&self, slot: usize) -> impl Iterator<Item = &[u8]> {
        let bytes = self.bytes(slot);
        let segment = self.received(slot).segment.map_or(BUFFER, usize::from);
        let empty = bytes.is_empty().then_some(bytes);
        bytes.chunks(segment.max(1)).chain(empty)
    }

    /// Queues slots, in order: to `to`, or to whom the socket is connected; from `from`, or from where
    /// the kernel chooses. Datagrams of one length go together, and the kernel takes them apart
    /// (udp(7), `UDP_SEGMENT`).
    pub(super) fn queue(
        &mut self,
        slots: impl IntoIterator<Item = usize>,
        to: Option<SocketAddr>,
        from: Option<IpAddr>,
    ) {
        let mut open: Option<Run> = None;
        for slot in slots {
            let Received {
                length, segment, ..
            } = self.received(slot);
            let Some(piece) = self.pieces.get_mut(self.taken) else {
                break;
            };
            *piece = libc::iovec {
                iov_base: self.vectors[slot].iov_base,
                iov_len: length,
            };
            self.taken += 1;
            match &mut open {
                Some(run) if run.takes(length, segment.map(usize::from)) => {
                    run.pieces.end = self.taken;
                    run.bytes += length;
                }
                _ => {
                    self.runs.extend(open.replace(Run {
                        pieces: self.taken - 1..self.taken,
                        bytes: length,
                        segment: segment.map_or(length, usize::from),
                        to,
                        from,
                    }));
                }
            }
        }
        self.runs.extend(open);
    }

    /// Datagrams that are queued.
    pub(super) fn queued(&self) -> usize {
        self.runs.iter().map(Run::datagrams).sum()
    }

    /// Sends what is queued, in order. Returns how many datagrams were sent, and what stopped the
    /// next one; what is left stays queued.
    ///
    /// An ICMP error that a connected socket has to tell is told once, and lost where earlier messages
    /// of the same call were sent (sendmmsg(2)). So the message after it is tried alone: if that
    /// works, there was such an error.
    pub(super) fn send(&mut self, socket: &impl AsFd) -> (usize, Option<io::Error>) {
        let mut sent = 0;
        while !self.runs.is_empty() {
            let wanted = self.runs.len();
            match self.send_runs(socket, wanted) {
                Ok(count) => {
                    let is_connected = self.runs.iter().any(|run| run.to.is_none());
                    sent += self
                        .runs
                        .drain(..count)
                        .map(|run| run.datagrams())
                        .sum::<usize>();
                    if count < wanted && is_connected {
                        match self.send_runs(socket, 1) {
                            Ok(_) => {
                                sent += self
                                    .runs
                                    .drain(..1)
                                    .map(|run| run.datagrams())
                                    .sum::<usize>();
                                let refused = io::Error::from_raw_os_error(libc::ECONNREFUSED);
                                return (sent, Some(refused));
                            }
                            Err(error) => return (sent, Some(error)),
                        }
                    }
                }
                Err(error) => return (sent, Some(error)),
            }
        }
        self.unqueue();
        (sent, None)
    }

    /// Sends the first queued message as single datagrams, if that is what `error` asks for; then
    /// drops it. Returns how many datagrams were lost.
    pub(super) fn send_apart(&mut self, socket: &impl AsFd, error: &io::Error) -> u64 {
        if self.runs.is_empty() {
            return 0;
        }
        let run = self.runs.remove(0);
        // udp(7): the path takes no segments of that size, or the device computes no checksums.
        let reasons = [libc::EINVAL, libc::EMSGSIZE, libc::EIO, libc::EOPNOTSUPP];
        let is_reason = error
            .raw_os_error()
            .is_some_and(|errno| reasons.contains(&errno));
        if !is_reason || run.datagrams() == 1 {
            return run.datagrams() as u64;
        }
        let rest = std::mem::take(&mut self.runs);
        let (piece, mut lost) = (run.pieces.start, 0);
        for place in run.pieces.clone() {
            let whole = self.pieces[place];
            let mut begin = 0;
            while begin < whole.iov_len {
                let length = run.segment.min(whole.iov_len - begin);
                self.pieces[piece] = libc::iovec {
                    iov_base: whole.iov_base.wrapping_byte_add(begin),
                    iov_len: length,
                };
                self.runs.push(Run {
                    pieces: piece..piece + 1,
                    bytes: length,
                    segment: length,
                    ..run.clone()
                });
                lost += u64::from(self.send_runs(socket, 1).is_err());
                self.runs.clear();
                begin += length;
            }
        }
        self.runs = rest;
        lost
    }

    /// One call with the first `count` messages; returns how many were sent.
    fn send_runs(&mut self, socket: &impl AsFd, count: usize) -> io::Result<usize> {
        for index in 0..count.min(SLOTS) {
            self.prepare(index);
        }
        // SAFETY: every header that counts names a name, buffers and control messages of this batch,
        // of the lengths that were just set.
        let sent = unsafe {
            libc::sendmmsg(
                socket.as_fd().as_raw_fd(),
                self.outgoing.as_mut_ptr(),
                count.min(SLOTS) as libc::c_uint,
                libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
            )
        };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }

    /// Fills the header of a queued message.
    fn prepare(&mut self, index: usize) {
        let Some(run) = self.runs.get(index) else {
            return;
        };
        let name = &mut self.names[index];
        let header = &mut self.outgoing[index].msg_hdr;
        (header.msg_name, header.msg_namelen) = match run.to {
            Some(to) => {
                let length = write_address(name, to);
                (ptr::from_mut(name).cast(), length)
            }
            None => (ptr::null_mut(), 0),
        };
        header.msg_iov = &raw mut self.pieces[run.pieces.start];
        header.msg_iovlen = run.pieces.len();
        header.msg_flags = 0;
        let segment = (run.datagrams() > 1).then_some(run.segment as u16);
        header.msg_control = self.controls[index].0.as_mut_ptr().cast();
        header.msg_controllen = if run.from.is_some() || segment.is_some() {
            CONTROL
        } else {
            0
        };
        // SAFETY: the control buffer is this batch's own, long enough for both messages, aligned as a
        // `cmsghdr` wants it, and its length is set to what was written.
        unsafe {
            let mut next = libc::CMSG_FIRSTHDR(&raw const *header);
            let mut length = 0;
            let mut put = |level, kind, value: *const u8, size: usize| {
                if let Some(control) = next.as_mut() {
                    control.cmsg_level = level;
                    control.cmsg_type = kind;
                    control.cmsg_len = libc::CMSG_LEN(size as libc::c_uint) as usize;
                    ptr::copy_nonoverlapping(value, libc::CMSG_DATA(next), size);
                    let space = libc::CMSG_SPACE(size as libc::c_uint) as usize;
                    length += space;
                    next = next.byte_add(space);
                }
            };
            match run.from {
                Some(IpAddr::V4(ip)) => {
                    let info = libc::in_pktinfo {
                        ipi_ifindex: 0,
                        ipi_spec_dst: libc::in_addr {
                            s_addr: u32::from_ne_bytes(ip.octets()),
                        },
                        ipi_addr: libc::in_addr { s_addr: 0 },
                    };
                    put(
                        libc::IPPROTO_IP,
                        libc::IP_PKTINFO,
                        (&raw const info).cast(),
                        size_of_val(&info),
                    );
                }
                Some(IpAddr::V6(ip)) => {
                    let info = libc::in6_pktinfo {
                        ipi6_addr: libc::in6_addr {
                            s6_addr: ip.octets(),
                        },
                        ipi6_ifindex: 0,
                    };
                    put(
                        libc::IPPROTO_IPV6,
                        libc::IPV6_PKTINFO,
                        (&raw const info).cast(),
                        size_of_val(&info),
                    );
                }
                None => {}
            }
            if let Some(segment) = segment {
                put(
                    libc::SOL_UDP,
                    libc::UDP_SEGMENT,
                    (&raw const segment).cast(),
                    size_of_val(&segment),
                );
            }
            header.msg_controllen = length;
        }
    }
}

impl Run {
    /// Whether a further slot may go with it: all datagrams but the last have one length.
    fn takes(&self, length: usize, segment: Option<usize>) -> bool {
        let is_even = self.segment > 0 && self.bytes.is_multiple_of(self.segment);
        is_even
            && self.segment <= MERGED
            && (1..=self.segment).contains(&segment.unwrap_or(length))
            && segment.is_none_or(|segment| segment == self.segment)
            && self.bytes + length <= MESSAGE
            && (self.bytes + length).div_ceil(self.segment) <= SEGMENTS
    }

    fn datagrams(&self) -> usize {
        self.bytes.div_ceil(self.segment.max(1)).max(1)
    }
}

/// Asks for the local address of each datagram (ip(7), ipv6(7)).
pub(crate) fn tell_destination(socket: &impl AsFd, family: IpAddr) -> io::Result<()> {
    match family {
        IpAddr::V4(_) => switch_on(socket, libc::IPPROTO_IP, libc::IP_PKTINFO),
        IpAddr::V6(_) => switch_on(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
    }
}

/// Lets the kernel put datagrams of one sender together (udp(7), `UDP_GRO`, since Linux 5.0).
pub(crate) fn put_together(socket: &impl AsFd) -> io::Result<()> {
    switch_on(socket, libc::SOL_UDP, libc::UDP_GRO)
}

fn switch_on(socket: &impl AsFd, level: libc::c_int, name: libc::c_int) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the descriptor is borrowed for the call, and the value is an int of the size given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn ipv4(address: libc::in_addr) -> Ipv4Addr {
    Ipv4Addr::from(address.s_addr.to_ne_bytes())
}

fn socket_address(name: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match libc::c_int::from(name.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that this is a `sockaddr_in`, which is smaller and aligned less.
            let name = unsafe { &*ptr::from_ref(name).cast::<libc::sockaddr_in>() };
            let port = u16::from_be(name.sin_port);
            Some(SocketAddrV4::new(ipv4(name.sin_addr), port).into())
        }
        libc::AF_INET6 => {
            // SAFETY: the family says that this is a `sockaddr_in6`, which is smaller and aligned less.
            let name = unsafe { &*ptr::from_ref(name).cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(name.sin6_addr.s6_addr);
            let port = u16::from_be(name.sin6_port);
            Some(SocketAddrV6::new(ip, port, 0, name.sin6_scope_id).into())
        }
        _ => None,
    }
}

fn write_address(name: &mut libc::sockaddr_storage, address: SocketAddr) -> libc::socklen_t {
    match address {
        SocketAddr::V4(address) => {
            let value = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: address.port().to_be(),
                sin_addr: libc::in_addr {
                    s_addr: u32::from_ne_bytes(address.ip().octets()),
                },
                sin_zero: [0; 8],
            };
            // SAFETY: a `sockaddr_storage` has room for every kind of address, and aligns for it.
            unsafe { ptr::from_mut(name).cast::<libc::sockaddr_in>().write(value) };
            size_of_val(&value) as libc::socklen_t
        }
        SocketAddr::V6(address) => {
            let value = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: address.port().to_be(),
                sin6_flowinfo: 0,
                sin6_addr: libc::in6_addr {
                    s6_addr: address.ip().octets(),
                },
                sin6_scope_id: address.scope_id(),
            };
            // SAFETY: a `sockaddr_storage` has room for every kind of address, and aligns for it.
            unsafe {
                ptr::from_mut(name)
                    .cast::<libc::sockaddr_in6>()
                    .write(value);
            };
            size_of_val(&value) as libc::socklen_t
        }
    }
}

#[cfg(test)]
mod tests;
