use super::dice::{Dice, dice};
use super::{Carrier, Fate, Freight, Part, Passage};
use std::time::Duration;

/// The smallest retransmission time-out of Linux, `TCP_RTO_MIN`.
const RETRANSMISSION: Duration = Duration::from_millis(200);

/// A share of what passes is hit: a datagram is gone, a piece of a stream is sent again.
pub(in crate::link) struct Loss {
    percent: u8,
    dice: Dice,
}

impl Loss {
    pub(in crate::link) fn new(percent: u8, seed: u64) -> Self {
        Self {
            percent,
            dice: dice(seed),
        }
    }
}

impl Part for Loss {
    fn pass(&mut self, passage: &mut Passage) {
        let hit = self.dice.of(passage.way).u8(0..100) < self.percent;
        match (hit, passage.carrier, passage.freight) {
            (false, _, _) | (_, Carrier::Stream, Freight::End) => {}
            (true, Carrier::Stream, Freight::Bytes(_)) => passage.delay(RETRANSMISSION),
            (true, Carrier::Datagrams, _) => passage.fate = Fate::Lost,
        }
    }
}
