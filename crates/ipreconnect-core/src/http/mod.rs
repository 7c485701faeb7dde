//! HTTP/1.1 as it may stand on the wire, in one strict reading (RFC 9112), and what may be sent twice.
//!
//! Two programs that read the same bytes differently can be played off against each other (request
//! smuggling). So everything that has more than one reading is refused: a bare LF, a folded line, a
//! space before the colon, two lengths, a length beside a transfer coding.

pub mod cache;
mod chunked;
mod compress;
mod field;
mod forwarded;
mod method;
mod pace;
mod path;
mod replay;
mod request;
mod response;
mod route;
mod shield;
mod text;
mod trace;

pub use chunked::{ChunkError, Chunked, TRAILERS};
pub use compress::{ContentCoding, compress};
pub use field::{FIELDS, Field, Known, Span};
pub use forwarded::{client_of, is_trusted};
pub use method::Method;
pub use pace::Pace;
pub use path::{has_broken_escape, normal, path_of, query_of};
pub use replay::{Key, Outcome, Replay, replay};
pub use request::{Body, Host, Parsed, RequestError, RequestHead, Role, Version};
pub use response::{ResponseBody, ResponseError, ResponseHead};
pub use route::{
    Asked, HostRule, PathRule, PathRuleError, Pattern, PatternError, RouteRule, host_of, is_method,
};
pub use shield::{Foreign, Shield, WebOrigin, WebOriginError};
pub use text::{cookie, is_token, list};
pub use trace::{TRACEPARENT, TraceContext};
