//! One request to an origin that speaks HTTP/2, as an exchange sees it: what it writes and reads are the
//! words of HTTP/1, so that there is one way to send a request and to hear its answer and not two.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream, SendStream};
use http::header::{CONTENT_LENGTH, COOKIE, HeaderValue, TE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method as HttpMethod, Request, Response, Uri, Version};
use ipreconnect::core::http::{Body, Known, Parsed, RequestHead, list};

use super::fields;
use super::mux::Mux;
use super::outbox::Outbox;
use crate::http::body::Reader;
use crate::http::buffer;

/// The end of an answer is waited for so long when its client has all of it.
const END: Duration = Duration::from_secs(1);

/// Where it is.
#[derive(Debug)]
enum Stage {
    /// Nothing was asked.
    Idle,
    /// The answer is to come.
    Asked(ResponseFuture),
    /// Its body is.
    Body(RecvStream),
    /// There is no more.
    Over,
}

/// What the origin has said of a request that it does not answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::http) enum Word {
    /// Nothing: the connection was lost.
    #[default]
    None,
    /// It did not begin with it, since it closes the connection (GOAWAY).
    Leaving,
    /// It did not begin with it (`REFUSED_STREAM`).
    Refused,
    /// It broke it off.
    BrokenOff,
}

/// One request.
#[derive(Debug)]
pub(in crate::http) struct Call {
    mux: Arc<Mux>,
    /// Whether the client takes trailers.
    pub(in crate::http) takes_trailers: bool,
    stage: Stage,
    sink: Option<SendStream<Bytes>>,
    out: Outbox,
    /// Of the request's body, as it is written.
    reader: Reader,
    is_head: bool,
    /// The answer's, as lines.
    trailers: Vec<u8>,
    word: Word,
}

impl Call {
    pub(in crate::http) fn new(mux: Arc<Mux>) -> Self {
        mux.begins();
        Self {
            mux,
            takes_trailers: false,
            stage: Stage::Idle,
            sink: None,
            out: Outbox::default(),
            reader: Reader::default(),
            is_head: false,
            trailers: Vec::new(),
            word: Word::None,
        }
    }

    /// The connection.
    pub(in crate::http) fn mux(&self) -> &Mux {
        &self.mux
    }

    /// What the origin has said of it.
    pub(in crate::http) fn word(&self) -> Word {
        self.word
    }

    /// The trailers of the answer, as lines, when its end has come.
    pub(in crate::http) fn trailers(&self) -> &[u8] {
        &self.trailers
    }

    /// Begins the request; `head` is a whole head of HTTP/1.
    fn begin(&mut self, head: &[u8]) -> io::Result<()> {
        let mut parsed = buffer::request();
        let request = match parsed.parse_own(head) {
            Ok(Parsed::Whole) => self.request(&parsed, head),
            Ok(Parsed::Partial) | Err(_) => Err(io::ErrorKind::InvalidData.into()),
        };
        self.reader = Reader::of_request(parsed.body);
        let has_body = parsed.body != Body::None;
        buffer::give_request(parsed);
        let request = request?;
        self.is_head = request.method() == HttpMethod::HEAD;
        match self.mux.sender().send_request(request, !has_body) {
            Ok((response, sink)) => {
                self.stage = Stage::Asked(response);
                self.sink = has_body.then_some(sink);
                Ok(())
            }
            Err(error) => {
                // It was not even put on the way.
                self.word = Word::Leaving;
                Err(self.lost(error))
            }
        }
    }

    fn request(&self, head: &RequestHead, text: &[u8]) -> io::Result<Request<()>> {
        let mut request = Request::new(());
        *request.method_mut() = HttpMethod::from_bytes(head.method_text.of(text))
            .map_err(|_| io::ErrorKind::InvalidData)?;
        let target = path(head.target.of(text))?;
        let host = head.host.span().map_or(&b""[..], |host| host.of(text));
        let mut uri = http::uri::Parts::default();
        uri.path_and_query = Some(target);
        match Authority::try_from(host) {
            Ok(authority) if !host.is_empty() => {
                uri.authority = Some(authority);
                uri.scheme = Some(if self.mux.is_tls {
                    Scheme::HTTPS
                } else {
                    Scheme::HTTP
                });
            }
            // What nobody was asked for in particular goes without an authority.
            _ => *request.version_mut() = Version::HTTP_11,
        }
        *request.uri_mut() = Uri::from_parts(uri).map_err(|_| io::ErrorKind::InvalidData)?;
        let headers = request.headers_mut();
        for field in &head.fields {
            if !field.is_hop && field.known != Known::Host {
                fields::insert(headers, field.name.of(text), field.value.of(text));
            }
        }
        if self.takes_trailers {
            headers.insert(TE, HeaderValue::from_static("trailers"));
        }
        // Pieces of a cookie compress better alone (RFC 9113, section 8.2.3).
        if let Some(cookies) = headers.remove(COOKIE) {
            for piece in cookies.as_bytes().split(|byte| *byte == b';') {
                if let Ok(mut piece) = HeaderValue::from_bytes(piece.trim_ascii()) {
                    piece.set_sensitive(true);
                    headers.append(COOKIE, piece);
                }
            }
        }
        Ok(request)
    }

    /// Sends the head of a request, in the words of HTTP/1, and what is there of its body.
    pub(in crate::http) fn write_both(&mut self, head: &[u8], body: &[u8]) -> io::Result<()> {
        self.begin(head)?;
        self.write(body)
    }

    /// Sends more of the body, as it stands on the wire of HTTP/1.
    pub(in crate::http) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() || self.sink.is_none() {
            return Ok(());
        }
        let out = &mut self.out;
        self.reader
            .read(bytes, |data| out.push(data))
            .map_err(|_| io::ErrorKind::InvalidData)?;
        if self.reader.is_done() {
            self.out.finish(fields::of_lines(self.reader.trailers()));
        }
        let mut cx = Context::from_waker(Waker::noop());
        match self.poll_flush(&mut cx) {
            Poll::Ready(flushed) => flushed,
            Poll::Pending => Ok(()),
        }
    }

    pub(in crate::http) fn is_blocked(&self) -> bool {
        self.sink.is_some() && !self.out.is_empty()
    }

    pub(in crate::http) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(sink) = &mut self.sink else {
            return Poll::Ready(Ok(()));
        };
        match ready!(self.out.poll_flush(cx, sink, true)) {
            Ok(is_end) => {
                if is_end {
                    self.sink = None;
                }
                Poll::Ready(Ok(()))
            }
            Err(error) => {
                // What the origin has to say of it is heard with the answer, which may be there.
                self.sink = None;
                let lost = error.and_then(h2::Error::into_io);
                Poll::Ready(Err(lost.unwrap_or(io::ErrorKind::BrokenPipe.into())))
            }
        }
    }

    /// Takes what has come of the answer: its head in the words of HTTP/1, then the data of its body;
    /// nothing at all when that has come to its end.
    pub(in crate::http) fn poll_take<T>(
        &mut self,
        cx: &mut Context<'_>,
        with: impl FnOnce(&[u8]) -> T,
    ) -> Poll<io::Result<T>> {
        match &mut self.stage {
            Stage::Idle | Stage::Over => Poll::Ready(Ok(with(&[]))),
            Stage::Asked(response) => {
                if let Poll::Ready(Some(informed)) = response.poll_informational(cx) {
                    let informed = informed.map_err(|error| self.lost(error))?;
                    return Poll::Ready(Ok(self.tell(&informed, false, with)));
                }
                let answer = ready!(Pin::new(response).poll(cx));
                let (parts, body) = answer.map_err(|error| self.lost(error))?.into_parts();
                let is_end = body.is_end_stream();
                self.stage = if is_end {
                    Stage::Over
                } else {
                    Stage::Body(body)
                };
                let answer = Response::from_parts(parts, ());
                Poll::Ready(Ok(self.tell(&answer, is_end, with)))
            }
            Stage::Body(body) => match ready!(body.poll_data(cx)) {
                Some(Ok(data)) => {
                    // The window of the stream opens again for what was taken.
                    let _ = body.flow_control().release_capacity(data.len());
                    if data.is_empty() {
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    Poll::Ready(Ok(with(&data)))
                }
                Some(Err(error)) => Poll::Ready(Err(self.lost(error))),
                None => {
                    let trailers = ready!(body.poll_trailers(cx));
                    match trailers {
                        Ok(Some(trailers)) => fields::write_trailers(&mut self.trailers, &trailers),
                        Ok(None) => {}
                        Err(error) => return Poll::Ready(Err(self.lost(error))),
                    }
                    self.stage = Stage::Over;
                    Poll::Ready(Ok(with(&[])))
                }
            },
        }
    }

    /// A head in the words of HTTP/1.
    fn tell<T>(&self, head: &Response<()>, is_end: bool, with: impl FnOnce(&[u8]) -> T) -> T {
        let mut text = buffer::bytes();
        text.extend_from_slice(b"HTTP/1.1 ");
        text.extend_from_slice(head.status().as_str().as_bytes());
        text.push(b' ');
        let reason = head.status().canonical_reason().unwrap_or_default();
        text.extend_from_slice(reason.as_bytes());
        text.extend_from_slice(b"\r\n");
        fields::write(&mut text, head.headers());
        if is_end && !self.is_head && !has_length(head) {
            text.extend_from_slice(b"content-length: 0\r\n");
        }
        text.extend_from_slice(b"\r\n");
        let told = with(&text);
        buffer::give_bytes(text);
        told
    }

    fn lost(&mut self, error: h2::Error) -> io::Error {
        if error.is_remote() && self.word == Word::None {
            self.word = match error.reason() {
                // Requests beyond the last one that it names (RFC 9113, section 6.8).
                _ if error.is_go_away() => Word::Leaving,
                Some(Reason::REFUSED_STREAM) => Word::Refused,
                _ => Word::BrokenOff,
            };
        }
        self.stage = Stage::Over;
        error
            .into_io()
            .unwrap_or_else(|| io::ErrorKind::ConnectionReset.into())
    }

    /// The client has all of the answer, though its end may not have come: breaking it off now would be
    /// taken for impatience.
    pub(in crate::http) fn finish(&mut self) {
        let Stage::Body(mut body) = std::mem::replace(&mut self.stage, Stage::Over) else {
            return;
        };
        if body.is_end_stream() {
            return;
        }
        tokio::spawn(tokio::time::timeout(END, async move {
            while let Some(Ok(data)) = body.data().await {
                if !data.is_empty() {
                    return;
                }
            }
        }));
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.mux.ends();
    }
}

/// Whether a head says how long its body is, or says it by its status.
fn has_length(head: &Response<()>) -> bool {
    let status = head.status();
    head.headers().contains_key(CONTENT_LENGTH)
        || status.is_informational()
        || matches!(status.as_u16(), 204 | 304)
}

/// A target as HTTP/2's library takes it: octets that no target has are written as they should be (RFC
/// 3986, section 2.1).
fn path(target: &[u8]) -> io::Result<PathAndQuery> {
    if let Ok(path) = PathAndQuery::try_from(target) {
        return Ok(path);
    }
    let mut encoded = Vec::with_capacity(target.len() * 3);
    for byte in target {
        let is_plain = byte.is_ascii_alphanumeric() || b"-._~/?:@!$&'()*+,;=%".contains(byte);
        if is_plain {
            encoded.push(*byte);
        } else {
            encoded.extend_from_slice(format!("%{byte:02X}").as_bytes());
        }
    }
    PathAndQuery::try_from(encoded).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Whether a request says that its client takes trailers.
pub(in crate::http) fn takes_trailers(head: &RequestHead, text: &[u8]) -> bool {
    let te = head.value(text, Known::Te);
    te.is_some_and(|te| list(te).any(|one| one.eq_ignore_ascii_case(b"trailers")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_target_can_be_asked_for() {
        for (target, wanted) in [
            ("/a?b=c%20d", "/a?b=c%20d"),
            ("*", "*"),
            ("/a<b>\\?\u{e4}#", "/a%3Cb%3E%5C?%C3%A4%23"),
        ] {
            let path = path(target.as_bytes()).unwrap();
            assert_eq!(path.as_str(), wanted, "{target}");
        }
    }
}
