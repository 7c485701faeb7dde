//! The time of day, as answers tell it (RFC 9110, section 5.6.7).

use std::cell::RefCell;
use std::time::{Duration, UNIX_EPOCH};

use ipreconnect::clock;

thread_local! {
    /// The second that was written last, and how.
    static LAST: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) };
}

/// The value of `Date`, which is written once a second.
pub(super) fn now() -> String {
    with(str::to_owned)
}

/// The same, to look at.
pub(super) fn with<T>(with: impl FnOnce(&str) -> T) -> T {
    let second = clock::since_unix().as_secs();
    LAST.with_borrow_mut(|(last, text)| {
        if *last != second || text.is_empty() {
            *last = second;
            *text = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(second));
        }
        with(text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_same_for_a_second() {
        let text = now();
        assert_eq!(text.len(), "Sun, 06 Nov 1994 08:49:37 GMT".len());
        assert!(httpdate::parse_http_date(&text).is_ok());
    }
}
