//! The program `ipreconnect`.
fn main() {}
