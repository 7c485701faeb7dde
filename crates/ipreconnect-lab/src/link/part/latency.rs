use super::{Part, Passage};
use std::time::Duration;

/// Everything comes later by the same time.
pub(in crate::link) struct Latency(Duration);

impl Latency {
    pub(in crate::link) fn new(by: Duration) -> Self {
        Self(by)
    }
}

impl Part for Latency {
    fn pass(&mut self, passage: &mut Passage) {
        passage.delay(self.0);
    }
}
