use super::{Gate, Opening, Part};
use crate::link::Way;

/// The link stands still.
pub(in crate::link) struct Freeze;

impl Part for Freeze {
    fn opening(&self) -> Opening {
        Opening::Held
    }

    fn gate(&self, _way: Way) -> Gate {
        Gate::Shut
    }
}
