//! Who may use the API over TCP.
//!
//! A browser on this machine can be made to send requests here by any page that it shows. So the name that a
//! request is for must be one of ours (a page whose own name was made to lead here has another: DNS rebinding),
//! a request must not come from another site (Origin, Sec-Fetch-Site), changes come as JSON, and whoever asks
//! shows the token: in a header, and never in a cookie, since browsers send those to every port of a host.

use std::net::IpAddr;
use std::sync::Arc;

use aws_lc_rs::constant_time;
use axum::Json;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::view::{Outcome, Readiness, SCHEMA};

/// What guards the API over TCP.
#[derive(Debug)]
pub struct Guard {
    token: Box<str>,
    /// Names that requests may be for, beside addresses and `localhost`.
    hosts: Vec<String>,
}

impl Guard {
    /// `hosts` are names that requests may be for, beside addresses and `localhost`.
    #[must_use]
    pub fn new(token: &str, hosts: Vec<String>) -> Self {
        Self {
            token: token.into(),
            hosts,
        }
    }

    /// Why a request is refused, whatever it shows.
    fn refuses(&self, method: &Method, headers: &HeaderMap) -> Option<&'static str> {
        let host = text(headers, HOST.as_str());
        if !host.is_some_and(|host| self.is_ours(host)) {
            return Some(
                "this name does not lead here; use an address, `localhost`, or a name in `gateway.admin_hosts`",
            );
        }
        if let Some(origin) = text(headers, ORIGIN.as_str()) {
            let from = origin.split_once("://").map(|(_, host)| host);
            if from != host {
                return Some("this comes from a page of another site");
            }
        }
        if let Some(site) = text(headers, "sec-fetch-site")
            && !matches!(site, "same-origin" | "none")
        {
            return Some("this comes from a page of another site");
        }
        // No other method changes anything here.
        let changes = *method == Method::POST;
        let kind = text(headers, CONTENT_TYPE.as_str()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        if changes && !kind.eq_ignore_ascii_case("application/json") {
            return Some("changes are sent as JSON (Content-Type: application/json)");
        }
        None
    }

    /// Addresses are nobody's names, and cannot be made to lead elsewhere.
    fn is_ours(&self, host: &str) -> bool {
        let name = host.rsplit_once(':').map_or(host, |(name, port)| {
            let is_port = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
            if is_port { name } else { host }
        });
        let bare = name
            .strip_prefix('[')
            .and_then(|name| name.strip_suffix(']'));
        bare.unwrap_or(name).parse::<IpAddr>().is_ok()
            || name.eq_ignore_ascii_case("localhost")
            || self.hosts.iter().any(|one| one.eq_ignore_ascii_case(name))
    }

    fn is_shown(&self, headers: &HeaderMap) -> bool {
        let bearer = text(headers, AUTHORIZATION.as_str());
        let bearer = bearer.and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme
                .eq_ignore_ascii_case("bearer")
                .then_some(token.trim())
        });
        bearer.is_some_and(|token| is_same(token, &self.token))
    }
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

fn is_same(one: &str, other: &str) -> bool {
    constant_time::verify_slices_are_equal(one.as_bytes(), other.as_bytes()).is_ok()
}

/// Lets in who may come in.
pub(super) async fn stand(
    State(guard): State<Arc<Guard>>,
    request: Request,
    next: Next,
) -> Response {
    if let Some(why) = guard.refuses(request.method(), request.headers()) {
        return (StatusCode::FORBIDDEN, Json(Outcome::not_done(why))).into_response();
    }
    if guard.is_shown(request.headers()) {
        return next.run(request).await;
    }
    match request.uri().path() {
        // The frame of the page, which says nothing before the token is shown.
        "/" | "/healthz" | "/assets/style.css" | "/assets/page.js" => next.run(request).await,
        // Whether, and not what: that is for who may know.
        "/readyz" => {
            let status = next.run(request).await.status();
            let readiness = Readiness {
                schema: SCHEMA,
                ready: status.is_success(),
                missing: Vec::new(),
            };
            (status, Json(readiness)).into_response()
        }
        _ => {
            let why = "show the token (Authorization: Bearer …); it is in the file `token` of the state directory";
            let refused = Json(Outcome::not_done(why));
            let mut refused = (StatusCode::UNAUTHORIZED, refused).into_response();
            let challenge = HeaderValue::from_static("Bearer realm=\"ipreconnect\"");
            refused.headers_mut().insert("www-authenticate", challenge);
            refused
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refuses(method: &Method, headers: &[(&'static str, &str)]) -> Option<&'static str> {
        let guard = Guard::new("secret", vec!["gate.corp.example".to_owned()]);
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, HeaderValue::from_str(value).unwrap());
        }
        guard.refuses(method, &map)
    }

    #[test]
    fn names_that_are_not_ours_do_not_lead_here() {
        for host in [
            "127.0.0.1:9311",
            "[::1]:9311",
            "localhost",
            "LOCALHOST:80",
            "gate.corp.example:9311",
            "10.1.1.1",
        ] {
            assert_eq!(refuses(&Method::GET, &[("host", host)]), None, "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:9311",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "",
            "[::1",
        ] {
            assert!(refuses(&Method::GET, &[("host", host)]).is_some(), "{host}");
        }
        assert!(refuses(&Method::GET, &[]).is_some());
    }

    #[test]
    fn other_sites_have_no_say() {
        let host = ("host", "127.0.0.1:9311");
        let json = ("content-type", "application/json; charset=utf-8");
        let from = |origin| refuses(&Method::POST, &[host, json, ("origin", origin)]);
        assert_eq!(from("http://127.0.0.1:9311"), None);
        for origin in ["http://evil.example", "null", "http://127.0.0.1:8080", ""] {
            assert!(from(origin).is_some(), "{origin}");
        }
        let site = |site| refuses(&Method::GET, &[host, ("sec-fetch-site", site)]);
        assert_eq!((site("same-origin"), site("none")), (None, None));
        assert!(site("cross-site").is_some());
        assert!(site("same-site").is_some());
        for kind in ["text/plain", "application/x-www-form-urlencoded", ""] {
            let refused = refuses(&Method::POST, &[host, ("content-type", kind)]);
            assert!(refused.is_some(), "{kind}");
        }
    }

    #[test]
    fn whoever_asks_shows_the_token() {
        let guard = Guard::new("secret", Vec::new());
        let shows = |name: &'static str, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_str(value).unwrap());
            guard.is_shown(&headers)
        };
        assert!(shows("authorization", "Bearer secret"));
        assert!(shows("authorization", "bearer  secret"));
        assert!(!shows("authorization", "Bearer secre"));
        assert!(!shows("authorization", "Basic secret"));
        assert!(!shows("cookie", "ipreconnect=secret"));
    }
}
