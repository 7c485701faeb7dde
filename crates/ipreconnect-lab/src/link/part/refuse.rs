use super::{Opening, Part};

/// The port is closed.
pub(in crate::link) struct Refuse;

impl Part for Refuse {
    fn opening(&self) -> Opening {
        Opening::Refused
    }
}
