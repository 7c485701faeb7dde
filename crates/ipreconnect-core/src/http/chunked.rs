//! Chunks (RFC 9112, section 7.1), read strictly: CR LF and nothing else, sizes without space around
//! them, extensions passed over, trailers bounded.

use std::fmt;

/// The longest line of a chunk's size with its extensions.
const LINE: u32 = 1024;
/// The most bytes of trailers.
pub const TRAILERS: usize = 8 * 1024;

/// Why a body in chunks is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkError {
    /// A size is no number in hexadecimal, or too large.
    Size,
    /// An extension has a byte that must not be there, or is too long.
    Extension,
    /// Data or a line does not end with CR LF.
    End,
    /// The trailers cannot be read, or are too long.
    Trailers,
}

impl fmt::Display for ChunkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Size => "a chunk's size is no hexadecimal number",
            Self::Extension => "a chunk's extension cannot be read",
            Self::End => "a chunk does not end where it must",
            Self::Trailers => "the trailers cannot be read",
        })
    }
}

impl std::error::Error for ChunkError {}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    FirstDigit,
    Size(u64),
    Extension(u64),
    SizeEnd(u64),
    Data(u64),
    DataCr,
    DataLf,
    Trailers,
    Done,
    /// What comes now has no meaning.
    Broken(ChunkError),
}

/// Reads a body in chunks.
#[derive(Clone, Debug, Default)]
pub struct Chunked {
    state: State,
    /// Bytes of the line that is being read.
    line: u32,
    trailers: Vec<u8>,
}

impl Chunked {
    /// Reads what has come, hands the data of it to `deliver`, and says how many bytes belonged to the
    /// body.
    ///
    /// # Errors
    /// If they are no chunks; then nothing that follows is.
    pub fn read<'b>(
        &mut self,
        bytes: &'b [u8],
        deliver: impl FnMut(&'b [u8]),
    ) -> Result<usize, ChunkError> {
        let read = self.read_on(bytes, deliver);
        if let Err(error) = read {
            self.state = State::Broken(error);
        }
        read
    }

    fn read_on<'b>(
        &mut self,
        bytes: &'b [u8],
        mut deliver: impl FnMut(&'b [u8]),
    ) -> Result<usize, ChunkError> {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            match self.state {
                State::Done => break,
                State::Broken(error) => return Err(error),
                State::Data(left) => {
                    let count =
                        usize::try_from(left).map_or(rest.len(), |left| left.min(rest.len()));
                    deliver(rest.get(..count).unwrap_or_default());
                    at += count;
                    let left = left - count as u64;
                    self.state = match left {
                        0 => State::DataCr,
                        left => State::Data(left),
                    };
                }
                State::Trailers => at += self.trailer(rest)?,
                _ => {
                    let byte = rest.first().copied().unwrap_or_default();
                    self.step(byte)?;
                    at += 1;
                }
            }
        }
        Ok(at)
    }

    fn step(&mut self, byte: u8) -> Result<(), ChunkError> {
        self.line += 1;
        if self.line > LINE {
            return Err(ChunkError::Extension);
        }
        self.state = match (self.state, byte) {
            (State::FirstDigit, _) => State::Size(hex(byte).ok_or(ChunkError::Size)?),
            (State::Size(size), b'\r') => State::SizeEnd(size),
            (State::Size(size), b';') => State::Extension(size),
            (State::Size(size), _) => {
                let digit = hex(byte).ok_or(ChunkError::Size)?;
                if size >> 56 != 0 {
                    return Err(ChunkError::Size);
                }
                State::Size(size << 4 | digit)
            }
            (State::Extension(size), b'\r') => State::SizeEnd(size),
            (State::Extension(_), 0..=8 | 10..=31 | 127) => return Err(ChunkError::Extension),
            (State::Extension(size), _) => State::Extension(size),
            (State::SizeEnd(0), b'\n') => State::Trailers,
            (State::SizeEnd(size), b'\n') => State::Data(size),
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => {
                self.line = 0;
                State::FirstDigit
            }
            _ => return Err(ChunkError::End),
        };
        Ok(())
    }

    /// Takes lines of the trailers, up to the empty one.
    fn trailer(&mut self, rest: &[u8]) -> Result<usize, ChunkError> {
        let count = memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
        let line = rest.get(..count).unwrap_or_default();
        if self.trailers.len() + count > TRAILERS {
            return Err(ChunkError::Trailers);
        }
        self.trailers.extend_from_slice(line);
        if line.last() == Some(&b'\n') {
            if !self.trailers.ends_with(b"\r\n") {
                return Err(ChunkError::Trailers);
            }
            if self.trailers == b"\r\n" || self.trailers.ends_with(b"\r\n\r\n") {
                self.check_trailers()?;
                self.state = State::Done;
            }
        }
        Ok(count)
    }

    fn check_trailers(&self) -> Result<(), ChunkError> {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        match httparse::parse_headers(&self.trailers, &mut headers) {
            Ok(httparse::Status::Complete((used, _))) if used == self.trailers.len() => Ok(()),
            _ => Err(ChunkError::Trailers),
        }
    }

    /// Whether all of the body has come.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// The lines of the trailers, once the body is whole; without the empty line.
    #[must_use]
    pub fn trailers(&self) -> &[u8] {
        self.trailers.strip_suffix(b"\r\n").unwrap_or_default()
    }
}

fn hex(byte: u8) -> Option<u64> {
    char::from(byte).to_digit(16).map(u64::from)
}

#[cfg(test)]
mod tests;
