//! The one schedule by which an origin's lost endpoints are tried again.
//!
//! The backoff runs by itself. Clients that wait make it denser, never longer: an answered failure is
//! tried again after [`RETRY`], a silent one beside the attempts that hang after [`FRESH`]. However
//! many clients wait, there is one schedule.

use std::time::{Duration, Instant};

use crate::backoff::{Backoff, BackoffSettings};
use crate::dice::Dice;
use crate::hold::{FRESH, RETRY};

/// Whether somebody needs the origin now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Demand {
    /// Another endpoint serves; lost ones are tried at least this often.
    Served(Duration),
    /// Nobody waits.
    Idle,
    /// Clients wait.
    Waiting,
}

/// What the schedule says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    NotYet,
    /// Try every lost endpoint now.
    Now,
    /// The attempts are used up, as of now.
    GivenUp,
}

#[derive(Debug)]
pub(super) struct Round {
    backoff: Backoff,
    due: Option<Instant>,
    fired: Option<Instant>,
    answered: bool,
    given_up: bool,
}

impl Round {
    pub(super) fn new(settings: BackoffSettings) -> Self {
        Self {
            backoff: Backoff::new(settings),
            due: None,
            fired: None,
            answered: false,
            given_up: false,
        }
    }

    /// A success: the next loss begins anew, with an immediate attempt.
    pub(super) fn reset(&mut self) {
        self.backoff.reset();
        self.due = None;
        self.answered = false;
        self.given_up = false;
    }

    /// The attempt of this round was answered by a failure, so the next one costs little.
    pub(super) fn answered(&mut self) {
        self.answered = true;
    }

    pub(super) fn is_given_up(&self) -> bool {
        self.given_up
    }

    pub(super) fn attempts(&self) -> u32 {
        self.backoff.attempt()
    }

    /// Says whether to try now, and takes the turn.
    pub(super) fn turn(&mut self, now: Instant, demand: Demand, dice: &mut Dice) -> Turn {
        if self.given_up {
            return Turn::NotYet;
        }
        if self.due.is_none() && !self.schedule(now, dice) {
            return Turn::GivenUp;
        }
        if self.next(demand).is_none_or(|next| now < next) {
            return Turn::NotYet;
        }
        self.fired = Some(now);
        self.answered = false;
        if self.due.is_some_and(|due| now >= due) && !self.schedule(now, dice) {
            return Turn::GivenUp;
        }
        Turn::Now
    }

    /// When the next turn is.
    pub(super) fn next(&self, demand: Demand) -> Option<Instant> {
        if self.given_up {
            return None;
        }
        let due = self.due?;
        let Some(fired) = self.fired else {
            return Some(due);
        };
        Some(match demand {
            Demand::Idle => due,
            Demand::Served(interval) => due.min(fired + interval),
            Demand::Waiting if self.answered => due.min(fired + RETRY),
            Demand::Waiting => due.min(fired + FRESH),
        })
    }

    fn schedule(&mut self, now: Instant, dice: &mut Dice) -> bool {
        match self.backoff.next(dice) {
            Some(delay) => {
                self.due = now.checked_add(delay);
                true
            }
            None => {
                self.due = None;
                self.given_up = true;
                false
            }
        }
    }
}
