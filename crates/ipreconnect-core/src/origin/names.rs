//! Entries that are names: when to look them up, and what their answers change.

use std::time::{Duration, Instant};

use super::endpoint::Endpoint;
use super::{Action, Entry, EntryAddress, Health, Notice, Order, Supervisor};
use crate::address::{Address, EndpointId, EntryId};
use crate::failure::Failure;

/// Between two lookups of one name, whatever happens.
const GAP: Duration = Duration::from_secs(1);
/// A name that works is looked up again after this.
const REFRESH: Duration = Duration::from_secs(30);
/// A lookup that was not answered by then is lost.
const LOST: Duration = Duration::from_secs(15);
/// Addresses of one entry that are kept.
const ADDRESSES: usize = 32;

/// What is known of an entry that is a name.
#[derive(Debug, Default)]
pub(super) struct Name {
    asked: Option<Instant>,
    underway: Option<Order>,
    answered: bool,
    told: Option<Failure>,
    /// Something failed since the last lookup.
    doubted: bool,
}

impl Name {
    /// Whether the very first answer is still awaited.
    pub(super) fn is_first_lookup(&self) -> bool {
        self.underway.is_some() && !self.answered
    }

    /// Asks for a lookup as soon as the gap allows.
    pub(super) fn doubt(&mut self) {
        self.doubted = true;
    }

    /// Asks for a lookup at once, whatever is under way.
    pub(super) fn forget(&mut self) {
        self.asked = None;
        self.underway = None;
    }

    /// When to look up; `None` is at once.
    fn due(&self) -> Option<Instant> {
        let asked = self.asked?;
        Some(match (self.underway.is_some(), self.doubted) {
            (true, _) => asked + LOST,
            (false, true) => asked + GAP,
            (false, false) => asked + REFRESH,
        })
    }

    fn answered(&mut self) {
        self.underway = None;
        self.answered = true;
    }
}

impl Supervisor {
    /// Adds the endpoints of fixed entries.
    pub(super) fn add_fixed(&mut self, now: Instant) {
        for (index, entry) in self.entries.clone().into_iter().enumerate() {
            if let EntryAddress::Fixed(address) = entry.address {
                self.admit(now, entry_id(index), 0, address);
            }
        }
    }

    pub(super) fn resolved(&mut self, now: Instant, order: Order, addresses: &[Address]) {
        let Some((entry, name)) = self.asked_by(order) else {
            return;
        };
        name.answered();
        name.told = None;
        for endpoint in self.endpoints.values_mut() {
            if endpoint.entry == entry {
                endpoint.left = !addresses.contains(&endpoint.address);
            }
        }
        for (rank, address) in addresses.iter().take(ADDRESSES).enumerate() {
            self.admit(
                now,
                entry,
                u32::try_from(rank).unwrap_or(0),
                address.clone(),
            );
        }
    }

    pub(super) fn resolve_failed(&mut self, order: Order, failure: Failure, out: &mut Vec<Action>) {
        let Some((entry, name)) = self.asked_by(order) else {
            return;
        };
        name.answered();
        // It stays doubtful until it is answered, and is then looked up once in each gap or round.
        if name.told.as_ref() != Some(&failure) {
            name.told = Some(failure.clone());
            out.push(Action::Tell(Notice::NameFailed {
                entry,
                failure: failure.clone(),
            }));
        }
        if !self.endpoints.values().any(|e| e.health != Health::Down) {
            self.failure = Some(failure);
        }
    }

    /// The name that was asked for by this order. An answer that comes too late, or after the entries
    /// changed, belongs to none.
    fn asked_by(&mut self, order: Order) -> Option<(EntryId, &mut Name)> {
        let mut names = self.names.iter_mut().enumerate();
        names
            .find(|(_, name)| name.underway == Some(order))
            .map(|(index, name)| (entry_id(index), name))
    }

    /// Orders the lookups that are due.
    pub(super) fn look_up(&mut self, now: Instant, out: &mut Vec<Action>) {
        for (index, (name, entry)) in self.names.iter_mut().zip(&self.entries).enumerate() {
            if matches!(entry.address, EntryAddress::Name(_))
                && name.due().is_none_or(|due| now >= due)
            {
                self.next_order += 1;
                let order = Order(self.next_order);
                name.asked = Some(now);
                name.underway = Some(order);
                name.doubted = false;
                out.push(Action::Resolve {
                    order,
                    entry: entry_id(index),
                });
            }
        }
    }

    pub(super) fn next_lookup(&self) -> Option<Instant> {
        let names = self.names.iter().zip(&self.entries);
        names
            .filter(|(_, entry)| matches!(entry.address, EntryAddress::Name(_)))
            .filter_map(|(name, _)| name.due())
            .min()
    }

    /// Drops endpoints whose address left the name, once they are of no use any more: lost, or
    /// replaced by a proven one of the same entry.
    pub(super) fn drop_departed(&mut self, out: &mut Vec<Action>) {
        let departed: Vec<EndpointId> = self
            .endpoints
            .values()
            .filter(|endpoint| endpoint.left)
            .filter(|endpoint| endpoint.health == Health::Down || self.is_replaced(endpoint.entry))
            .map(|endpoint| endpoint.id)
            .collect();
        for id in departed {
            self.remove(id, out);
        }
    }

    fn is_replaced(&self, entry: EntryId) -> bool {
        self.endpoints
            .values()
            .any(|other| other.entry == entry && !other.left && other.health == Health::Up)
    }

    /// Takes new entries; endpoints whose address or name still belongs to one stay as they are.
    pub(super) fn replace_entries(
        &mut self,
        now: Instant,
        entries: Vec<Entry>,
        out: &mut Vec<Action>,
    ) {
        if entries == self.entries {
            return;
        }
        self.names = entries.iter().map(|_| Name::default()).collect();
        let before = std::mem::replace(&mut self.entries, entries);
        let place = |endpoint: &Endpoint| {
            let came_from = before.get(endpoint.entry.0 as usize).map(|e| &e.address);
            let belongs = |entry: &Entry| match &entry.address {
                EntryAddress::Fixed(address) => *address == endpoint.address,
                EntryAddress::Name(_) => Some(&entry.address) == came_from,
            };
            self.entries.iter().position(belongs).map(entry_id)
        };
        let placed: Vec<_> = self
            .endpoints
            .values()
            .map(|endpoint| (endpoint.id, place(endpoint)))
            .collect();
        for (id, entry) in placed {
            match entry {
                Some(entry) => {
                    if let Some(endpoint) = self.endpoints.get_mut(&id) {
                        endpoint.entry = entry;
                    }
                }
                None => self.remove(id, out),
            }
        }
        self.add_fixed(now);
        self.refresh_weights();
    }

    fn admit(&mut self, now: Instant, entry: EntryId, rank: u32, address: Address) {
        if let Some(id) = self.endpoint_at(&address) {
            if let Some(endpoint) = self.endpoints.get_mut(&id).filter(|e| e.entry == entry) {
                endpoint.rank = rank;
            }
            return;
        }
        let members = self.endpoints.values().filter(|e| e.entry == entry).count();
        if members >= 2 * ADDRESSES {
            return;
        }
        let id = EndpointId(self.next_endpoint);
        self.next_endpoint += 1;
        let mut endpoint = Endpoint::new(id, entry, address, &self.settings, now);
        endpoint.rank = rank;
        endpoint.weight = self.weight_of(entry);
        self.endpoints.insert(id, endpoint);
    }

    fn refresh_weights(&mut self) {
        let entries = &self.entries;
        for endpoint in self.endpoints.values_mut() {
            if let Some(entry) = entries.get(endpoint.entry.0 as usize) {
                endpoint.weight = entry.weight.max(1);
            }
        }
    }

    fn remove(&mut self, id: EndpointId, out: &mut Vec<Action>) {
        self.endpoints.remove(&id);
        self.cancel_where(out, |pending| pending.endpoint == id);
    }
}

fn entry_id(index: usize) -> EntryId {
    EntryId(u32::try_from(index).unwrap_or(u32::MAX))
}
