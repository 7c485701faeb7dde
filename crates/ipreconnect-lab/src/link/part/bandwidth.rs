use super::{EachWay, Freight, PIECE, Part, Passage, later};
use std::num::NonZeroU64;
use std::time::Duration;
use tokio::time::Instant;

/// What the bucket holds when it is full, and what is read at once: small against what people and
/// timeouts notice, large against the clock's tick.
const BURST: Duration = Duration::from_millis(20);

/// A rate that bytes cannot exceed, for each way.
pub(in crate::link) struct Bandwidth {
    rate: NonZeroU64,
    buckets: EachWay<TokenBucket>,
}

impl Bandwidth {
    pub(in crate::link) fn new(rate: NonZeroU64) -> Self {
        Self {
            rate,
            buckets: EachWay {
                to_origin: TokenBucket::full(rate),
                to_client: TokenBucket::full(rate),
            },
        }
    }
}

impl Part for Bandwidth {
    fn bite(&self) -> usize {
        let burst = u128::from(self.rate.get()) * BURST.as_millis() / 1000;
        usize::try_from(burst).map_or(PIECE, |bytes| bytes.clamp(1, PIECE))
    }

    fn pass(&mut self, passage: &mut Passage) {
        if let Freight::Bytes(bytes) = passage.freight {
            let through = self.buckets.of(passage.way).take(passage.now, bytes);
            passage.due = passage.due.max(through);
            // A stream waits at its sender, as behind a closed window, and not in the link.
            passage.resume = passage.resume.max(through);
        }
    }
}

/// A token bucket, kept as the time at which it is full again: nothing to refill, nothing to round.
pub(super) struct TokenBucket {
    rate: NonZeroU64,
    full_at: Option<Instant>,
}

impl TokenBucket {
    pub(super) fn full(rate: NonZeroU64) -> Self {
        Self {
            rate,
            full_at: None,
        }
    }

    /// Takes the tokens of so many bytes, on credit if need be, and says when the debt is paid: when
    /// the bytes may go.
    ///
    /// Over any time `t`, at most `rate * (t + 20 ms)` bytes go, and one piece.
    pub(super) fn take(&mut self, now: Instant, bytes: usize) -> Instant {
        let from = self.full_at.map_or(now, |full_at| full_at.max(now));
        let full_at = later(from, self.time_for(bytes));
        self.full_at = Some(full_at);
        full_at.checked_sub(BURST).map_or(now, |paid| paid.max(now))
    }

    fn time_for(&self, bytes: usize) -> Duration {
        let nanos = (bytes as u128 * 1_000_000_000).div_ceil(u128::from(self.rate.get()));
        u64::try_from(nanos).map_or(Duration::MAX, Duration::from_nanos)
    }
}
