//! The fields of a head, by their names.

use super::super::field::Field;

/// The fields of one head.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'m> {
    fields: &'m [Field],
    text: &'m [u8],
}

impl<'m> Fields<'m> {
    /// The fields that are places in `text`.
    #[must_use]
    pub fn new(fields: &'m [Field], text: &'m [u8]) -> Self {
        Self { fields, text }
    }

    /// Every value of a field, in order. Names are compared without case.
    pub fn values(self, name: &[u8]) -> impl Iterator<Item = &'m [u8]> {
        let fields = self.fields.iter();
        fields.filter_map(move |field| {
            let is_it = field.name.of(self.text).eq_ignore_ascii_case(name);
            is_it.then(|| field.value.of(self.text))
        })
    }

    /// The first value of a field.
    #[must_use]
    pub fn first(self, name: &[u8]) -> Option<&'m [u8]> {
        self.values(name).next()
    }

    /// Whether a field is there.
    #[must_use]
    pub fn has(self, name: &[u8]) -> bool {
        self.first(name).is_some()
    }

    /// Every value of a field that is not for one hop only, in order.
    pub fn passed_values(self, name: &[u8]) -> impl Iterator<Item = &'m [u8]> {
        let passed = self.passed_on();
        passed.filter_map(move |(own, value)| own.eq_ignore_ascii_case(name).then_some(value))
    }

    /// What is passed on: name and value of every field that is not for one hop only.
    pub fn passed_on(self) -> impl Iterator<Item = (&'m [u8], &'m [u8])> {
        let fields = self.fields.iter().filter(|field| !field.is_hop);
        fields.map(move |field| (field.name.of(self.text), field.value.of(self.text)))
    }
}
