//! Answers that are no success, all of one form; and reading what is wished.

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Query};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use crate::gateway::Denial;
use crate::view::Outcome;

/// Why something is not done, as it is told.
pub(super) struct Refused {
    status: StatusCode,
    messages: Vec<String>,
}

impl Refused {
    pub(super) fn new(status: StatusCode, why: impl Into<String>) -> Self {
        Self {
            status,
            messages: vec![why.into()],
        }
    }
}

impl From<Denial> for Refused {
    fn from(denial: Denial) -> Self {
        let (status, messages) = match denial {
            Denial::Unknown(why) => (StatusCode::NOT_FOUND, vec![why]),
            Denial::Wrong(why) => (StatusCode::UNPROCESSABLE_ENTITY, why),
            Denial::Unable(why) => (StatusCode::SERVICE_UNAVAILABLE, vec![why]),
        };
        Self { status, messages }
    }
}

impl From<JsonRejection> for Refused {
    fn from(rejection: JsonRejection) -> Self {
        Self::new(rejection.status(), rejection.body_text())
    }
}

impl From<QueryRejection> for Refused {
    fn from(rejection: QueryRejection) -> Self {
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        Self::new(status, rejection.body_text())
    }
}

impl From<PathRejection> for Refused {
    fn from(rejection: PathRejection) -> Self {
        Self::new(rejection.status(), rejection.body_text())
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let mut outcome = Outcome::not_done(String::new());
        outcome.messages = self.messages;
        (self.status, Json(outcome)).into_response()
    }
}

/// What is wished, as JSON.
#[derive(FromRequest)]
#[from_request(via(Json), rejection(Refused))]
pub(super) struct Wish<T>(pub(super) T);

/// What is asked, in the query.
#[derive(FromRequestParts)]
#[from_request(via(Query), rejection(Refused))]
pub(super) struct Question<T>(pub(super) T);

/// What it is about, in the path.
#[derive(FromRequestParts)]
#[from_request(via(Path), rejection(Refused))]
pub(super) struct Of<T>(pub(super) T);
