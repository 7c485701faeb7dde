//! The requests that a stored answer is for (RFC 9111, section 4.1).

use super::super::text::list;
use super::fields::Fields;

/// The fields that an answer varies by, and what the request said in them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Variant(Vec<(Box<[u8]>, Said)>);

/// What a request says in a field, if it is there.
type Said = Option<Box<[u8]>>;

impl Variant {
    /// Of an answer; none if no other request can be answered by it.
    #[must_use]
    pub fn of(answer: Fields<'_>, request: Fields<'_>) -> Option<Self> {
        let mut names: Vec<Box<[u8]>> = Vec::new();
        for name in answer.values(b"vary").flat_map(list) {
            let name = name.to_ascii_lowercase();
            // These the origin was told by us, of each client something else.
            if matches!(
                &name[..],
                b"*" | b"x-forwarded-for" | b"x-real-ip" | b"forwarded"
            ) {
                return None;
            }
            names.push(name.into());
        }
        names.sort_unstable();
        names.dedup();
        let said = names.into_iter().map(|name| {
            let said = said(request, &name);
            (name, said)
        });
        Some(Self(said.collect()))
    }

    /// Whether it answers this request.
    #[must_use]
    pub fn matches(&self, request: Fields<'_>) -> bool {
        let mut fields = self.0.iter();
        fields.all(|(name, before)| said(request, name) == *before)
    }

    /// The bytes that it takes.
    #[must_use]
    pub fn size(&self) -> usize {
        let size = |(name, said): &(Box<[u8]>, Said)| {
            name.len() + said.as_deref().map_or(0, <[u8]>::len) + size_of_val(name)
        };
        self.0.iter().map(size).sum()
    }
}

/// What a request says to the origin in a field, in one spelling: lines are joined, and space around commas
/// means nothing.
fn said(request: Fields<'_>, name: &[u8]) -> Said {
    let mut lines = request.passed_values(name);
    let mut said = lines.next()?.to_vec();
    for more in lines {
        said.push(b',');
        said.extend_from_slice(more);
    }
    let mut plain: Vec<u8> = Vec::with_capacity(said.len());
    let mut is_quoted = false;
    for byte in said {
        match byte {
            b'"' => is_quoted = !is_quoted,
            b' ' | b'\t' if !is_quoted && matches!(plain.last(), None | Some(b',')) => continue,
            b',' if !is_quoted => {
                while plain.last().is_some_and(u8::is_ascii_whitespace) {
                    plain.pop();
                }
            }
            _ => {}
        }
        plain.push(byte);
    }
    while plain.last().is_some_and(u8::is_ascii_whitespace) {
        plain.pop();
    }
    // Languages and codings are compared without case.
    if matches!(name, b"accept-language" | b"accept-encoding") {
        plain.make_ascii_lowercase();
    }
    Some(plain.into())
}
