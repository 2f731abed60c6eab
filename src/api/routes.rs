//! The routes: each asks the desk one question and writes its answer as JSON.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;

use super::status::Status;
use super::{Desk, Refusal, Why, rules};
use crate::events::api as say;
use crate::limits;

type Asked = State<Arc<dyn Desk>>;

/// Returns everything that can be asked.
pub(super) fn routes(desk: Arc<dyn Desk>) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .merge(rules::routes())
        .fallback(unknown)
        .method_not_allowed_fallback(unknown)
        .layer(DefaultBodyLimit::max(limits::API_BODY_BYTES_MAX))
        .with_state(desk)
}

async fn status(State(desk): Asked) -> Json<Status> {
    Json(desk.status())
}

async fn unknown(method: axum::http::Method, uri: axum::http::Uri) -> Refusal {
    Refusal::new(Why::Unknown, say::no_such_route(method.as_str(), uri.path()))
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = match self.why {
            Why::Malformed => StatusCode::BAD_REQUEST,
            Why::Unknown => StatusCode::NOT_FOUND,
            Why::Conflict => StatusCode::CONFLICT,
            Why::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Why::Refused => StatusCode::UNPROCESSABLE_ENTITY,
            Why::Unable => StatusCode::SERVICE_UNAVAILABLE,
        };
        let body = json!({ "code": self.notice.code.id, "message": self.notice.to_string() });
        (status, Json(body)).into_response()
    }
}
