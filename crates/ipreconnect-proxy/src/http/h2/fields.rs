//! Fields between HTTP/2, where a map has them, and HTTP/1, where they are lines.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use ipreconnect::core::http::Known;

use crate::http::body::LAST_CHUNK;
use crate::http::render;

/// A field that HTTP/2 takes; what it does not take is of no use to anybody.
pub(super) fn insert(headers: &mut HeaderMap, name: &[u8], value: &[u8]) {
    if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
        headers.append(name, value);
    }
}

/// Fields as lines.
pub(super) fn write(out: &mut Vec<u8>, headers: &HeaderMap) {
    for (name, value) in headers {
        render::line(out, name.as_str().as_bytes(), value.as_bytes());
    }
}

/// Fields as lines, without those that say where a message ends.
pub(super) fn write_trailers(out: &mut Vec<u8>, trailers: &HeaderMap) {
    for (name, value) in trailers {
        if !is_framing(name.as_str().as_bytes()) {
            render::line(out, name.as_str().as_bytes(), value.as_bytes());
        }
    }
}

fn is_framing(name: &[u8]) -> bool {
    let known = Known::of(name);
    known.is_hop() || known == Known::ContentLength
}

/// The end of a body in chunks, with its trailers.
pub(super) fn last_chunk(trailers: Option<&HeaderMap>) -> Vec<u8> {
    let Some(trailers) = trailers else {
        return LAST_CHUNK.to_vec();
    };
    let mut last = b"0\r\n".to_vec();
    write_trailers(&mut last, trailers);
    last.extend_from_slice(b"\r\n");
    last
}

/// The trailers of a body in chunks, as fields.
pub(super) fn of_lines(trailers: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in trailers.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let mut parts = line.splitn(2, |byte| *byte == b':');
        if let (Some(name), Some(value)) = (parts.next(), parts.next())
            && !is_framing(name)
        {
            insert(&mut headers, name, value.trim_ascii());
        }
    }
    headers
}
