//! What is posted elsewhere by HTTP.

use std::fmt;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Request, StatusCode, Uri, header};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

/// The longest answer that is looked at, and what is told of it.
const ANSWER: usize = 4096;
const SAID: usize = 200;

/// What posts: it keeps connections for the next time.
pub(crate) type Poster = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// Why something was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undelivered {
    /// Why.
    pub why: String,
    /// Whether trying again is of no use.
    pub is_final: bool,
    /// What was answered, if anything was.
    pub status: Option<u16>,
}

impl Undelivered {
    pub(crate) fn passing(why: impl fmt::Display) -> Self {
        Self {
            why: why.to_string(),
            is_final: false,
            status: None,
        }
    }

    pub(crate) fn lasting(why: impl fmt::Display) -> Self {
        Self {
            why: why.to_string(),
            is_final: true,
            status: None,
        }
    }
}

impl fmt::Display for Undelivered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

/// Sends one request, and says what became of it.
pub(crate) async fn send(
    poster: &Poster,
    request: Result<Request<Full<Bytes>>, hyper::http::Error>,
) -> Result<(), Undelivered> {
    let mut request = request.map_err(Undelivered::lasting)?;
    let user = concat!("ipreconnect/", env!("CARGO_PKG_VERSION"));
    let agent = header::HeaderValue::from_static(user);
    request.headers_mut().insert(header::USER_AGENT, agent);
    let path = request.uri().path_and_query();
    let path = path.map(|path| path.as_str().trim_matches('/').to_owned());
    // What was told to the other side may come back in its answer.
    let told_there: Vec<String> = request
        .headers()
        .iter()
        .filter(|(name, _)| !matches!(**name, header::CONTENT_TYPE | header::USER_AGENT))
        .filter_map(|(_, value)| Some(value.to_str().ok()?.to_owned()))
        .filter(|value| value.len() > 3)
        .collect();
    let path = path
        .filter(|path| !path.is_empty())
        .unwrap_or_else(|| "\u{0}".to_owned());
    let answer = poster.request(request).await;
    let answer = answer.map_err(|error| Undelivered::passing(told(&error)))?;
    let status = answer.status();
    if status.is_success() {
        // What is read to its end leaves a connection for the next time.
        let _ = Limited::new(answer.into_body(), ANSWER).collect().await;
        return Ok(());
    }
    if status.is_redirection() {
        // It might lead anywhere, into the network behind us, too.
        let place = answer.headers().get(header::LOCATION);
        let place = place.and_then(|place| place.to_str().ok()?.parse::<Uri>().ok());
        let place =
            place.and_then(|place| Some(format!("{}://{}", place.scheme()?, place.host()?)));
        let place = place.unwrap_or_else(|| "elsewhere".to_owned());
        return Err(Undelivered {
            status: Some(status.as_u16()),
            ..Undelivered::lasting(format!(
                "it redirects to {place}, which is not followed: write the right address"
            ))
        });
    }
    let said = Limited::new(answer.into_body(), ANSWER).collect().await;
    let said = said
        .map(http_body_util::Collected::to_bytes)
        .unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    // It may say again what was secret in the path.
    let mut said = said.lines().next().unwrap_or_default().replace(&path, "…");
    for secret in &told_there {
        said = said.replace(secret, "…");
    }
    let said: String = said
        .chars()
        .filter(|one| !one.is_control())
        .take(SAID)
        .collect();
    let why = format!("{status}: {said}");
    let is_final = status.is_client_error()
        && !matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT
        );
    Err(Undelivered {
        why,
        is_final,
        status: Some(status.as_u16()),
    })
}

/// The innermost reason says most.
pub(crate) fn told(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// A new one, which trusts whom the system trusts.
pub(crate) fn poster() -> Result<Poster, Undelivered> {
    let builder = HttpsConnectorBuilder::new().with_native_roots();
    let builder = builder.map_err(|error| Undelivered::passing(format!("no roots: {error}")))?;
    let connector = builder.https_or_http().enable_http1().build();
    Ok(Client::builder(TokioExecutor::new()).build(connector))
}
