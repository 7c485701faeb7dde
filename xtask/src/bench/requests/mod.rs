//! What becomes of requests in a fault of their origin.

mod case;
mod load;
pub(crate) mod origin;
mod play;
mod table;

pub(crate) use case::Case;
pub(crate) use play::run as round;
