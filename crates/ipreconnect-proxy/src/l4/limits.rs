//! The time limits of streams: nothing moves for the idle time, or bytes wait for the stall time.

use std::time::{Duration, Instant};

use ipreconnect::sense::tcp::{PathState, TcpPath};

use super::End;
use super::stream::Stream;
use crate::watch::Watched;

/// When a new stream may reach a limit; `None` if that is too far away to be told.
pub(super) fn first(stream: &Stream) -> Option<Instant> {
    let timeouts = stream.route.timeouts();
    stream.opened.checked_add(timeouts.idle.min(timeouts.stall))
}

/// Ends the stream if it has reached a limit; else returns when it may.
pub(super) fn enforce(stream: &Stream, now: Instant) -> Option<Instant> {
    let timeouts = stream.route.timeouts();
    let moved = stream.moved().unwrap_or(stream.opened);
    let still = now.saturating_duration_since(moved);
    if still >= timeouts.idle {
        stream.condemn(End::Idle);
        return None;
    }
    let idle = moved.checked_add(timeouts.idle);
    if still < timeouts.stall {
        let stall = moved.checked_add(timeouts.stall);
        return idle.into_iter().chain(stall).min();
    }
    match worst(stream, still, timeouts.stall) {
        PathState::Silent => {
            stream.condemn(End::Stalled);
            None
        }
        // Nothing can stall before something moves.
        PathState::Acknowledged => idle,
        PathState::Throttled | PathState::Underway => Some(now),
    }
}

/// The state of the worse of its two paths.
fn worst(stream: &Stream, still: Duration, allowed: Duration) -> PathState {
    let state = |socket| {
        // What is not TCP has no path that could fall silent.
        TcpPath::of(socket).map_or(PathState::Acknowledged, |path| path.state(still, allowed))
    };
    let rank = |state: &PathState| match state {
        PathState::Acknowledged => 0,
        PathState::Throttled => 1,
        PathState::Underway => 2,
        PathState::Silent => 3,
    };
    let (client, origin) = (
        state(stream.client.get_ref()),
        state(stream.origin.get_ref()),
    );
    std::cmp::max_by_key(client, origin, rank)
}
