//! The race of one connect: whom to dial, and when to dial the next one too.
//!
//! Happy Eyeballs (RFC 8305, section 5) inside one priority; a backup joins when two independent
//! dials failed or when a dial hangs for longer than its path's history allows. A single lost SYN is
//! not evidence: a lone endpoint is dialled a second time before a backup is. The race knows nothing
//! of sockets, and "proven" is whatever the dialler says it is: an attempt that connected but is not
//! proven yet is still running.

use std::time::{Duration, Instant};

/// One that may be dialled, in the order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entrant {
    /// Its priority; 0 is preferred. Entrants come sorted by it.
    pub priority: u32,
    /// How long a dial to it may take before it counts as hanging.
    pub hangs_after: Duration,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Dial that entrant (an index), now, beside the attempts that run.
    Dial(usize),
    /// Nothing until then, unless an attempt ends before.
    Wait(Instant),
    /// Nothing until an attempt ends.
    WaitForAttempts,
    /// Every entrant failed.
    Lost,
}

/// One race. It ends by its owner: with the first proven attempt, or with [`Step::Lost`].
#[derive(Debug)]
pub struct Race {
    entrants: Vec<Entrant>,
    attempt_delay: Duration,
    /// Entrants of one priority: `entrants[group.start..group.end]`.
    group: Group,
    running: u32,
}

#[derive(Clone, Copy, Debug)]
struct Group {
    start: usize,
    end: usize,
    dialled: u32,
    failed: u32,
    opened: Instant,
    last_dial: Option<Instant>,
}

impl Group {
    fn at(entrants: &[Entrant], start: usize, now: Instant) -> Self {
        let priority = entrants.get(start).map(|entrant| entrant.priority);
        let end = entrants
            .iter()
            .skip(start)
            .position(|entrant| Some(entrant.priority) != priority)
            .map_or(entrants.len(), |length| start + length);
        Self {
            start,
            end,
            dialled: 0,
            failed: 0,
            opened: now,
            last_dial: None,
        }
    }

    /// Dials that this group gets: each entrant once, a lone one twice.
    fn quota(&self) -> u32 {
        u32::try_from(self.end - self.start)
            .unwrap_or(u32::MAX)
            .max(2)
    }
}

impl Race {
    /// A race among `entrants`, sorted by priority, that begins now.
    #[must_use]
    pub fn new(entrants: Vec<Entrant>, attempt_delay: Duration, now: Instant) -> Self {
        let group = Group::at(&entrants, 0, now);
        Self {
            entrants,
            attempt_delay,
            group,
            running: 0,
        }
    }

    /// Takes the failure of one attempt that [`Step::Dial`] had asked for.
    pub fn failed(&mut self, entrant: usize) {
        self.running = self.running.saturating_sub(1);
        if (self.group.start..self.group.end).contains(&entrant) {
            self.group.failed += 1;
            // A failure frees the next dial at once (RFC 8305, section 5).
            self.group.last_dial = None;
        }
    }

    /// Says what to do now. After [`Step::Dial`], ask again.
    pub fn step(&mut self, now: Instant) -> Step {
        loop {
            let Some(first) = self.entrants.get(self.group.start).copied() else {
                return self.idle();
            };
            let overdue = self.group.opened + first.hangs_after;
            let left = self.group.quota() > self.group.dialled;
            let last_group = self.group.end == self.entrants.len();
            if self.group.failed >= 2 || (now >= overdue && self.group.dialled > 0 && !last_group) {
                if last_group && left {
                    return self.dial_when_due(now, first, None);
                }
                if last_group {
                    return self.idle();
                }
                self.group = Group::at(&self.entrants, self.group.end, now);
                continue;
            }
            if left {
                return self.dial_when_due(now, first, (!last_group).then_some(overdue));
            }
            if last_group || self.running == 0 && self.group.failed >= self.group.quota() {
                return self.idle();
            }
            return Step::Wait(overdue);
        }
    }

    fn dial_when_due(&mut self, now: Instant, first: Entrant, overdue: Option<Instant>) -> Step {
        let due = self
            .group
            .last_dial
            .map_or(now, |last| last + self.stagger(first));
        if now < due {
            return Step::Wait(overdue.map_or(due, |overdue| due.min(overdue)));
        }
        let length = self.group.end - self.group.start;
        let entrant = self.group.start + self.group.dialled as usize % length;
        self.group.dialled += 1;
        self.group.last_dial = Some(now);
        self.running += 1;
        Step::Dial(entrant)
    }

    /// A lone endpoint gets its second SYN at half of what counts as hanging, so that one lost packet
    /// costs neither a retransmission timeout nor a failover.
    fn stagger(&self, entrant: Entrant) -> Duration {
        self.attempt_delay.min(entrant.hangs_after / 2)
    }

    fn idle(&self) -> Step {
        if self.running == 0 {
            Step::Lost
        } else {
            Step::WaitForAttempts
        }
    }
}

#[cfg(test)]
mod tests;
