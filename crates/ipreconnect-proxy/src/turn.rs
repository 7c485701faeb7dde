//! Turns: who has more to do lets others have theirs.

use std::future::Future;
use std::pin::pin;
use std::task::Context;

/// Has the task polled again, after others and after the runtime has looked at the sockets.
///
/// Waking the task at once would do the former only: a worker whose streams always have more to do
/// would look at its sockets once in 61 turns.
pub(crate) fn later(cx: &mut Context<'_>) {
    // Its first poll is never ready, and keeps the waker for after the look.
    let _ = pin!(tokio::task::yield_now()).poll(cx);
}
