//! The datagrams of one batch, by session: what one client sent is sent on together, in its order.

use super::batch::SLOTS;
use super::table::Key;

/// The slots of each session, as chains.
#[derive(Default)]
pub(super) struct Groups {
    /// Counts batches, so that what a session remembers of an earlier one does not count.
    batch: u64,
    groups: Vec<Group>,
    next: Vec<Option<u16>>,
}

struct Group {
    key: Key,
    first: u16,
    last: u16,
}

/// What a session remembers of a batch: its group.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mark {
    batch: u64,
    group: u16,
}

impl Groups {
    /// Begins a batch.
    pub(super) fn begin(&mut self) {
        self.batch += 1;
        self.groups.clear();
        self.next.clear();
        self.next.resize(SLOTS, None);
    }

    /// Adds a slot to the group of its session, whose mark that is.
    pub(super) fn add(&mut self, key: Key, slot: usize, mark: &mut Mark) {
        let Ok(slot) = u16::try_from(slot) else {
            return;
        };
        if mark.batch == self.batch
            && let Some(group) = self.groups.get_mut(usize::from(mark.group))
        {
            if let Some(next) = self.next.get_mut(usize::from(group.last)) {
                *next = Some(slot);
            }
            group.last = slot;
            return;
        }
        *mark = Mark {
            batch: self.batch,
            group: u16::try_from(self.groups.len()).unwrap_or(u16::MAX),
        };
        self.groups.push(Group {
            key,
            first: slot,
            last: slot,
        });
    }

    /// Each session with its slots.
    pub(super) fn each(&self) -> impl Iterator<Item = (Key, Slots<'_>)> {
        self.groups.iter().map(|group| {
            let slots = Slots {
                first: group.first,
                last: group.last,
                next: &self.next,
            };
            (group.key, slots)
        })
    }
}

/// The slots of one session, in order.
pub(super) struct Slots<'a> {
    first: u16,
    last: u16,
    next: &'a [Option<u16>],
}

impl Slots<'_> {
    pub(super) fn iter(&self) -> impl Iterator<Item = usize> {
        let next = |slot: &u16| self.next.get(usize::from(*slot)).copied().flatten();
        std::iter::successors(Some(self.first), next).map(usize::from)
    }

    /// The slot, if it is one only.
    pub(super) fn only(&self) -> Option<usize> {
        (self.first == self.last).then_some(usize::from(self.first))
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::Key;
    use super::{Groups, Mark};

    #[test]
    fn each_session_has_its_slots_in_order() {
        let mut groups = Groups::default();
        let mut marks = [Mark::default(); 3];
        for batch in 0..3 {
            groups.begin();
            for slot in 0..12 {
                let session = (slot * slot + batch) % 3;
                let key = Key::from_bits(session as u64);
                groups.add(key, slot, &mut marks[session]);
            }
            for (key, slots) in groups.each() {
                let session = key.to_bits() as usize;
                let wanted: Vec<usize> = (0..12)
                    .filter(|slot| (slot * slot + batch) % 3 == session)
                    .collect();
                assert_eq!(slots.iter().collect::<Vec<_>>(), wanted);
                assert_eq!(slots.only(), (wanted.len() == 1).then(|| wanted[0]));
            }
        }
    }
}
