//! Where a message's body ends, on the wire of HTTP/1.

use ipreconnect::core::http::{Body, ChunkError, Chunked, ResponseBody};

/// Reads a body.
#[derive(Debug)]
pub(super) enum Reader {
    /// All of it has come, and these lines of trailers.
    Done(Vec<u8>),
    /// So many bytes are still to come.
    Length(u64),
    /// Chunks are still to come.
    Chunked(Chunked),
    /// All that comes until the connection ends.
    UntilClose,
}

impl Default for Reader {
    fn default() -> Self {
        Self::Done(Vec::new())
    }
}

impl Reader {
    /// Of a request.
    pub(super) fn of_request(body: Body) -> Self {
        match body {
            Body::None => Self::default(),
            Body::Length(length) => Self::Length(length),
            Body::Chunked => Self::Chunked(Chunked::default()),
        }
    }

    /// Of a response.
    pub(super) fn of_response(body: ResponseBody) -> Self {
        match body {
            ResponseBody::None => Self::default(),
            ResponseBody::Length(length) => Self::Length(length),
            ResponseBody::Chunked => Self::Chunked(Chunked::default()),
            ResponseBody::UntilClose => Self::UntilClose,
        }
    }

    /// Reads what has come: hands the data of it to `deliver`, and says how much of it belongs to the
    /// body as it stands on the wire.
    pub(super) fn read<'b>(
        &mut self,
        bytes: &'b [u8],
        mut deliver: impl FnMut(&'b [u8]),
    ) -> Result<usize, ChunkError> {
        match self {
            Self::Done(_) => Ok(0),
            Self::Length(left) => {
                let count =
                    usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                deliver(bytes.get(..count).unwrap_or_default());
                *left -= count as u64;
                if *left == 0 {
                    *self = Self::default();
                }
                Ok(count)
            }
            Self::Chunked(chunked) => {
                let count = chunked.read(bytes, deliver)?;
                if chunked.is_done() {
                    *self = Self::Done(chunked.trailers().to_vec());
                }
                Ok(count)
            }
            Self::UntilClose => {
                deliver(bytes);
                Ok(bytes.len())
            }
        }
    }

    /// The lines of the trailers.
    pub(super) fn trailers(&self) -> &[u8] {
        match self {
            Self::Done(trailers) => trailers,
            Self::Length(_) | Self::Chunked(_) | Self::UntilClose => &[],
        }
    }

    pub(super) fn is_done(&self) -> bool {
        matches!(self, Self::Done(_))
    }
}

/// Writes one chunk.
pub(super) fn chunk(data: &[u8], out: &mut Vec<u8>) {
    if data.is_empty() {
        return;
    }
    let mut digits = [0; 16];
    let mut at = digits.len();
    let mut left = data.len();
    while left > 0 {
        at -= 1;
        if let Some(digit) = digits.get_mut(at) {
            *digit = b"0123456789abcdef"
                .get(left & 15)
                .copied()
                .unwrap_or_default();
        }
        left >>= 4;
    }
    out.extend_from_slice(digits.get(at..).unwrap_or_default());
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

/// The end of a body in chunks that has no trailers.
pub(super) const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_in_chunks_is_read_again() {
        let mut wire = Vec::new();
        for length in [1, 15, 16, 255, 256, 70_000] {
            chunk(&vec![b'x'; length], &mut wire);
        }
        chunk(b"", &mut wire);
        wire.extend_from_slice(LAST_CHUNK);
        let mut reader = Reader::Chunked(Chunked::default());
        let mut lengths = Vec::new();
        assert_eq!(
            reader.read(&wire, |data| lengths.push(data.len())),
            Ok(wire.len())
        );
        assert_eq!(lengths, [1, 15, 16, 255, 256, 70_000]);
        assert!(reader.is_done());
    }

    #[test]
    fn a_body_ends_where_it_says() {
        let mut reader = Reader::of_request(Body::Length(3));
        assert_eq!(reader.read(b"ab", |_| {}), Ok(2));
        assert!(!reader.is_done());
        assert_eq!(reader.read(b"cde", |_| {}), Ok(1));
        assert!(reader.is_done());
        assert_eq!(reader.read(b"de", |_| {}), Ok(0));
    }
}
