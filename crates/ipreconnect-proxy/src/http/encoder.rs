//! Compressing a body while it passes.

use std::io::Write;

use ipreconnect::core::http::ContentCoding;

use super::buffer;

/// How hard each one tries: what costs about as much as the network saves.
const GZIP: u32 = 5;
const BROTLI: u32 = 4;
const ZSTD: i32 = 3;
/// The window of brotli, as a power of two: what it costs in memory.
const BROTLI_WINDOW: u32 = 18;
const BROTLI_BUFFER: usize = 4096;

/// Compresses one body.
pub(super) struct Encoder {
    coding: ContentCoding,
    inner: Inner,
}

enum Inner {
    Gzip(flate2::write::GzEncoder<Vec<u8>>),
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
    Done,
}

impl Encoder {
    /// `None` if there is no memory for it.
    pub(super) fn new(coding: ContentCoding) -> Option<Self> {
        let out = buffer::bytes();
        let inner = match coding {
            ContentCoding::Gzip => {
                let level = flate2::Compression::new(GZIP);
                Inner::Gzip(flate2::write::GzEncoder::new(out, level))
            }
            ContentCoding::Brotli => {
                let writer =
                    brotli::CompressorWriter::new(out, BROTLI_BUFFER, BROTLI, BROTLI_WINDOW);
                Inner::Brotli(Box::new(writer))
            }
            ContentCoding::Zstd => Inner::Zstd(zstd::stream::write::Encoder::new(out, ZSTD).ok()?),
        };
        Some(Self { coding, inner })
    }

    pub(super) fn coding(&self) -> ContentCoding {
        self.coding
    }

    /// Takes more of the body.
    pub(super) fn push(&mut self, data: &[u8]) {
        // What is written to memory has no errors.
        let _ = match &mut self.inner {
            Inner::Gzip(encoder) => encoder.write_all(data),
            Inner::Brotli(encoder) => encoder.write_all(data),
            Inner::Zstd(encoder) => encoder.write_all(data),
            Inner::Done => Ok(()),
        };
    }

    /// Hands over what there is: whoever waits for it sees all that was pushed.
    pub(super) fn take(&mut self, with: impl FnOnce(&[u8])) {
        let out = match &mut self.inner {
            Inner::Gzip(encoder) => {
                let _ = encoder.flush();
                encoder.get_mut()
            }
            Inner::Brotli(encoder) => {
                let _ = encoder.flush();
                encoder.get_mut()
            }
            Inner::Zstd(encoder) => {
                let _ = encoder.flush();
                encoder.get_mut()
            }
            Inner::Done => return,
        };
        with(out);
        out.clear();
    }

    /// Ends it, and hands over the rest.
    pub(super) fn finish(&mut self, with: impl FnOnce(&[u8])) {
        let out = match std::mem::replace(&mut self.inner, Inner::Done) {
            Inner::Gzip(encoder) => encoder.finish().unwrap_or_default(),
            Inner::Brotli(encoder) => encoder.into_inner(),
            Inner::Zstd(encoder) => encoder.finish().unwrap_or_default(),
            Inner::Done => Vec::new(),
        };
        with(&out);
        buffer::give_bytes(out);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn what_is_compressed_is_the_same_and_comes_at_once() {
        let text = "the same words over and over. ".repeat(5000);
        for coding in [
            ContentCoding::Gzip,
            ContentCoding::Brotli,
            ContentCoding::Zstd,
        ] {
            let mut encoder = Encoder::new(coding).unwrap();
            let mut out = Vec::new();
            for piece in text.as_bytes().chunks(20_000) {
                let before = out.len();
                encoder.push(piece);
                encoder.take(|bytes| out.extend_from_slice(bytes));
                assert!(out.len() > before, "{coding:?}");
            }
            encoder.finish(|bytes| out.extend_from_slice(bytes));
            assert!(out.len() < text.len() / 10, "{coding:?}: {}", out.len());
            let mut read = String::new();
            match coding {
                ContentCoding::Gzip => {
                    flate2::read::GzDecoder::new(&out[..]).read_to_string(&mut read)
                }
                ContentCoding::Brotli => {
                    brotli::Decompressor::new(&out[..], 4096).read_to_string(&mut read)
                }
                ContentCoding::Zstd => zstd::stream::read::Decoder::new(&out[..])
                    .unwrap()
                    .read_to_string(&mut read),
            }
            .unwrap();
            assert_eq!(read, text, "{coding:?}");
        }
    }
}
