//! Reading a client's first message without taking it.

use std::cell::RefCell;

use ipreconnect::core::hello::{self, Hello};
use ipreconnect::socket::Socket;
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use tokio::io::Interest;

thread_local! {
    static SHARED: RefCell<Box<[u8]>> = RefCell::new(vec![0; hello::LONGEST].into());
}

/// Waits for the whole of it; what was read stays in the kernel for whoever is next.
///
/// Cancel safety: nothing is lost.
pub(super) async fn hello(client: &Socket) -> Hello {
    loop {
        let Ok(mut guard) = client.ready(Interest::READABLE).await else {
            return Hello::More;
        };
        let ended = guard.ready().is_read_closed();
        let peeked = SHARED.with_borrow_mut(|shared| {
            let count = recv(client.get_ref(), &mut shared[..], RecvFlags::PEEK)?.1;
            let bytes = shared.get(..count).unwrap_or_default();
            Ok((count, hello::read(bytes)))
        });
        match peeked {
            Err(Errno::AGAIN) => guard.clear_ready(),
            Err(Errno::INTR) => {}
            Err(_) | Ok((0, _)) => return Hello::More,
            Ok((_, Hello::More)) if ended => return Hello::More,
            Ok((_, Hello::More)) => guard.clear_ready(),
            Ok((_, whole)) => return whole,
        }
    }
}
