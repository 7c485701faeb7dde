//! One answer that is kept.

use std::time::{Duration, Instant};

use bytes::Bytes;
use ipreconnect::clock;
use ipreconnect::core::http::cache::{Fields, Policy, State, Stored, kept, merged, policy};
use ipreconnect::core::http::{Parsed, ResponseHead};

use crate::http::record::Shown;

/// What an answer takes beside its bytes.
const OVERHEAD: usize = 512;

/// An answer as it is kept. It never changes.
#[derive(Debug)]
pub(in crate::http) struct Entry {
    /// The origin that gave it.
    pub(super) origin: Box<str>,
    /// The endpoint of that.
    pub(super) endpoint: Shown,
    pub(super) head: ResponseHead,
    pub(super) text: Box<[u8]>,
    pub(super) body: Bytes,
    pub(super) policy: Policy,
    came: Instant,
}

/// Who gave an answer, and when.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) origin: Box<str>,
    pub(super) endpoint: Shown,
    pub(super) came: Instant,
    /// Seconds since the beginning of 1970.
    pub(super) now: u64,
}

impl Entry {
    /// Whether both are for the same requests, of which one answer is enough.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.origin == other.origin && self.policy.variant() == other.policy.variant()
    }

    /// An answer of the origin, whose head is in `text`.
    pub(super) fn new(
        source: Source,
        (head, text): (&ResponseHead, &[u8]),
        policy: Policy,
        body: Vec<u8>,
    ) -> Option<Self> {
        let fields = Fields::new(&head.fields, text);
        let status = (head.status, head.reason.of(text));
        let text = kept(status, fields, &policy.withheld, body.len(), source.now);
        Some(Self {
            head: parsed(&text)?,
            text: text.into(),
            body: body.into_boxed_slice().into(),
            policy,
            origin: source.origin,
            endpoint: source.endpoint,
            came: source.came,
        })
    }

    /// The same answer, after the origin has confirmed it by the head that is in `text`. None if it is not
    /// to be kept any longer.
    pub(super) fn confirmed(
        &self,
        source: Source,
        request: Fields<'_>,
        (head, text): (&ResponseHead, &[u8]),
        delay: Duration,
    ) -> Option<Self> {
        let fresh = Fields::new(&head.fields, text);
        let status = (self.head.status, self.head.reason.of(&self.text));
        let length = self.body.len();
        let text = merged(status, self.fields(), fresh, length, source.now);
        let head = parsed(&text)?;
        let mut stored = Stored {
            request,
            status: head.status,
            fields: Fields::new(&head.fields, &text),
            now: source.now,
            delay,
        };
        let policy = policy(&stored)?;
        // The age that is told is the confirmation's.
        stored.fields = fresh;
        let policy = policy.confirmed_by(&stored);
        Some(Self {
            head,
            text: text.into(),
            body: self.body.clone(),
            policy,
            origin: source.origin,
            endpoint: source.endpoint,
            came: source.came,
        })
    }

    /// The same answer with this body: its own, or none while that is elsewhere.
    pub(super) fn with_body(&self, body: Bytes) -> Self {
        Self {
            origin: self.origin.clone(),
            endpoint: self.endpoint,
            head: self.head.clone(),
            text: self.text.clone(),
            body,
            policy: self.policy.clone(),
            came: self.came,
        }
    }

    pub(super) fn fields(&self) -> Fields<'_> {
        Fields::new(&self.head.fields, &self.text)
    }

    /// How old it is.
    pub(super) fn age(&self) -> Duration {
        self.policy.age(self.came.elapsed())
    }

    /// Seconds since it was fresh.
    pub(super) fn late(&self) -> i64 {
        let late = self.policy.late(self.came.elapsed()).as_secs();
        i64::try_from(late).unwrap_or(i64::MAX)
    }

    pub(super) fn state(&self) -> State {
        self.policy.state(self.came.elapsed())
    }

    /// Whether it may be served where the origin answers with an error.
    pub(super) fn covers_error(&self, ours: Duration) -> bool {
        self.policy.covers_error(self.came.elapsed(), ours)
    }

    /// Whether it may be served where there is no answer to be had.
    pub(super) fn covers_silence(&self, ours: Duration) -> bool {
        self.policy.covers_silence(self.came.elapsed(), ours)
    }

    /// The bytes that it takes.
    pub(super) fn size(&self) -> usize {
        let fields = size_of_val(self.head.fields.as_slice());
        self.text.len() + self.body.len() + fields + self.policy.variant().size() + OVERHEAD
    }
}

/// Seconds since the beginning of 1970.
pub(super) fn seconds() -> u64 {
    clock::since_unix().as_secs()
}

fn parsed(text: &[u8]) -> Option<ResponseHead> {
    let mut head = ResponseHead::default();
    matches!(head.parse(text), Ok(Parsed::Whole)).then_some(head)
}
