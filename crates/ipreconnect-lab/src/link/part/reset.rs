use super::{Opening, Part};

/// Connections are reset. The board sees it come, and resets those that are open.
pub(in crate::link) struct Reset;

impl Part for Reset {
    fn opening(&self) -> Opening {
        Opening::Reset
    }
}
