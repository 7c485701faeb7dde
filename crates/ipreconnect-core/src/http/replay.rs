//! What may be sent a second time.
//!
//! A request that is meant to be the same twice may be sent twice. Any other one only on proof that it
//! was not processed. What proves that is little: that nothing of it left this machine, that the peer
//! had closed before the first byte, or the peer's own word. That the peer has not acknowledged
//! anything proves nothing: acknowledgements are late by nature.

use super::method::Method;

/// What is known of a request whose connection was lost before an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The origin has not processed it, provably.
    NotProcessed,
    /// It may have been processed, or not.
    Unknown,
}

/// Whether the client says that the origin recognises a repetition (`Idempotency-Key`), and whether
/// that counts here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// It does not say so, or that does not count here.
    None,
    /// It does. Another endpoint need not know of it.
    Counts,
}

/// Whether a request may be sent once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replay {
    /// To any endpoint; nothing was processed, so that it is no load either.
    Free,
    /// To any endpoint, within the budget.
    Anywhere,
    /// To the same endpoint only, within the budget.
    SameEndpoint,
    /// No: the client has to decide.
    Never,
}

/// Decides. What is needed beside it is that the body can be sent again, and that nothing of an answer
/// has reached the client.
#[must_use]
pub fn replay(method: Method, outcome: Outcome, key: Key) -> Replay {
    match (outcome, method.is_idempotent(), key) {
        (Outcome::NotProcessed, _, _) => Replay::Free,
        (Outcome::Unknown, true, _) => Replay::Anywhere,
        (Outcome::Unknown, false, Key::Counts) => Replay::SameEndpoint,
        (Outcome::Unknown, false, Key::None) => Replay::Never,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_proven_or_idempotent_is_sent_again() {
        use Outcome::{NotProcessed, Unknown};
        assert_eq!(replay(Method::Get, Unknown, Key::None), Replay::Anywhere);
        assert_eq!(replay(Method::Put, Unknown, Key::None), Replay::Anywhere);
        assert_eq!(replay(Method::Post, Unknown, Key::None), Replay::Never);
        assert_eq!(replay(Method::Other, Unknown, Key::None), Replay::Never);
        assert_eq!(replay(Method::Post, NotProcessed, Key::None), Replay::Free);
        assert_eq!(
            replay(Method::Patch, Unknown, Key::Counts),
            Replay::SameEndpoint
        );
    }
}
