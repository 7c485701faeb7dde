//! What the driver publishes of an origin, for whoever dials it.

use std::collections::BTreeMap;
use std::sync::Arc;

use ipreconnect_core::address::EndpointId;
use ipreconnect_core::origin::{EndpointView, View};

use crate::meter::Meter;
use crate::resolve::NameStatus;

/// An origin at one moment: never changed, only replaced.
#[derive(Debug)]
pub struct Snapshot {
    view: View,
    meters: BTreeMap<EndpointId, Arc<Meter>>,
    names: Arc<[NameStatus]>,
}

impl Snapshot {
    pub(crate) fn new(
        view: View,
        meters: &BTreeMap<EndpointId, Arc<Meter>>,
        names: Arc<[NameStatus]>,
    ) -> Self {
        let meters = view
            .endpoints
            .iter()
            .filter_map(|endpoint| {
                let meter = meters.get(&endpoint.id)?;
                Some((endpoint.id, Arc::clone(meter)))
            })
            .collect();
        Self {
            view,
            meters,
            names,
        }
    }

    /// The state of the origin and its endpoints.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.view
    }

    /// What is known of the origin's names.
    #[must_use]
    pub fn names(&self) -> &[NameStatus] {
        &self.names
    }

    /// The shared counters of an endpoint.
    #[must_use]
    pub fn meter(&self, endpoint: EndpointId) -> Option<&Arc<Meter>> {
        self.meters.get(&endpoint)
    }

    /// Endpoints with their counters.
    pub fn endpoints(&self) -> impl Iterator<Item = (&EndpointView, &Meter)> {
        self.view.endpoints.iter().filter_map(|endpoint| {
            self.meters
                .get(&endpoint.id)
                .map(|meter| (endpoint, meter.as_ref()))
        })
    }
}
