//! How an application has used a server while somebody looked.

use std::time::Duration;

/// A connection within this time of the start was made at the start.
const START: Duration = Duration::from_secs(10);
/// One that comes within this time after another one has ended takes its place.
const AGAIN: Duration = Duration::from_secs(5);

/// What was seen of one server's connections. Times are since the application was started, or since somebody looks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    first: Option<Duration>,
    /// Connections that were opened.
    opened: u32,
    open: u32,
    /// Since when at least one is open.
    since: Option<Duration>,
    /// For how long at least one was.
    held: Duration,
    /// When the last one ended.
    ended: Option<Duration>,
    again: u32,
}

/// Why a server looks required, or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Why {
    /// It was connected to when the application was started.
    pub at_start: bool,
    /// A connection was open for most of the time.
    pub held: bool,
    /// A connection that ended was followed by another one.
    pub again: bool,
}

impl Observed {
    /// A connection is there that was not.
    pub fn opened(&mut self, at: Duration) {
        self.first.get_or_insert(at);
        self.opened += 1;
        if self.open == 0 {
            self.since = Some(at);
            if self
                .ended
                .is_some_and(|ended| at.saturating_sub(ended) <= AGAIN)
            {
                self.again += 1;
            }
        }
        self.open += 1;
    }

    /// A connection is not there any more.
    pub fn ended(&mut self, at: Duration) {
        self.open = self.open.saturating_sub(1);
        self.ended = Some(at);
        if self.open == 0
            && let Some(since) = self.since.take()
        {
            self.held += at.saturating_sub(since);
        }
    }

    /// Connections that were opened.
    #[must_use]
    pub fn connections(&self) -> u32 {
        self.opened
    }

    /// What it looks like at a time.
    #[must_use]
    pub fn why(&self, now: Duration) -> Why {
        let open = self
            .since
            .map_or(Duration::ZERO, |since| now.saturating_sub(since));
        Why {
            at_start: self.first.is_some_and(|first| first <= START),
            held: self.opened > 0 && (self.held + open) * 2 >= now,
            again: self.again > 0,
        }
    }
}

impl Why {
    /// Whether the application looks as if it could not do without.
    #[must_use]
    pub fn is_required(self) -> bool {
        usize::from(self.at_start) + usize::from(self.held) + usize::from(self.again) >= 2
    }

    /// In words.
    #[must_use]
    pub fn words(self) -> String {
        let parts = [
            (self.at_start, "connected at the start"),
            (self.held, "held open"),
            (self.again, "connected again when it was lost"),
        ];
        let words: Vec<&str> = parts
            .iter()
            .filter(|(is_so, _)| *is_so)
            .map(|(_, words)| *words)
            .collect();
        match words.as_slice() {
            [] => "connected to now and then".to_owned(),
            some => some.join(", "),
        }
    }
}
