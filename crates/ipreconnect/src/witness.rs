//! Who hears what becomes of origins, beside the log.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use ipreconnect_core::locality::Blame;
use ipreconnect_core::origin::Notice;

use crate::stats::Stats;

/// Hears what is told of every origin. It must not wait: it is called by the thread that detects losses.
pub trait Witness: Send + Sync + fmt::Debug {
    /// Hears one piece of news.
    fn hear(&self, news: &News<'_>);
}

/// What is told of an origin, and what is known beside it.
#[derive(Clone, Copy, Debug)]
pub struct News<'n> {
    /// The origin's name.
    pub origin: &'n Arc<str>,
    /// What happened.
    pub notice: &'n Notice,
    /// The name that it is about, if it is about one.
    pub name: Option<&'n str>,
    /// Whose fault it is when the origin fails, as far as can be told.
    pub blame: Blame,
    /// When the endpoint that it is about last showed that it lives, if it is about one.
    pub last_life: Option<Instant>,
    /// What was counted of the origin's clients.
    pub stats: &'n Arc<Stats>,
}

/// Several who hear the same, in order.
impl Witness for Vec<Arc<dyn Witness>> {
    fn hear(&self, news: &News<'_>) {
        for witness in self {
            witness.hear(news);
        }
    }
}
