use super::{Freight, Part, Passage};
use std::time::Duration;

/// The end of a stream comes later than it should.
pub(in crate::link) struct SlowClose(Duration);

impl SlowClose {
    pub(in crate::link) fn new(by: Duration) -> Self {
        Self(by)
    }
}

impl Part for SlowClose {
    fn pass(&mut self, passage: &mut Passage) {
        if passage.freight == Freight::End {
            passage.delay(self.0);
        }
    }
}
