//! Fields of a head, as places in the bytes that they were read from.

use super::text::list;

/// Fields of one head that are read; more are refused.
pub const FIELDS: usize = 128;

/// A place in some bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// The place of `part`, which is a part of `whole`.
    pub(super) fn within(whole: &[u8], part: &[u8]) -> Self {
        let start = part.as_ptr().addr().wrapping_sub(whole.as_ptr().addr());
        Self::new(start, start + part.len())
    }

    /// From `start` to `end`, excluded. Heads are far shorter than 4 GiB.
    #[must_use]
    pub fn new(start: usize, end: usize) -> Self {
        let narrow = |at| u32::try_from(at).unwrap_or(u32::MAX);
        Self {
            start: narrow(start),
            end: narrow(end),
        }
    }

    /// What stands there.
    #[must_use]
    pub fn of(self, bytes: &[u8]) -> &[u8] {
        let (start, end) = (self.start as usize, self.end as usize);
        bytes.get(start..end).unwrap_or_default()
    }

    /// Where it begins.
    #[must_use]
    pub fn start(self) -> usize {
        self.start as usize
    }

    /// Where it ends.
    #[must_use]
    pub fn end(self) -> usize {
        self.end as usize
    }

    /// Whether nothing stands there.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.start >= self.end
    }
}

/// One field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: Span,
    /// Its value, without the space around it.
    pub value: Span,
    /// Which one it is, if a proxy has to do with it.
    pub known: Known,
    /// Whether it is for the next hop only, and not to be passed on (RFC 9110, section 7.6.1).
    pub is_hop: bool,
}

macro_rules! known {
    ($($(#[doc = $doc:literal])* $name:ident = $text:literal,)*) => {
        /// Fields that a proxy has to do with.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Known {
            /// None of them.
            Other,
            $($(#[doc = $doc])* $name,)*
        }

        impl Known {
            /// By its name.
            #[must_use]
            pub fn of(name: &[u8]) -> Self {
                $(
                    const { assert!($text.len() < 32); }
                    if name.len() == $text.len() && name.eq_ignore_ascii_case($text) {
                        return Self::$name;
                    }
                )*
                Self::Other
            }
        }
    };
}

known! {
    /// `Host`.
    Host = b"host",
    /// `Connection`.
    Connection = b"connection",
    /// `Keep-Alive`.
    KeepAlive = b"keep-alive",
    /// `Proxy-Connection`, which was never a standard.
    ProxyConnection = b"proxy-connection",
    /// `Proxy-Authenticate`.
    ProxyAuthenticate = b"proxy-authenticate",
    /// `Proxy-Authorization`.
    ProxyAuthorization = b"proxy-authorization",
    /// `TE`.
    Te = b"te",
    /// `Transfer-Encoding`.
    TransferEncoding = b"transfer-encoding",
    /// `Content-Length`.
    ContentLength = b"content-length",
    /// `Upgrade`.
    Upgrade = b"upgrade",
    /// `HTTP2-Settings`.
    Http2Settings = b"http2-settings",
    /// `Expect`.
    Expect = b"expect",
    /// `X-Forwarded-For`.
    XForwardedFor = b"x-forwarded-for",
    /// `X-Forwarded-Proto`.
    XForwardedProto = b"x-forwarded-proto",
    /// `X-Forwarded-Host`.
    XForwardedHost = b"x-forwarded-host",
    /// `X-Real-IP`.
    XRealIp = b"x-real-ip",
    /// `Forwarded`.
    Forwarded = b"forwarded",
    /// `Server`.
    Server = b"server",
    /// `Location`.
    Location = b"location",
    /// `Idempotency-Key`.
    IdempotencyKey = b"idempotency-key",
    /// `Accept-Encoding`.
    AcceptEncoding = b"accept-encoding",
    /// `Cookie`.
    Cookie = b"cookie",
    /// `Set-Cookie`.
    SetCookie = b"set-cookie",
    /// `Date`.
    Date = b"date",
    /// `User-Agent`.
    UserAgent = b"user-agent",
    /// `Referer`.
    Referer = b"referer",
    /// `Origin`.
    Origin = b"origin",
    /// `Sec-Fetch-Site`.
    SecFetchSite = b"sec-fetch-site",
    /// `Sec-Fetch-Mode`.
    SecFetchMode = b"sec-fetch-mode",
    /// `Sec-Fetch-Dest`.
    SecFetchDest = b"sec-fetch-dest",
}

impl Known {
    /// Whether it is for one hop by its nature.
    #[must_use]
    pub fn is_hop(self) -> bool {
        matches!(
            self,
            Self::Connection
                | Self::KeepAlive
                | Self::ProxyConnection
                | Self::ProxyAuthenticate
                | Self::ProxyAuthorization
                | Self::Te
                | Self::TransferEncoding
                | Self::Upgrade
                | Self::Http2Settings
        )
    }

    /// Whether `Connection` cannot name it away: without it the message would be another one.
    fn is_kept(self) -> bool {
        matches!(self, Self::Host | Self::ContentLength | Self::Expect)
    }
}

/// Fields as the parser of the library left them, to spans.
pub(super) fn take(bytes: &[u8], headers: &[httparse::Header<'_>], fields: &mut Vec<Field>) {
    fields.clear();
    fields.extend(headers.iter().map(|header| {
        let name = header.name.as_bytes();
        let known = Known::of(name);
        Field {
            name: Span::within(bytes, name),
            value: Span::within(bytes, header.value),
            known,
            is_hop: known.is_hop(),
        }
    }));
}

/// What the `Connection` fields of a message say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) close: bool,
    pub(super) keep_alive: bool,
    pub(super) upgrade: bool,
}

/// Reads the `Connection` fields, and marks those that they name as hop-by-hop.
pub(super) fn connection(bytes: &[u8], fields: &mut [Field]) -> Options {
    let mut options = Options::default();
    for index in 0..fields.len() {
        let Some(field) = fields.get(index).copied() else {
            break;
        };
        if field.known != Known::Connection {
            continue;
        }
        for option in list(field.value.of(bytes)) {
            if option.eq_ignore_ascii_case(b"close") {
                options.close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                options.keep_alive = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                options.upgrade = true;
            } else {
                for named in fields.iter_mut() {
                    if !named.known.is_kept() && named.name.of(bytes).eq_ignore_ascii_case(option) {
                        named.is_hop = true;
                    }
                }
            }
        }
    }
    options
}
