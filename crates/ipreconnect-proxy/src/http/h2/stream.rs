//! One request of HTTP/2, as an exchange sees it.
//!
//! Its head is put in the words of HTTP/1 and read as strictly as any other one, so that there is one
//! reading of requests and not two.

use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::header::{CONTENT_LENGTH, COOKIE, HOST, HeaderMap, HeaderValue};
use http::{Method as HttpMethod, Request, Response, StatusCode, Uri};
use ipreconnect::clock;
use ipreconnect::core::http::{
    Field, Known, Parsed, RequestHead, ResponseBody, ResponseHead, Role,
};

use super::outbox::Outbox;
use super::{Tally, fields, through};
use crate::http::answer::{Form, Trouble};
use crate::http::body::{Reader, chunk};
use crate::http::buffer;
use crate::http::client::{record_refusal, serve_one};
use crate::http::date;
use crate::http::exchange::Ended;
use crate::http::guest::Guest;
use crate::http::render::{self, Coding, Onward};
use crate::http::side::{Lead, Side};
use crate::http::site::FieldRules;
use crate::http::timer::Timer;
use crate::http::window::Window;
use crate::http::wire::{Half, Wire};
use crate::notice;
use crate::places::Seat;

/// A body that nobody wants is taken for so long, and so much of it.
const LINGER: Duration = Duration::from_secs(2);
const UNWANTED: usize = 1024 * 1024;

/// The client's side of one request.
struct Stream<'t> {
    text: Vec<u8>,
    body: Option<RecvStream>,
    /// Whether the body is told in chunks to the origin.
    is_chunked: bool,
    respond: SendResponse<Bytes>,
    answer: Option<SendStream<Bytes>>,
    /// Of the answer's body, not taken yet.
    out: Outbox,
    is_over: bool,
    /// The client has ended it before there was an answer.
    is_taken_back: bool,
    /// Until when more of a body is taken that nobody wants, and how much of it was.
    linger: Option<Timer>,
    unwanted: usize,
    timer: Timer,
    tally: &'t Tally,
    /// Its place, where each request may open a connection to somewhere else.
    seat: Option<Seat>,
    needs_seat: bool,
}

/// Carries out one request.
pub(super) async fn serve(
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
    guest: &Guest,
    tally: &Tally,
) {
    let (parts, body) = request.into_parts();
    let has_body = !body.is_end_stream();
    let text = in_words_of_http1(&parts, has_body, guest.role());
    let is_forward = guest.role() == Role::Forward;
    let seat = is_forward.then(|| guest.one_more()).flatten();
    let mut stream = Stream {
        text,
        is_chunked: has_body && !parts.headers.contains_key(CONTENT_LENGTH),
        body: has_body.then_some(body),
        respond,
        answer: None,
        out: Outbox::default(),
        is_over: false,
        is_taken_back: false,
        linger: None,
        unwanted: 0,
        timer: Timer::new(clock::now(), guest.limits().idle),
        tally,
        seat,
        needs_seat: is_forward,
    };
    drop(parts);
    let mut head = buffer::request();
    match head.parse_for(guest.role(), &stream.text) {
        Ok(Parsed::Whole) => {
            guest.counts_up(stream.text.len());
            let ended = serve_one(&mut stream, guest, &head, "HTTP/2.0").await;
            if let (Ended::Tunnel(tunnel), Some(answer)) = (ended, stream.answer.take()) {
                stream.is_over = true;
                buffer::give_request(std::mem::take(&mut head));
                through::carry(guest, *tunnel, stream.body.take(), answer).await;
            }
        }
        Ok(Parsed::Partial) => stream.abort(),
        Err(error) => {
            let trouble = Trouble::Request(error);
            notice::refused(guest.name(), guest.from(), &trouble.words());
            record_refusal(guest, trouble, "HTTP/2.0");
            let mut out = buffer::bytes();
            let form = Form::of(&stream.text, guest.error_page());
            trouble.render(&mut out, Onward::Kept, false, form);
            // What the client does not take at once, it has not read either.
            let _ = stream.deliver(&out);
            let _ = std::future::poll_fn(|cx| match stream.poll_flush(cx) {
                Poll::Pending => stream.timer.poll(cx).map(|()| Ok(())),
                ready => ready,
            })
            .await;
            buffer::give_bytes(out);
        }
    }
    buffer::give_request(head);
    stream.leave();
}

/// The head of a request as HTTP/1.1 would have it.
fn in_words_of_http1(parts: &http::request::Parts, has_body: bool, role: Role) -> Vec<u8> {
    let mut text = Vec::with_capacity(512);
    text.extend_from_slice(parts.method.as_str().as_bytes());
    text.push(b' ');
    if role == Role::Forward {
        say_where_to(&mut text, &parts.uri);
    }
    match (&parts.method, parts.uri.path_and_query()) {
        (&HttpMethod::CONNECT, _) if role == Role::Forward => {}
        (&HttpMethod::CONNECT, _) | (_, None) => text.push(b'*'),
        (_, Some(target)) => text.extend_from_slice(target.as_str().as_bytes()),
    }
    text.extend_from_slice(b" HTTP/1.1\r\n");
    let authority = parts
        .uri
        .authority()
        .map(|authority| authority.as_str().as_bytes());
    let host = authority.or(parts.headers.get(HOST).map(HeaderValue::as_bytes));
    let host = host.unwrap_or_default();
    render::line(&mut text, b"host", host);
    for (name, value) in &parts.headers {
        // Another host than that is refused, as two of them are.
        let is_told = name == HOST && host.eq_ignore_ascii_case(value.as_bytes());
        if !is_told && name != COOKIE {
            render::line(&mut text, name.as_str().as_bytes(), value.as_bytes());
        }
    }
    // Pieces of a cookie are one field in HTTP/1 (RFC 9113, section 8.2.3).
    let mut cookies = parts.headers.get_all(COOKIE).iter();
    if let Some(first) = cookies.next() {
        text.extend_from_slice(b"cookie: ");
        text.extend_from_slice(first.as_bytes());
        for more in cookies {
            text.extend_from_slice(b"; ");
            text.extend_from_slice(more.as_bytes());
        }
        text.extend_from_slice(b"\r\n");
    }
    // What follows a request for a tunnel is no body of it.
    let is_body = has_body && parts.method != HttpMethod::CONNECT;
    if is_body && !parts.headers.contains_key(CONTENT_LENGTH) {
        text.extend_from_slice(b"transfer-encoding: chunked\r\n");
    }
    text.extend_from_slice(b"\r\n");
    text
}

/// The beginning of the absolute form, or all of the authority form. Nothing is made of what does not say where to.
fn say_where_to(text: &mut Vec<u8>, uri: &Uri) {
    let Some(authority) = uri.authority() else {
        return;
    };
    if let Some(scheme) = uri.scheme_str() {
        text.extend_from_slice(scheme.as_bytes());
        text.extend_from_slice(b"://");
    }
    text.extend_from_slice(authority.as_str().as_bytes());
}

fn response(head: &ResponseHead) -> Option<Response<()>> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(head.status).ok()?;
    Some(response)
}

fn passes(field: &Field, rules: &FieldRules, text: &[u8]) -> bool {
    !field.is_hop && rules.pass(field, text)
}

fn gone() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

impl Stream<'_> {
    /// Takes for a moment what the client still sends of a body that nobody wants. It may be told to stop
    /// when it has the whole answer (RFC 9113, section 8.1), but there are clients that take that for a
    /// failure, or wait for ever.
    fn poll_unwanted(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let linger = self
            .linger
            .get_or_insert_with(|| Timer::new(clock::now(), LINGER));
        while let Some(body) = &mut self.body
            && self.unwanted < UNWANTED
        {
            match body.poll_data(cx) {
                Poll::Ready(Some(Ok(data))) => {
                    self.unwanted += data.len();
                    // The window of the stream opens again for what was taken.
                    let _ = body.flow_control().release_capacity(data.len());
                }
                Poll::Ready(Some(Err(_)) | None) => self.body = None,
                Poll::Pending => return linger.poll(cx),
            }
        }
        Poll::Ready(())
    }

    /// The request is over.
    fn leave(&mut self) {
        if self.is_over {
            self.tally.answered.fetch_add(1, Relaxed);
        } else {
            // Whoever ends what was answered in part has had enough of it; and we end what is cut off.
            let is_taken_back = u32::from(self.is_taken_back);
            self.tally.taken_back.fetch_add(is_taken_back, Relaxed);
            self.abort();
        }
    }

    fn begin(&mut self, response: Response<()>, is_end: bool) -> io::Result<()> {
        let answer = self.respond.send_response(response, is_end);
        self.is_taken_back |= answer.is_err();
        self.answer = Some(answer.map_err(|_| gone())?);
        self.is_over = is_end;
        Ok(())
    }
}

impl Side for Stream<'_> {
    fn text(&self) -> &[u8] {
        &self.text
    }

    fn has_room(&self) -> bool {
        self.seat.is_some() || !self.needs_seat
    }

    fn timer(&mut self) -> &mut Timer {
        &mut self.timer
    }

    fn is_unread(&self) -> bool {
        self.tally.is_unread()
    }

    fn is_throttled(&self) -> bool {
        self.tally.is_throttled()
    }

    fn take_early(&mut self, _: &mut Reader, _: &mut Window) -> Result<(), ()> {
        Ok(())
    }

    fn poll_more(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut Reader,
        window: &mut Window,
    ) -> Poll<Result<bool, ()>> {
        // What has no body, or one that is thrown away, is never whole: its connection to the origin must
        // not be taken for one that had all of it.
        let Some(body) = &mut self.body else {
            return Poll::Ready(Err(()));
        };
        match ready!(body.poll_data(cx)) {
            Some(Ok(data)) => {
                // The window of the stream opens again for what was taken.
                let _ = body.flow_control().release_capacity(data.len());
                if self.is_chunked {
                    let mut coded = buffer::bytes();
                    chunk(&data, &mut coded);
                    window.push(&coded);
                    buffer::give_bytes(coded);
                } else {
                    reader.read(&data, |_| {}).map_err(|_| ())?;
                    window.push(&data);
                }
                Poll::Ready(Ok(true))
            }
            Some(Err(error)) if error.is_reset() || error.is_io() => {
                self.is_taken_back = self.answer.is_none();
                Poll::Ready(Ok(false))
            }
            Some(Err(_)) => Poll::Ready(Err(())),
            None if matches!(reader, Reader::Length(_)) => Poll::Ready(Err(())),
            None => {
                let trailers = ready!(body.poll_trailers(cx)).map_err(|_| ())?;
                if self.is_chunked {
                    window.push(&fields::last_chunk(trailers.as_ref()));
                }
                self.body = None;
                *reader = Reader::default();
                Poll::Ready(Ok(true))
            }
        }
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>, _: Half) -> Poll<()> {
        self.poll_reset(cx)
    }

    fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.answer {
            Some(answer) => answer.poll_reset(cx).map(drop),
            None => {
                let reset = self.respond.poll_reset(cx);
                self.is_taken_back |= reset.is_ready();
                reset.map(drop)
            }
        }
    }

    fn coding(&self, _: ResponseBody, _: &RequestHead) -> Coding {
        Coding::Frames
    }

    fn inform(&mut self, head: &ResponseHead, text: &[u8]) {
        let Some(mut response) = response(head) else {
            return;
        };
        for field in head.fields.iter().filter(|field| !field.is_hop) {
            fields::insert(
                response.headers_mut(),
                field.name.of(text),
                field.value.of(text),
            );
        }
        // A client that does not take it misses nothing that it needs.
        let _ = self.respond.send_informational(response);
    }

    fn respond(&mut self, lead: &Lead<'_>, body: &[u8]) -> usize {
        let Some(mut response) = response(lead.head) else {
            self.abort();
            return 0;
        };
        let back = lead.back(&self.text);
        let headers = response.headers_mut();
        for field in &lead.head.fields {
            if !passes(field, lead.rules, lead.text) || !lead.passes(field) {
                continue;
            }
            let value = field.value.of(lead.text);
            let rewritten = match field.known {
                Known::Location => back.location(value),
                _ => None,
            };
            let value = rewritten.as_deref().unwrap_or(value);
            fields::insert(headers, field.name.of(lead.text), value);
        }
        if !lead
            .head
            .fields
            .iter()
            .any(|field| field.known == Known::Date)
        {
            date::with(|now| fields::insert(headers, b"date", now.as_bytes()));
        }
        lead.write_changed(|name, value| fields::insert(headers, name, value));
        for (name, value) in &lead.rules.set {
            fields::insert(headers, name.as_bytes(), value.as_bytes());
        }
        if let Some(cookie) = lead.cookie {
            fields::insert(headers, b"set-cookie", cookie.as_bytes());
        }
        for (name, value) in lead.told {
            fields::insert(headers, name.as_bytes(), value.as_bytes());
        }
        // There are clients that take a head for the whole of an answer only where the stream ends with it.
        let is_end = matches!(lead.body, ResponseBody::None | ResponseBody::Length(0));
        // What is wrong with the client is found when more is sent, or asked for.
        let _ = self.begin(response, is_end);
        self.out.push(body);
        lead.head.length + body.len()
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.push(bytes);
        Ok(())
    }

    fn finish(&mut self, _: Coding, trailers: &[u8]) -> io::Result<()> {
        if !self.is_over {
            self.out.finish(fields::of_lines(trailers));
        }
        Ok(())
    }

    fn deliver(&mut self, answer: &[u8]) -> io::Result<()> {
        let mut head = buffer::response();
        let parsed = head.parse(answer).is_ok();
        if let (true, Some(mut response)) = (parsed, response(&head)) {
            // It is ours, so that what is for the next hop alone is for the client.
            let passes = |field: &&Field| !field.is_hop || field.known == Known::ProxyAuthenticate;
            for field in head.fields.iter().filter(passes) {
                fields::insert(
                    response.headers_mut(),
                    field.name.of(answer),
                    field.value.of(answer),
                );
            }
            let body = answer.get(head.length..).unwrap_or_default();
            self.begin(response, body.is_empty())?;
            self.out.push(body);
            if !body.is_empty() {
                self.out.finish(HeaderMap::new());
            }
        }
        buffer::give_response(head);
        Ok(())
    }

    fn go_through(&mut self) -> io::Result<()> {
        self.begin(Response::new(()), false)
    }

    fn is_blocked(&self) -> bool {
        !self.out.is_empty()
    }

    fn waiting(&self) -> usize {
        self.out.len()
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Trailers are waited for, and who understands them understands that nothing follows.
        let may_end =
            !self.out.is_ending() || self.body.is_none() || self.poll_unwanted(cx).is_ready();
        let Some(answer) = &mut self.answer else {
            return Poll::Ready(Err(gone()));
        };
        let sent = ready!(self.out.poll_flush(cx, answer, may_end));
        self.is_over |= sent.map_err(|_| gone())?;
        if may_end {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    }

    fn abort(&mut self) {
        if self.is_over {
            return;
        }
        match &mut self.answer {
            Some(answer) => answer.send_reset(Reason::INTERNAL_ERROR),
            None => self.respond.send_reset(Reason::CANCEL),
        }
    }

    fn wire(&mut self) -> Option<&mut Wire> {
        None
    }
}
