//! The race of one connect: whom to dial, and when to dial the next one too.
//!
//! Happy Eyeballs (RFC 8305, section 5) inside one rank; a backup joins when two independent
//! dials failed or when a dial hangs for longer than its path's history allows. A single lost SYN is
//! not evidence: a lone endpoint is dialled a second time before a backup is. The race knows nothing
//! of sockets, and "proven" is whatever the dialler says it is: an attempt that connected but is not
//! proven yet is still running.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::balance::Standing;

/// One that may be dialled, in the order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entrant {
    /// Its rank: who is worth more is dialled first. See [`rank`].
    pub rank: u64,
    /// How long a dial to it may take before it counts as hanging.
    pub hangs_after: Duration,
}

/// The rank of an endpoint: a good backup comes before a doubtful one that is preferred.
#[must_use]
pub fn rank(standing: Standing, priority: u32) -> u64 {
    let by_standing = match standing {
        Standing::Good => 0,
        Standing::Doubtful => 1,
        Standing::Bad => 2,
    };
    (by_standing << u32::BITS) | u64::from(priority)
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
    group: Option<Group>,
    running: u32,
}

/// Those who are dialled now: the entrants of one rank, and who joined or was left over.
#[derive(Debug)]
struct Group {
    rank: u64,
    hangs_after: Duration,
    queue: VecDeque<usize>,
    /// The entrant that is dialled twice, being alone.
    lone: Option<usize>,
    dialled: u32,
    failed: u32,
    opened: Instant,
    last_dial: Option<Instant>,
}

impl Group {
    /// The group of that rank; each entrant is dialled once, a lone one twice.
    fn open(entrants: &[Entrant], rank: u64, now: Instant) -> Option<Self> {
        let of_group = |entrant: &Entrant| entrant.rank == rank;
        let members = entrants.iter().enumerate().filter(|(_, e)| of_group(e));
        let mut queue: VecDeque<usize> = members.map(|(index, _)| index).collect();
        let first = *queue.front()?;
        let lone = (queue.len() == 1).then_some(first);
        queue.extend(lone);
        Some(Self {
            rank,
            hangs_after: entrants.get(first)?.hangs_after,
            queue,
            lone,
            dialled: 0,
            failed: 0,
            opened: now,
            last_dial: None,
        })
    }
}

impl Race {
    /// A race among `entrants` that begins now. Inside one rank the first is preferred.
    #[must_use]
    pub fn new(entrants: Vec<Entrant>, attempt_delay: Duration, now: Instant) -> Self {
        let best = entrants.iter().map(|entrant| entrant.rank).min();
        let group = best.and_then(|best| Group::open(&entrants, best, now));
        Self {
            entrants,
            attempt_delay,
            group,
            running: 0,
        }
    }

    /// Somebody joins while the race runs; returns its index. One that is no worse than those who are
    /// dialled now is the next to be dialled (RFC 8305, section 3).
    pub fn join(&mut self, now: Instant, entrant: Entrant) -> usize {
        let index = self.entrants.len();
        self.entrants.push(entrant);
        match &mut self.group {
            Some(group) if entrant.rank <= group.rank => group.queue.push_front(index),
            Some(_) => {}
            None => self.group = Group::open(&self.entrants, entrant.rank, now),
        }
        index
    }

    /// Takes the failure of one attempt that [`Step::Dial`] had asked for.
    pub fn failed(&mut self, entrant: usize) {
        self.running = self.running.saturating_sub(1);
        let failed = self.entrants.get(entrant).map(|entrant| entrant.rank);
        if let Some(group) = &mut self.group {
            group.failed += u32::from(failed == Some(group.rank));
            // A failure frees the next dial at once (RFC 8305, section 5).
            group.last_dial = None;
        }
    }

    /// Takes the proof that an entrant is another server than it must be: it is not dialled again in
    /// this race, and needs no second witness.
    pub fn refused(&mut self, entrant: usize) {
        self.failed(entrant);
        let rank = self.entrants.get(entrant).map(|entrant| entrant.rank);
        if let Some(group) = &mut self.group {
            group.queue.retain(|queued| *queued != entrant);
            group.failed += u32::from(rank == Some(group.rank));
        }
    }

    /// Says what to do now. After [`Step::Dial`], ask again.
    pub fn step(&mut self, now: Instant) -> Step {
        loop {
            let next = self.next_rank();
            let Some(group) = &self.group else {
                return self.idle();
            };
            let overdue = group.opened + group.hangs_after;
            let is_doubtful = group.failed >= 2 || (now >= overdue && group.dialled > 0);
            match next {
                Some(rank) if is_doubtful => self.open(rank, now),
                _ if !group.queue.is_empty() => {
                    return self.dial_when_due(now, next.map(|_| overdue));
                }
                Some(_) => return Step::Wait(overdue),
                None => return self.idle(),
            }
        }
    }

    /// The best rank beyond the group's.
    fn next_rank(&self) -> Option<u64> {
        let current = self.group.as_ref()?.rank;
        let ranks = self.entrants.iter().map(|entrant| entrant.rank);
        ranks.filter(|rank| *rank > current).min()
    }

    /// The next group. Who was not dialled yet comes after it: every entrant gets its dial.
    fn open(&mut self, rank: u64, now: Instant) {
        let before = self.group.take();
        self.group = Group::open(&self.entrants, rank, now);
        if let (Some(group), Some(before)) = (&mut self.group, before) {
            let left = before.queue.into_iter();
            group
                .queue
                .extend(left.filter(|index| before.lone != Some(*index)));
        }
    }

    fn dial_when_due(&mut self, now: Instant, overdue: Option<Instant>) -> Step {
        let Some(group) = &mut self.group else {
            return self.idle();
        };
        // A lone endpoint gets its second SYN at half of what counts as hanging, so that one lost
        // packet costs neither a retransmission timeout nor a failover.
        let stagger = self.attempt_delay.min(group.hangs_after / 2);
        let due = group.last_dial.map_or(now, |last| last + stagger);
        if now < due {
            return Step::Wait(overdue.map_or(due, |overdue| due.min(overdue)));
        }
        let Some(entrant) = group.queue.pop_front() else {
            return self.idle();
        };
        group.dialled += 1;
        group.last_dial = Some(now);
        self.running += 1;
        Step::Dial(entrant)
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
