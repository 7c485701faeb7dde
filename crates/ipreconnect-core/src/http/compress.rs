//! Which answers may be compressed, and how the client wants it (RFC 9110, section 12.5.3).

use super::field::Known;
use super::method::Method;
use super::request::RequestHead;
use super::response::ResponseHead;
use super::text::list;

/// Shorter bodies hardly get shorter.
const SMALL: u64 = 1024;

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentCoding {
    /// RFC 8878.
    Zstd,
    /// RFC 7932.
    Brotli,
    /// RFC 1952.
    Gzip,
}

impl ContentCoding {
    /// The best one first, where the client has no wish.
    const ALL: [Self; 3] = [Self::Zstd, Self::Brotli, Self::Gzip];

    /// Its name in `Content-Encoding`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Brotli => "br",
            Self::Gzip => "gzip",
        }
    }
}

/// Whether an answer is to be compressed: `None` if it never is, else how, as the client wants it. Each
/// head comes with the bytes that it is a place of.
#[must_use]
pub fn compress(
    (request, asked): (&RequestHead, &[u8]),
    (response, answered): (&ResponseHead, &[u8]),
) -> Option<Option<ContentCoding>> {
    let is_whole = matches!(response.status, 200..=299 | 400..=599)
        && !matches!(response.status, 204..=206)
        && request.method != Method::Head;
    if !is_whole {
        return None;
    }
    let mut is_text = false;
    for field in &response.fields {
        let value = field.value.of(answered);
        match field.name.of(answered) {
            name if name.eq_ignore_ascii_case(b"content-type") => is_text = is_compressible(value),
            name if name.eq_ignore_ascii_case(b"cache-control") => {
                let mut directives = list(value);
                if directives.any(|one| one.eq_ignore_ascii_case(b"no-transform")) {
                    return None;
                }
            }
            // It is coded already, or somebody would be told wrongly what it is.
            name if CODED.iter().any(|coded| name.eq_ignore_ascii_case(coded)) => return None,
            name if name.eq_ignore_ascii_case(b"content-length") => {
                let length = std::str::from_utf8(value).ok()?.trim().parse::<u64>();
                if length.is_ok_and(|length| length < SMALL) {
                    return None;
                }
            }
            _ => {}
        }
    }
    is_text.then(|| negotiate(request.value(asked, Known::AcceptEncoding)?))
}

const CODED: [&[u8]; 6] = [
    b"content-encoding",
    b"content-range",
    b"content-digest",
    b"content-md5",
    b"digest",
    b"repr-digest",
];

/// Whether a media type is text of some kind.
fn is_compressible(value: &[u8]) -> bool {
    let kind = value.split(|byte| *byte == b';').next().unwrap_or_default();
    let kind = kind.trim_ascii().to_ascii_lowercase();
    let kind = kind.as_slice();
    // Events are read one by one, and each is short.
    if kind == b"text/event-stream" {
        return false;
    }
    kind.starts_with(b"text/")
        || kind.ends_with(b"+json")
        || kind.ends_with(b"+xml")
        || KINDS.contains(&kind)
}

const KINDS: [&[u8]; 8] = [
    b"application/json",
    b"application/javascript",
    b"application/xml",
    b"application/wasm",
    b"application/x-ndjson",
    b"application/graphql-response",
    b"application/manifest",
    b"image/bmp",
];

/// The coding that the client likes best.
fn negotiate(accepted: &[u8]) -> Option<ContentCoding> {
    let weight_of = |name: &str| {
        let mut any = None;
        for one in list(accepted) {
            let mut parts = one.split(|byte| *byte == b';');
            let own = parts.next().unwrap_or_default().trim_ascii();
            let weight = parts.find_map(weight).unwrap_or(1000);
            if own.eq_ignore_ascii_case(name.as_bytes()) {
                return weight;
            }
            if own == b"*" {
                any = Some(weight);
            }
        }
        any.unwrap_or(0)
    };
    let plain = list(accepted).any(|one| one.to_ascii_lowercase().starts_with(b"identity"));
    let floor = if plain { weight_of("identity") } else { 0 };
    let mut best: Option<(u32, ContentCoding)> = None;
    for coding in ContentCoding::ALL {
        let weight = weight_of(coding.name());
        if weight > 0 && weight >= floor && best.is_none_or(|(most, _)| weight > most) {
            best = Some((weight, coding));
        }
    }
    best.map(|(_, coding)| coding)
}

/// `q=0.5`, in thousandths.
fn weight(parameter: &[u8]) -> Option<u32> {
    let parameter = parameter.trim_ascii();
    let value = parameter
        .strip_prefix(b"q=")
        .or(parameter.strip_prefix(b"Q="))?;
    let value: f64 = std::str::from_utf8(value).ok()?.trim().parse().ok()?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it lies between 0 and 1000"
    )]
    let thousandths = (value.clamp(0.0, 1.0) * 1000.0) as u32;
    Some(thousandths)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(accepted: &str, answer: &str) -> Option<&'static str> {
        let asked = format!("GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: {accepted}\r\n\r\n");
        let answered = format!("HTTP/1.1 200 OK\r\n{answer}\r\n\r\n");
        let (mut request, mut response) = (RequestHead::default(), ResponseHead::default());
        request.parse(asked.as_bytes()).unwrap();
        response.parse(answered.as_bytes()).unwrap();
        let coding = compress(
            (&request, asked.as_bytes()),
            (&response, answered.as_bytes()),
        );
        coding.flatten().map(ContentCoding::name)
    }

    #[test]
    fn the_client_has_the_choice() {
        const TEXT: &str = "Content-Type: text/html; charset=utf-8";
        for (accepted, wanted) in [
            ("gzip, deflate, br, zstd", Some("zstd")),
            ("gzip, deflate, br", Some("br")),
            ("gzip;q=1.0, br;q=0.5", Some("gzip")),
            ("GZIP", Some("gzip")),
            ("*", Some("zstd")),
            ("*;q=0.5, zstd;q=0", Some("br")),
            ("identity", None),
            ("identity;q=1, gzip;q=0.5", None),
            ("identity;q=0.5, gzip", Some("gzip")),
            ("gzip;q=0", None),
            ("deflate", None),
            ("", None),
            ("gzip;q=nonsense", Some("gzip")),
        ] {
            assert_eq!(of(accepted, TEXT), wanted, "{accepted}");
        }
    }

    #[test]
    fn only_what_gets_shorter_and_may_be_changed_is_compressed() {
        for (answer, wanted) in [
            ("Content-Type: application/json", true),
            ("Content-Type: application/ld+json", true),
            ("Content-Type: image/svg+xml", true),
            ("Content-Type: image/png", false),
            ("Content-Type: text/event-stream", false),
            ("X: y", false),
            ("Content-Type: text/css\r\nContent-Length: 1023", false),
            ("Content-Type: text/css\r\nContent-Length: 1024", true),
            ("Content-Type: text/css\r\nContent-Encoding: gzip", false),
            (
                "Content-Type: text/css\r\nCache-Control: max-age=1, no-transform",
                false,
            ),
            (
                "Content-Type: text/css\r\nContent-Digest: sha-256=:x=:",
                false,
            ),
        ] {
            assert_eq!(of("gzip", answer).is_some(), wanted, "{answer}");
        }
    }
}
