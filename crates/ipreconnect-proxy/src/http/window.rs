//! What has come of a request's body, as it stands on the wire, for as long as it may be needed.

/// Kept of one body, so that it can be sent again.
const KEPT: usize = 64 * 1024;

/// A part of a body: all from the beginning while that is not too much, else what is not sent yet.
#[derive(Debug, Default)]
pub(super) struct Window {
    bytes: Vec<u8>,
    /// What was there before.
    gone: u64,
}

impl Window {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// What comes at `position`.
    pub(super) fn from(&self, position: u64) -> &[u8] {
        let at = usize::try_from(position.saturating_sub(self.gone)).unwrap_or(usize::MAX);
        self.bytes.get(at..).unwrap_or_default()
    }

    /// Where it ends.
    pub(super) fn end(&self) -> u64 {
        self.gone + self.bytes.len() as u64
    }

    /// Whether it still begins at the beginning.
    pub(super) fn is_whole(&self) -> bool {
        self.gone == 0
    }

    /// Whether more may be put into it before something of it is sent.
    pub(super) fn has_room(&self) -> bool {
        self.bytes.len() < KEPT
    }

    /// All up to `position` was sent: lets go of what is too much to keep.
    pub(super) fn sent(&mut self, position: u64) {
        if self.has_room() {
            return;
        }
        let count = usize::try_from(position.saturating_sub(self.gone)).unwrap_or(usize::MAX);
        let count = count.min(self.bytes.len());
        self.bytes.drain(..count);
        self.gone += count as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_body_can_be_sent_again_and_a_large_one_goes_through() {
        let mut window = Window::default();
        window.push(b"abc");
        window.sent(3);
        assert!(window.is_whole());
        assert_eq!(window.from(1), b"bc");
        window.push(&vec![b'x'; KEPT]);
        assert!(!window.has_room());
        window.sent(10);
        assert!(!window.is_whole());
        assert_eq!(window.from(10).len(), KEPT - 7);
        window.sent(window.end());
        assert_eq!(window.from(window.end()), b"");
        assert!(window.has_room());
    }
}
