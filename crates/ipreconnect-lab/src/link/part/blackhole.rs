use super::{Gate, Opening, Part};
use crate::link::{Direction, Way};

/// What goes this direction vanishes. A handshake needs both ways, so none completes.
pub(in crate::link) struct Blackhole(Direction);

impl Blackhole {
    pub(in crate::link) fn new(direction: Direction) -> Self {
        Self(direction)
    }
}

impl Part for Blackhole {
    fn opening(&self) -> Opening {
        Opening::Held
    }

    fn gate(&self, way: Way) -> Gate {
        if self.0.includes(way) {
            Gate::Cut
        } else {
            Gate::Open
        }
    }
}
