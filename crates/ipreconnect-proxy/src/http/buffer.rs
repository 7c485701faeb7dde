//! Buffers that the worker's exchanges use in turns. An idle connection holds none.

use std::cell::RefCell;

use ipreconnect::core::http::{RequestHead, ResponseHead};

/// A new buffer has room for so much.
const ROOM: usize = 8 * 1024;
/// What has grown beyond this is not kept.
const LARGEST: usize = 64 * 1024;
/// Kept of each kind for the next exchange.
const KEPT: usize = 128;

thread_local! {
    static BYTES: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
    #[expect(clippy::vec_box, reason = "heads go in and out with every request, and are large")]
    static REQUESTS: RefCell<Vec<Box<RequestHead>>> = const { RefCell::new(Vec::new()) };
    #[expect(clippy::vec_box, reason = "heads go in and out with every request, and are large")]
    static RESPONSES: RefCell<Vec<Box<ResponseHead>>> = const { RefCell::new(Vec::new()) };
}

/// An empty buffer.
pub(super) fn bytes() -> Vec<u8> {
    BYTES
        .with_borrow_mut(Vec::pop)
        .unwrap_or_else(|| Vec::with_capacity(ROOM))
}

/// Gives a buffer back.
pub(super) fn give_bytes(mut bytes: Vec<u8>) {
    if bytes.capacity() == 0 || bytes.capacity() > LARGEST {
        return;
    }
    bytes.clear();
    BYTES.with_borrow_mut(|kept| {
        if kept.len() < KEPT {
            kept.push(bytes);
        }
    });
}

/// A head to parse into.
pub(super) fn request() -> Box<RequestHead> {
    REQUESTS.with_borrow_mut(Vec::pop).unwrap_or_default()
}

/// Gives it back.
pub(super) fn give_request(head: Box<RequestHead>) {
    REQUESTS.with_borrow_mut(|kept| {
        if kept.len() < KEPT {
            kept.push(head);
        }
    });
}

/// A head to parse into.
pub(super) fn response() -> Box<ResponseHead> {
    RESPONSES.with_borrow_mut(Vec::pop).unwrap_or_default()
}

/// Gives it back.
pub(super) fn give_response(head: Box<ResponseHead>) {
    RESPONSES.with_borrow_mut(|kept| {
        if kept.len() < KEPT {
            kept.push(head);
        }
    });
}
