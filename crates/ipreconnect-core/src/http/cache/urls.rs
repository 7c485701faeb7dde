//! What a change makes void beside its own target (RFC 9111, section 4.4).

use super::super::path::{normal, path_of, query_of};
use super::fields::Fields;

/// The targets that an answer to a change names (`Location`, `Content-Location`), as far as they are of the
/// same host: nobody makes void what others have.
#[must_use]
pub fn voided(answer: Fields<'_>, host: &[u8], target: &[u8]) -> Vec<Vec<u8>> {
    let names: [&[u8]; 2] = [b"location", b"content-location"];
    let named = names.iter().filter_map(|name| answer.first(name));
    named
        .filter_map(|named| resolved(named, host, target))
        .collect()
}

fn resolved(reference: &[u8], host: &[u8], target: &[u8]) -> Option<Vec<u8>> {
    let end = reference.iter().position(|byte| *byte == b'#');
    let reference = reference.get(..end.unwrap_or(reference.len()))?;
    let schemes: [&[u8]; 3] = [b"http://", b"https://", b"//"];
    if let Some(rest) = schemes.iter().find_map(|s| reference.strip_prefix(*s)) {
        let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?'));
        let (authority, rest) = rest.split_at(end.unwrap_or(rest.len()));
        let rest = if rest.is_empty() { b"/" } else { rest };
        return authority.eq_ignore_ascii_case(host).then(|| rest.to_vec());
    }
    if reference.starts_with(b"/") {
        return Some(reference.to_vec());
    }
    let path = path_of(target);
    if reference.is_empty() || reference.starts_with(b"?") {
        return Some([path, reference].concat());
    }
    let end = path.iter().rposition(|byte| *byte == b'/')? + 1;
    let joined = [path.get(..end)?, path_of(reference)].concat();
    Some([&normal(&joined), query_of(reference)].concat())
}
