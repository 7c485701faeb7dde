//! Which worker runs this thread.

use std::cell::Cell;

thread_local! {
    static NUMBER: Cell<u16> = const { Cell::new(0) };
}

/// Names the worker of this thread.
pub(crate) fn set(number: u16) {
    NUMBER.set(number);
}

/// The number of the worker that runs this.
pub(crate) fn get() -> u16 {
    NUMBER.get()
}
