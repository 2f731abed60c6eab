//! The routes: each asks the desk one question and writes its answer as JSON.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::json;

use super::status::Status;
use super::{ConfigOrder, Desk, Refusal, Why, rules};
use crate::events::{api as say, apply as changes};
use crate::limits;

type Asked = State<Arc<dyn Desk>>;

/// Returns everything that can be asked.
pub(super) fn routes(desk: Arc<dyn Desk>) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .merge(rules::routes())
        .route("/v1/history", get(history))
        .route("/v1/history/{number}", get(version))
        .merge(orders())
        .fallback(unknown)
        .method_not_allowed_fallback(unknown)
        .layer(DefaultBodyLimit::max(limits::API_BODY_BYTES_MAX))
        .layer(map_response(in_our_words))
        .with_state(desk)
}

/// What the router refuses by itself (a path or query that cannot be read) it says in words of its own.
async fn in_our_words(response: Response) -> Response {
    let json = "application/json";
    let is_ours = response.headers().get(CONTENT_TYPE).is_some_and(|it| it == json);
    if is_ours || !response.status().is_client_error() {
        return response;
    }
    let notice = say::bad_request("has a path or query that cannot be read");
    Refusal::new(Why::Malformed, notice).into_response()
}

/// Routes that change the configuration. A body may be a whole one.
fn orders() -> Router<Arc<dyn Desk>> {
    let orders = ["plan", "reload", "apply", "confirm", "rollback"];
    let routes = orders.into_iter().fold(Router::new(), |routes, name| {
        let asked = move |State(desk): Asked, body: Result<Bytes, BytesRejection>| async move {
            let too_large = |_| Refusal::new(Why::TooLarge, say::body_too_large(ORDER_BYTES_MAX));
            match ConfigOrder::read(name, &body.map_err(too_large)?) {
                Some(order) => desk.configure(order).await.map(Json),
                None => Err(Refusal::new(Why::Malformed, changes::malformed(name))),
            }
        };
        routes.route(&format!("/v1/{name}"), post(asked))
    });
    routes.layer(DefaultBodyLimit::max(ORDER_BYTES_MAX))
}

/// A whole configuration, and room for how JSON writes line ends and quotes.
const ORDER_BYTES_MAX: usize = 2 * limits::CONFIG_BYTES_MAX;

async fn history(State(desk): Asked) -> Result<Json<serde_json::Value>, Refusal> {
    desk.configure(ConfigOrder::History {}).await.map(Json)
}

async fn version(
    State(desk): Asked,
    Path(number): Path<u64>,
) -> Result<Json<serde_json::Value>, Refusal> {
    desk.configure(ConfigOrder::Version { number }).await.map(Json)
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
