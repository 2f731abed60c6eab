//! Metrics for Prometheus: the totals of this receiver, how long its sink takes, and how old
//! readings are when they are stored. No label is a gateway's: what a fleet names without end is
//! counted in sums, and the database knows the rest.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::totals::Totals;
use crate::error::{Exit, Fatal};
use crate::events::receive as say;
use crate::limits;

/// How long things took; written by the loop.
#[derive(Debug)]
pub struct Timings {
    store: Histogram,
    lag: Family<[(&'static str, &'static str); 1], Histogram>,
}

/// Seconds, from a local database's commit to one that is in trouble.
const STORE_SECONDS: [f64; 12] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

/// Seconds, from the youngest batch to what an outage of a month left behind.
const LAG_SECONDS: [f64; 12] =
    [1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0, 86_400.0, 604_800.0, 2_592_000.0];

impl Default for Timings {
    fn default() -> Self {
        let lag: fn() -> Histogram = || Histogram::new(LAG_SECONDS);
        Self { store: Histogram::new(STORE_SECONDS), lag: Family::new_with_constructor(lag) }
    }
}

impl Timings {
    /// Notes how long a slice took to be stored.
    pub fn stored(&self, took: Duration) {
        self.store.observe(took.as_secs_f64());
    }

    /// Notes the age of a batch's newest reading when it was stored, ms.
    pub fn lag(&self, stream: &str, age_ms: i64) {
        let stream = match stream {
            "data" => "data",
            "event" => "event",
            "self" => "self",
            _ => "other",
        };
        #[expect(clippy::cast_precision_loss, reason = "ages are below 2^53 ms")]
        let seconds = age_ms.max(0) as f64 / 1000.0;
        self.lag.get_or_create(&[("stream", stream)]).observe(seconds);
    }
}

/// The totals, read when they are asked for.
#[derive(Debug)]
struct Collected(Arc<Totals>);

impl Collector for Collected {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let now = self.0.snapshot();
        let counters = [
            ("batches_stored", "Batches stored", now.batches),
            ("readings_stored", "Readings in the batches stored", now.readings),
            ("payload_bytes_stored", "Bytes of the batches stored, as sealed", now.bytes),
            ("batches_seen_before", "Batches that were in the sink already", now.seen),
            ("unknown", "Frames and readings of kinds this version does not know", now.unknown),
            ("retries", "Slices that the sink did not take at the first try", now.retries),
            ("sessions", "Sessions with the broker", now.sessions),
            ("acks", "Acknowledgements published to gateways", now.acks),
        ];
        for (name, help, value) in counters {
            let counter = ConstCounter::new(value);
            let metric = encoder.encode_descriptor(name, help, None, counter.metric_type())?;
            counter.encode(metric)?;
        }
        let gauges = [
            ("connected", "Whether a session with the broker stands", u64::from(now.connected)),
            ("gateways", "Gateways heard of since the start, up to a bound", now.gateways as u64),
            (
                "missing_batches",
                "Batches that the ledger misses below the newest, of the sequences this receiver \
                 acknowledged",
                now.missing,
            ),
        ];
        for (name, help, value) in gauges {
            let gauge = ConstGauge::new(value);
            let metric = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(metric)?;
        }
        let help = "Payloads refused, by reason";
        let mut family = encoder.encode_descriptor("refused", help, None, MetricType::Counter)?;
        for (reason, count) in &now.refused {
            let label = [("reason", *reason)];
            ConstCounter::new(*count).encode(family.encode_family(&label)?)?;
        }
        Ok(())
    }
}

/// What is told at `/metrics`.
pub(super) struct Metrics {
    registry: Registry,
    listener: TcpListener,
}

impl Metrics {
    /// Listens at `address`.
    ///
    /// # Errors
    /// When that cannot be.
    pub(super) async fn listen(address: SocketAddr, totals: &Arc<Totals>) -> Result<Self, Fatal> {
        let listener = TcpListener::bind(address).await.map_err(|e| {
            let notice = say::metrics_not_listening(address, e.kind());
            Fatal::new(Exit::Unreachable, notice.to_string())
        })?;
        let mut registry = Registry::with_prefix("fieldgate_receive");
        let Timings { store, lag } = &totals.timings;
        registry.register("store_seconds", "Time a slice took to be stored", store.clone());
        let help = "Age of a batch's newest reading when it was stored";
        registry.register("lag_seconds", help, lag.clone());
        registry.register_collector(Box::new(Collected(Arc::clone(totals))));
        Ok(Self { registry, listener })
    }

    async fn serve(self) {
        let registry = Arc::new(self.registry);
        let mut visitors = JoinSet::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept(), if visitors.len() < limits::METRICS_VISITORS_MAX => {
                    match accepted {
                        Ok((stream, _)) => {
                            visitors.spawn(answer(stream, Arc::clone(&registry)));
                        }
                        // Out of files for a moment; what is open now will close.
                        Err(_) => sleep(limits::METRICS_ACCEPT_PAUSE).await,
                    }
                }
                Some(_) = visitors.join_next() => {}
            }
        }
    }
}

/// Answers for ever, when metrics were asked for.
pub(super) async fn serve(metrics: Option<Metrics>) {
    match metrics {
        Some(metrics) => metrics.serve().await,
        None => std::future::pending().await,
    }
}

/// Serves one connection, for a bounded time.
async fn answer(stream: TcpStream, registry: Arc<Registry>) {
    let service = service_fn(move |request| {
        let answer = page(&request, &registry);
        async move { Ok::<_, std::convert::Infallible>(answer) }
    });
    let mut server = http1::Builder::new();
    let connection = server.keep_alive(false).serve_connection(TokioIo::new(stream), service);
    // A visitor that breaks off or dawdles is no news.
    let _ = timeout(limits::METRICS_TIME_MAX, connection).await;
}

fn page(request: &Request<Incoming>, registry: &Registry) -> Response<Full<Bytes>> {
    let mut text = String::new();
    let (status, kind) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/metrics") if encode(&mut text, registry).is_ok() => {
            (StatusCode::OK, "application/openmetrics-text; version=1.0.0; charset=utf-8")
        }
        _ => {
            "metrics are at GET /metrics\n".clone_into(&mut text);
            (StatusCode::NOT_FOUND, "text/plain; charset=utf-8")
        }
    };
    let mut answer = Response::new(Full::new(Bytes::from(text)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    answer
}
