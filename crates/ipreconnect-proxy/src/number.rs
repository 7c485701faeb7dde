//! Which worker runs this thread.

use std::cell::Cell;

thread_local! {
    static NUMBER: Cell<(u16, u16)> = const { Cell::new((0, 1)) };
}

/// Names the worker of this thread, one of so many.
pub(crate) fn set(number: u16, of: u16) {
    NUMBER.set((number, of.max(1)));
}

/// The number of the worker that runs this.
pub(crate) fn get() -> u16 {
    NUMBER.get().0
}

/// This worker's part of what all may have together: at least one.
pub(crate) fn part(all: u64) -> u64 {
    let (number, of) = NUMBER.get();
    let extra = u64::from(u64::from(number) < all % u64::from(of));
    (all / u64::from(of) + extra).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_make_up_the_whole() {
        for of in 1..9 {
            for all in 1..40 {
                let parts = (0..of).map(|number| {
                    set(number, of);
                    part(all)
                });
                assert_eq!(parts.sum::<u64>(), all.max(of.into()), "{all} for {of}");
            }
        }
        set(0, 1);
    }
}
