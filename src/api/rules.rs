//! `/v1/rules`: what rules there are, and what the command line may do to them.
//!
//! A rule is pushed as the bytes of its file, `PUT /v1/rules?to=NAME`; the signature comes along in the
//! header `Fieldgate-Signature`, its four lines in base64, so that nothing has to be unpacked before
//! it is verified.

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::routing::{get, post, put};
use bytes::Bytes;
use ct_codecs::{Base64, Decoder as _};
use serde::{Deserialize, Serialize};

use super::{Desk, Refusal, Why};
use crate::events::api as say;
use crate::limits;

/// Header that carries a signature.
pub const SIGNATURE: &str = "fieldgate-signature";

/// A version of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// The rule's own name.
    pub name: String,
    /// The rule's own version.
    pub version: String,
    /// Hex SHA-256 of its file.
    pub digest: String,
}

/// A `[rule.NAME]` table and what runs there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// The table's name.
    pub rule: String,
    /// Whether it is to run.
    pub enabled: bool,
    /// Whose output counts.
    pub live: Option<Version>,
    /// What runs in shadow beside it.
    pub trial: Option<Version>,
    /// What it can go back to.
    pub good: Option<Version>,
    /// What its version asks for, and what it may use; absent from an older daemon.
    #[serde(default)]
    pub rights: Option<Rights>,
    /// What it does, as far as it runs: counts, fuel, the last failure. Keys are only ever added.
    pub running: Option<serde_json::Value>,
}

/// What a rule asks for, and what it may use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rights {
    /// The interfaces of the contract that its file asks for; it has these and no others.
    pub asks: Vec<String>,
    /// Those that its table grants.
    pub granted: Vec<String>,
    /// Its limits, by the names that `limit` has for them.
    pub limits: Caps,
}

/// Limits in force.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caps {
    /// Fuel a reading.
    pub fuel: u64,
    /// Linear memory, bytes.
    pub memory: u64,
    /// Computing time of a call before its first reading, milliseconds.
    pub deadline_ms: u64,
    /// Readings emitted for each one given.
    pub emitted: u64,
    /// Bytes emitted for a batch.
    pub output: u64,
    /// Bytes of keys and values.
    pub state: u64,
    /// Keys.
    pub keys: u64,
    /// Timers.
    pub timers: u64,
    /// Lines of log a minute, after a burst.
    pub log: u64,
    /// The same as a sentence has them.
    pub words: String,
}

/// A file that came over the socket.
#[derive(Debug, Clone)]
pub struct Push {
    /// The file.
    pub file: Bytes,
    /// Its signature's four lines.
    pub signature: Option<String>,
    /// The table it is for.
    pub to: Option<String>,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// The table.
    pub rule: String,
    /// The version that it is about, when it is about one.
    pub version: Option<Version>,
    /// `live`, `trial` or `off`.
    pub stands: String,
}

/// What may be done to a rule that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Let it run.
    Enable,
    /// Stop it.
    Disable,
    /// Make the version on trial the live one.
    Promote,
    /// End the trial, or go back to the last good version.
    RollBack,
}

/// A line that a rule wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// When it was written.
    pub at_ms: i64,
    /// `debug`, `info`, `warn` or `error`.
    pub level: String,
    /// What it says.
    pub text: String,
}

type Asked = State<Arc<dyn Desk>>;

#[derive(Deserialize)]
struct To {
    to: Option<String>,
}

pub(super) fn routes() -> Router<Arc<dyn Desk>> {
    Router::new()
        .route("/v1/rules", get(all))
        .route("/v1/rules", put(push))
        .route("/v1/rules/{rule}/logs", get(logs))
        .route("/v1/rules/{rule}/{order}", post(order))
}

async fn all(State(desk): Asked) -> Result<Json<Vec<Rule>>, Refusal> {
    desk.rules().await.map(Json)
}

async fn push(
    State(desk): Asked,
    Query(To { to }): Query<To>,
    headers: HeaderMap,
    file: Result<Bytes, BytesRejection>,
) -> Result<Json<Done>, Refusal> {
    let too_large =
        |_| Refusal::new(Why::TooLarge, say::body_too_large(limits::API_BODY_BYTES_MAX));
    let file = file.map_err(too_large)?;
    let signature = headers.get(SIGNATURE).map(|value| signature(value.as_bytes())).transpose()?;
    desk.push(Push { file, signature, to }).await.map(Json)
}

async fn logs(State(desk): Asked, Path(rule): Path<String>) -> Result<Json<Vec<Line>>, Refusal> {
    desk.rule_logs(rule).await.map(Json)
}

async fn order(
    State(desk): Asked,
    Path((rule, order)): Path<(String, String)>,
) -> Result<Json<Done>, Refusal> {
    let order = match order.as_str() {
        "enable" => Order::Enable,
        "disable" => Order::Disable,
        "promote" => Order::Promote,
        "rollback" => Order::RollBack,
        other => {
            let path = format!("/v1/rules/{rule}/{other}");
            return Err(Refusal::new(Why::Unknown, say::no_such_route("POST", &path)));
        }
    };
    desk.order(rule, order).await.map(Json)
}

fn signature(value: &[u8]) -> Result<String, Refusal> {
    let bad = |why| Refusal::new(Why::Malformed, say::bad_request(why));
    let mut text = vec![0; limits::SIGNATURE_BYTES_MAX];
    let text = Base64::decode(&mut text, value, None)
        .map_err(|_| bad("has a signature that is no base64, or is too long"))?;
    String::from_utf8(text.to_vec()).map_err(|_| bad("has a signature that is no text"))
}
