use super::{Gate, Part};
use crate::link::Way;

/// One way is cut, after the handshake.
pub(in crate::link) struct HalfOpen(Way);

impl HalfOpen {
    pub(in crate::link) fn new(way: Way) -> Self {
        Self(way)
    }
}

impl Part for HalfOpen {
    fn gate(&self, way: Way) -> Gate {
        if self.0 == way { Gate::Cut } else { Gate::Open }
    }
}
