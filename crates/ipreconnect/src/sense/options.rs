//! Socket options that no safe wrapper covers. All `unsafe` of the library is here.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Sets `IP_BIND_ADDRESS_NO_PORT` (ip(7)): a bind to an address alone keeps the choice of the port
/// for the time of connecting, when the destination is known.
pub(crate) fn bind_address_no_port(socket: &impl AsFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the descriptor is borrowed for the call, and the value is an int of the size given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
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

/// Sets `IP_LOCAL_PORT_RANGE` (ip(7), Linux 6.3): the ports that the kernel chooses from for this socket.
pub(crate) fn local_port_range(socket: &impl AsFd, first: u16, last: u16) -> io::Result<()> {
    /// Of `linux/in.h`, for both families.
    const IP_LOCAL_PORT_RANGE: libc::c_int = 51;
    let range = u32::from(last) << 16 | u32::from(first);
    // SAFETY: the descriptor is borrowed for the call, and the value is a number of the size given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_IP,
            IP_LOCAL_PORT_RANGE,
            (&raw const range).cast(),
            size_of_val(&range) as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Sets `SO_MAX_PACING_RATE` (socket(7)): the kernel sends no more than so many bytes a second.
///
/// # Errors
/// Those of the system.
pub fn max_pacing_rate(socket: &impl AsFd, rate: u64) -> io::Result<()> {
    // SAFETY: the descriptor is borrowed for the call, and the value is a number of the size given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MAX_PACING_RATE,
            (&raw const rate).cast(),
            size_of_val(&rate) as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Reads `TCP_INFO` (tcp(7)) into `buffer` and says how much of it the kernel filled.
pub(crate) fn tcp_info(socket: &impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = libc::socklen_t::try_from(buffer.len()).unwrap_or(libc::socklen_t::MAX);
    // SAFETY: the descriptor is borrowed for the call, and the kernel writes at most `length` bytes
    // into the buffer, which is that long.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            buffer.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result == 0 {
        Ok(length as usize)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Reads `SO_PEERCRED` (unix(7)): the effective user id of whoever connected, when it did.
pub(crate) fn peer_user(socket: &impl AsFd) -> io::Result<u32> {
    let mut peer = libc::ucred {
        pid: 0,
        uid: u32::MAX,
        gid: u32::MAX,
    };
    let mut length = size_of_val(&peer) as libc::socklen_t;
    // SAFETY: the descriptor is borrowed for the call, and the kernel writes at most `length` bytes, which is
    // the size of the value; every bit pattern of it is valid.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &raw mut length,
        )
    };
    if result == 0 && length as usize == size_of_val(&peer) && peer.uid != u32::MAX {
        Ok(peer.uid)
    } else {
        Err(io::Error::last_os_error())
    }
}
