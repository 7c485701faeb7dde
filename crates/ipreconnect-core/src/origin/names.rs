//! Entries that are names: where they lead, and what becomes of addresses that leave them.
//!
//! A name that moves is followed make-before-break: the new addresses are proven first, then take new
//! work; the old ones stay as a fallback for a while. Answers that rotate only widen the set. No
//! answer ever cuts a link.

use std::time::{Duration, Instant};

use super::endpoint::Endpoint;
use super::{Action, Entry, EntryAddress, Found, FoundPlace, Health, Notice, Supervisor};
use crate::address::{Address, EndpointId, EntryId};
use crate::failure::{Cause, Failure};
use crate::names::{Change, Knowledge, Sightings};

/// Between two requests for a fresh lookup. How often one is made is decided by the name's memory,
/// which all origins share.
const GAP: Duration = Duration::from_millis(50);
/// Addresses of one entry that are kept.
const ADDRESSES: usize = 64;
/// An address that is merely absent takes new work for two times to live, within these bounds.
const ABSENT_FIRST: Duration = Duration::from_secs(30);
const ABSENT_LAST: Duration = Duration::from_secs(600);
/// An address that the name moved away from is kept for so long after the new one was proven.
const FALLBACK: Duration = Duration::from_secs(60);

/// What is known of an entry that is a name.
#[derive(Debug, Default)]
pub(super) struct Name {
    found: Option<Found>,
    sightings: Sightings<Address>,
    told: Option<(Cause, Knowledge)>,
    asked: Option<Instant>,
    /// Something failed since the last lookup was asked for.
    doubted: bool,
}

/// Why an endpoint's address is no longer among those of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// It is merely absent, and takes new work until then.
    Absent { until: Instant },
    /// The name moved. It takes new work until a new address is proven, and is kept for the case that
    /// that one fails.
    Moved { replaced: Option<Instant> },
}

impl Name {
    /// Whether the very first answer is still awaited.
    pub(super) fn is_first_lookup(&self) -> bool {
        self.found
            .as_ref()
            .is_none_or(|found| found.knowledge == Knowledge::Unknown && found.failure.is_none())
    }

    /// Whether its last answer was suddenly empty.
    pub(super) fn is_doubtful(&self) -> bool {
        self.found
            .as_ref()
            .is_some_and(|found| found.knowledge == Knowledge::Doubtful)
    }

    /// What is wrong with it.
    pub(super) fn failure(&self) -> Option<&Failure> {
        self.found.as_ref()?.failure.as_ref()
    }

    /// Asks for a fresh lookup.
    pub(super) fn doubt(&mut self) {
        self.doubted = true;
    }

    /// Asks for a fresh lookup at once.
    pub(super) fn forget(&mut self) {
        self.asked = None;
        self.doubted = true;
    }

    fn due(&self) -> Option<Instant> {
        self.asked.filter(|_| self.doubted).map(|asked| asked + GAP)
    }

    fn place(&self, address: &Address) -> Option<(usize, &FoundPlace)> {
        let places = self.found.iter().flat_map(|found| &found.places);
        places
            .enumerate()
            .find(|(_, place)| place.address == *address)
    }
}

impl Supervisor {
    /// Adds the endpoints of fixed entries.
    pub(super) fn add_fixed(&mut self, now: Instant, out: &mut Vec<Action>) {
        for (index, entry) in self.entries.clone().into_iter().enumerate() {
            if let EntryAddress::Fixed(address) = entry.address {
                self.admit(now, entry_id(index), 0, &FoundPlace::plain(address), out);
            }
        }
    }

    /// Takes what is known of an entry's name now.
    pub(super) fn named(
        &mut self,
        now: Instant,
        entry: EntryId,
        found: &Found,
        out: &mut Vec<Action>,
    ) {
        let is_name = |entry: &Entry| matches!(entry.address, EntryAddress::Name(_));
        if !self.entry(entry).is_some_and(is_name) {
            return;
        }
        let Some(name) = self.names.get_mut(entry.0 as usize) else {
            return;
        };
        let addresses: Vec<Address> = found.places.iter().map(|p| p.address.clone()).collect();
        let change = match found.knowledge {
            Knowledge::Fresh | Knowledge::Remembered => name.sightings.observe(now, &addresses),
            _ => Change::Widened,
        };
        name.found = Some(found.clone());
        self.tell_name(entry, found, out);
        self.forbid(entry, found, out);
        if !found.places.is_empty()
            || found.knowledge != Knowledge::Unknown
            || found.failure.is_some()
        {
            self.leave(now, entry, found, change);
        }
        for (rank, place) in found.places.iter().take(ADDRESSES).enumerate() {
            self.admit(now, entry, u32::try_from(rank).unwrap_or(0), place, out);
        }
        self.refresh_tiers();
        if change == Change::Moved {
            out.push(Action::Tell(Notice::NameMoved {
                entry,
                to: addresses,
            }));
        }
    }

    fn tell_name(&mut self, entry: EntryId, found: &Found, out: &mut Vec<Action>) {
        // The details of an outage vary; that it is one is told once.
        let told = found.failure.as_ref().map(|f| (f.cause, found.knowledge));
        if let Some(name) = self.names.get_mut(entry.0 as usize)
            && name.told != told
        {
            name.told = told;
            if let Some(failure) = &found.failure {
                out.push(Action::Tell(Notice::NameFailed {
                    entry,
                    failure: failure.clone(),
                    knowledge: found.knowledge,
                }));
            }
        }
        let nobody = !self.endpoints.values().any(|e| e.health != Health::Down);
        if nobody || found.knowledge == Knowledge::Doubtful {
            self.failure = found.failure.clone().or(self.failure.take());
        }
    }

    /// Drops at once what must not be dialled any more: by the policy, or because what led there is not
    /// proven as it must be. Streams go on.
    fn forbid(&mut self, entry: EntryId, found: &Found, out: &mut Vec<Action>) {
        let cause = found.failure.as_ref().map(|failure| failure.cause);
        let unproven = matches!(
            cause,
            Some(Cause::Bogus | Cause::Unsigned | Cause::NotAllowed)
        );
        let all = unproven && found.places.is_empty();
        let forbidden: Vec<EndpointId> = self
            .members(entry)
            .filter(|endpoint| all || found.denied.contains(&endpoint.address))
            .map(|endpoint| endpoint.id)
            .collect();
        for id in forbidden {
            self.remove(id, out);
        }
    }

    /// Endpoints of an entry whose addresses are not in the answer any more, and those that are.
    fn leave(&mut self, now: Instant, entry: EntryId, found: &Found, change: Change) {
        let until = now + (found.ttl * 2).clamp(ABSENT_FIRST, ABSENT_LAST);
        let ids: Vec<EndpointId> = self.members(entry).map(|endpoint| endpoint.id).collect();
        for id in ids {
            let Some(address) = self.endpoints.get(&id).map(|e| e.address.clone()) else {
                continue;
            };
            let stays = found.places.iter().any(|place| place.address == address);
            let other = if stays { None } else { self.entry_of(&address) };
            let Some(endpoint) = self.endpoints.get_mut(&id) else {
                continue;
            };
            endpoint.left = match (stays, other, endpoint.left, change) {
                (true, ..) => None,
                (false, Some(other), ..) => {
                    endpoint.entry = other;
                    None
                }
                (false, None, Some(Left::Moved { replaced }), _) => Some(Left::Moved { replaced }),
                (false, None, _, Change::Moved) => Some(Left::Moved { replaced: None }),
                (false, None, Some(left), Change::Widened) => Some(left),
                (false, None, None, Change::Widened) => Some(Left::Absent { until }),
            };
        }
    }

    /// The first entry that leads to an address now.
    fn entry_of(&self, address: &Address) -> Option<EntryId> {
        let mut entries = self.entries.iter().zip(&self.names);
        entries
            .position(|(entry, name)| match &entry.address {
                EntryAddress::Fixed(fixed) => fixed == address,
                EntryAddress::Name(_) => name.place(address).is_some(),
            })
            .map(entry_id)
    }

    fn members(&self, entry: EntryId) -> impl Iterator<Item = &Endpoint> {
        let all = self.endpoints.values();
        all.filter(move |endpoint| endpoint.entry == entry)
    }

    /// Asks for the fresh lookups that are due.
    pub(super) fn look_up(&mut self, now: Instant, out: &mut Vec<Action>) {
        for (index, (name, entry)) in self.names.iter_mut().zip(&self.entries).enumerate() {
            let EntryAddress::Name(_) = entry.address else {
                name.doubted = false;
                continue;
            };
            if name.doubted && name.due().is_none_or(|due| now >= due) {
                name.asked = Some(now);
                name.doubted = false;
                out.push(Action::LookUp {
                    entry: entry_id(index),
                });
            }
        }
    }

    pub(super) fn next_lookup(&self) -> Option<Instant> {
        self.names.iter().filter_map(Name::due).min()
    }

    /// When an address that left its name is dropped, if nothing happens before.
    pub(super) fn next_departure(&self) -> Option<Instant> {
        let left = self.endpoints.values().filter_map(|e| e.left);
        left.filter_map(|left| match left {
            Left::Absent { until } => Some(until),
            Left::Moved { replaced } => Some(replaced? + FALLBACK),
        })
        .min()
    }

    /// Drops endpoints whose address left the name, once they are of no use any more.
    pub(super) fn drop_departed(&mut self, now: Instant, out: &mut Vec<Action>) {
        let moved: Vec<(EndpointId, EntryId)> = self
            .endpoints
            .values()
            .filter(|endpoint| matches!(endpoint.left, Some(Left::Moved { .. })))
            .map(|endpoint| (endpoint.id, endpoint.entry))
            .collect();
        for (id, entry) in moved {
            let is_replaced = self.is_replaced(entry);
            if let Some(endpoint) = self.endpoints.get_mut(&id)
                && let Some(Left::Moved { replaced }) = &mut endpoint.left
            {
                *replaced = is_replaced.then(|| replaced.unwrap_or(now));
            }
        }
        let departed: Vec<EndpointId> = self
            .endpoints
            .values()
            .filter(|endpoint| match endpoint.left {
                None => false,
                Some(Left::Absent { until }) => now >= until,
                Some(Left::Moved { replaced }) => replaced.is_some_and(|since| {
                    endpoint.health == Health::Down || now >= since + FALLBACK
                }),
            })
            .map(|endpoint| endpoint.id)
            .collect();
        for id in &departed {
            self.remove(*id, out);
        }
        if !departed.is_empty() {
            self.refresh_tiers();
        }
    }

    /// Whether an address that the name leads to now is proven.
    pub(super) fn is_replaced(&self, entry: EntryId) -> bool {
        self.members(entry)
            .any(|other| other.left.is_none() && other.health == Health::Up)
    }

    /// Whether an endpoint of which nothing is known should be proven before it takes work: it comes
    /// of a move, and the old address still serves.
    pub(super) fn awaits_proof(&self, endpoint: &Endpoint) -> bool {
        self.members(endpoint.entry).any(|other| {
            matches!(other.left, Some(Left::Moved { .. })) && other.health == Health::Up
        })
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
        let before = std::mem::replace(&mut self.entries, entries);
        let mut known: Vec<_> = before.iter().zip(std::mem::take(&mut self.names)).collect();
        self.names = self
            .entries
            .iter()
            .map(|entry| {
                let same = |(old, _): &(&Entry, Name)| old.address == entry.address;
                match known.iter().position(same) {
                    Some(at) => known.swap_remove(at).1,
                    None => Name::default(),
                }
            })
            .collect();
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
        self.add_fixed(now, out);
        self.refresh_weights();
        self.refresh_tiers();
    }

    fn admit(
        &mut self,
        now: Instant,
        entry: EntryId,
        rank: u32,
        place: &FoundPlace,
        out: &mut Vec<Action>,
    ) {
        let weight = self.weight_of(entry).saturating_mul(place.weight.max(1));
        if let Some(id) = self.endpoint_at(&place.address) {
            if let Some(endpoint) = self.endpoints.get_mut(&id).filter(|e| e.entry == entry) {
                endpoint.rank = rank;
                endpoint.tier = place.tier;
                endpoint.by_weight = place.by_weight;
                endpoint.weight = weight;
            }
            return;
        }
        if self.members(entry).count() >= 2 * ADDRESSES && !self.make_room(entry, out) {
            return;
        }
        let id = EndpointId(self.next_endpoint);
        self.next_endpoint += 1;
        let mut endpoint = Endpoint::new(id, entry, place.address.clone(), &self.settings, now);
        endpoint.rank = rank;
        endpoint.tier = place.tier;
        endpoint.by_weight = place.by_weight;
        endpoint.weight = weight;
        self.endpoints.insert(id, endpoint);
    }

    /// Drops the endpoint of an entry that is of the least use; one whose address is in the answer stays.
    fn make_room(&mut self, entry: EntryId, out: &mut Vec<Action>) -> bool {
        let departed = self.members(entry).filter(|e| e.left.is_some());
        let least = departed.min_by_key(|endpoint| (endpoint.health != Health::Down, endpoint.id));
        let Some(id) = least.map(|endpoint| endpoint.id) else {
            return false;
        };
        self.remove(id, out);
        true
    }

    fn refresh_weights(&mut self) {
        for (endpoint, of) in self.endpoints.values_mut().filter_map(|endpoint| {
            let entry = self.entries.get(endpoint.entry.0 as usize)?;
            let name = self.names.get(endpoint.entry.0 as usize)?;
            let place = name.place(&endpoint.address);
            let own = place.map_or(1, |(_, place)| place.weight.max(1));
            Some((endpoint, entry.weight.max(1).saturating_mul(own)))
        }) {
            endpoint.weight = of;
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
