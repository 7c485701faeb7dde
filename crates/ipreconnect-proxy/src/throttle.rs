//! Bytes a second that many connections share.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use ipreconnect::clock;
use ipreconnect::core::rate::TokenBucket;
use tokio::time::Sleep;

use crate::crowd::{Crowd, Lanes};

/// Turns a second that use a rate up, if a turn carries neither less nor more than these bytes.
const TURNS: u64 = 50;
const LEAST: u64 = 1024;
const MOST: u64 = 64 * 1024;
/// Who waits longer looks again in between: the rates may be others by then.
const LOOK: Duration = Duration::from_secs(1);
/// Farther away than anybody waits.
const FAR: Duration = Duration::from_secs(24 * 3600);

#[derive(Clone, Copy, Debug)]
enum Way {
    ToOrigin,
    ToClient,
}

/// One direction of one connection, which shares a rate with others.
///
/// It carries first and pays afterwards: who has nothing to carry takes nothing from the others. It waits when it
/// has carried what a turn allows, so that all have the same part, whatever pieces they write.
#[derive(Debug)]
pub(crate) struct Throttle {
    crowd: Arc<Crowd>,
    source: Option<Arc<Lanes>>,
    way: Way,
    /// Carried since it waited last.
    carried: usize,
    /// What it waits for, and which change of the rates that was after.
    wait: Option<Wait>,
    /// Whether it waits, for those who carry something else over the same connection.
    waits: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Wait {
    until: Instant,
    changes: u32,
    sleep: Pin<Box<Sleep>>,
}

impl Throttle {
    /// Those of both directions, to the origin and to the client, where a rate is set.
    pub(crate) fn both(crowd: &Arc<Crowd>, source: Option<&Arc<Lanes>>) -> Option<Box<[Self; 2]>> {
        crowd.rates().iter().flatten().next()?;
        let one = |way| {
            let mut one = Self {
                crowd: Arc::clone(crowd),
                source: source.map(Arc::clone),
                way,
                carried: 0,
                wait: None,
                waits: Arc::default(),
            };
            // Nobody evades what is owed by coming anew.
            one.wait(one.pay(0));
            one
        };
        Some(Box::new([one(Way::ToOrigin), one(Way::ToClient)]))
    }

    /// What may be carried before it is paid.
    pub(crate) fn allowance(&self) -> usize {
        let least = self.crowd.rates().into_iter().flatten().min();
        let turn = least.map_or(MOST, |rate| rate.get() / TURNS);
        usize::try_from(turn.clamp(LEAST, MOST)).unwrap_or(usize::MAX)
    }

    /// Pays for what was carried.
    pub(crate) fn charge(&mut self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        let owed = self.pay(bytes as u64);
        self.carried = self.carried.saturating_add(bytes);
        if self.carried >= self.allowance() {
            self.carried = 0;
            self.wait(owed);
        }
    }

    /// Whether it has to wait before it carries more; it need not any more once [`poll`](Self::poll) was ready.
    pub(crate) fn is_waiting(&self) -> bool {
        self.wait.is_some()
    }

    /// The same for those who carry something else over the same connection.
    pub(crate) fn waits(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.waits)
    }

    /// Waits until more may be carried.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while let Some(wait) = &mut self.wait {
            if wait.changes != self.crowd.changes() {
                break;
            }
            ready!(wait.sleep.as_mut().poll(cx));
            let now = clock::now();
            if now >= wait.until {
                break;
            }
            wait.sleep.as_mut().reset(soon(now, wait.until).into());
        }
        if self.wait.take().is_some() {
            self.waits.store(false, Relaxed);
        }
        Poll::Ready(())
    }

    /// Pays for so many bytes wherever they count; returns what is owed then. Who pays for none owes what
    /// the others owe.
    fn pay(&self, bytes: u64) -> Duration {
        let now = clock::since_start(clock::now());
        let lanes = [Some(self.crowd.lanes()), self.source.as_deref()];
        let mut owed = Duration::ZERO;
        for (lanes, rate) in lanes.into_iter().zip(self.crowd.rates()) {
            if let (Some(lanes), Some(rate)) = (lanes, rate) {
                owed = owed.max(self.bucket(lanes).take(now, rate, bytes));
            }
        }
        owed
    }

    fn wait(&mut self, owed: Duration) {
        if owed.is_zero() {
            return;
        }
        let now = clock::now();
        let until = now + owed.min(FAR);
        self.wait = Some(Wait {
            until,
            changes: self.crowd.changes(),
            sleep: Box::pin(tokio::time::sleep_until(soon(now, until).into())),
        });
        self.waits.store(true, Relaxed);
    }

    fn bucket<'l>(&self, lanes: &'l Lanes) -> &'l TokenBucket {
        match self.way {
            Way::ToOrigin => &lanes.to_origin,
            Way::ToClient => &lanes.to_client,
        }
    }
}

/// When to look again.
fn soon(now: Instant, until: Instant) -> Instant {
    until.min(now + LOOK)
}
