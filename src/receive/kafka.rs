//! Kafka, for those who run one: a record a batch, the key is the gateway and the value the payload
//! as the gateway sealed it, with the batch's place in its sequence in the headers `ep`, `st` and
//! `seq`.
//!
//! The key decides the partition by the same hash as Java's clients use, so that a gateway's batches
//! stay in order and joins with other topics of that key work. PUBACK waits for the leader and all
//! its in-sync replicas (`acks=all`). There is no ledger: a batch that comes twice, or whose answer
//! was lost, is a record twice, and consumers know it by its headers. An idempotent producer would
//! not help: it knows its own retries, not a gateway's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use rskafka::BackoffConfig;
use rskafka::chrono::DateTime;
use rskafka::client::error::{Error, ProtocolError};
use rskafka::client::partition::{Compression, PartitionClient, UnknownTopicHandling};
use rskafka::client::{Client, ClientBuilder};
use rskafka::record::Record;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::sink::{Away, Delivery, Sink, Verdict};
use super::tls;
use crate::events::receive as say;
use crate::limits;

/// Produces to one topic.
pub(super) struct Kafka {
    brokers: Vec<String>,
    topic: String,
    /// TLS, for `kafkas://`.
    tls: Option<Arc<ClientConfig>>,
    /// What people are told it is.
    subject: String,
    /// One a partition, in their order; none before the first contact and after trouble.
    partitions: Vec<PartitionClient>,
}

impl Kafka {
    /// Reads `[kafkas://]broker[:port][,broker..]/topic`; connects to nothing.
    ///
    /// # Errors
    /// Says what is wrong.
    pub(super) fn new(
        target: &str,
        tls: impl FnOnce() -> Result<Arc<ClientConfig>, String>,
    ) -> Result<Self, String> {
        let form = "the form is [kafkas://]broker[:port][,broker..]/topic";
        let (bare, encrypted) = match (target.strip_prefix("kafkas://"), target.split_once("://")) {
            (Some(bare), _) => (bare, true),
            (None, Some(("kafka", bare))) => (bare, false),
            (None, Some(_)) => return Err(form.to_owned()),
            (None, None) => (target, false),
        };
        let (brokers, topic) = bare.rsplit_once('/').ok_or(form)?;
        let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if topic.is_empty() || topic.len() > 249 || !topic.chars().all(known) {
            return Err(format!("a topic has letters, digits, . _ and -; {form}"));
        }
        // The ports of Kafka's own examples.
        let usual = if encrypted { 9093 } else { 9092 };
        let brokers: Vec<String> = brokers
            .split(',')
            .map(|broker| match broker.rsplit_once(':') {
                Some((_, port)) if port.parse::<u16>().is_ok() => broker.to_owned(),
                _ => format!("{broker}:{usual}"),
            })
            .collect();
        if brokers.iter().any(|broker| broker.starts_with(':') || broker.contains('/')) {
            return Err(form.to_owned());
        }
        let subject = format!("kafka {}/{topic}", brokers[0]);
        let tls = encrypted.then(tls).transpose()?;
        Ok(Self { brokers, topic: topic.to_owned(), tls, subject, partitions: Vec::new() })
    }

    async fn connect(&mut self) -> Result<(), String> {
        let backoff = BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(2),
            deadline: Some(limits::KAFKA_TIME_MAX / 2),
            ..BackoffConfig::default()
        };
        let mut builder = ClientBuilder::new(self.brokers.clone())
            .client_id("fieldgate-receive")
            .backoff_config(backoff);
        if let Some(configuration) = &self.tls {
            self.greet(configuration).await?;
            builder = builder.tls_config(Arc::clone(configuration));
        }
        let client = builder.build().await.map_err(|error| self.seen(&error))?;
        let mut partitions = Vec::new();
        for id in self.find(&client).await.map_err(|error| self.seen(&error))? {
            let unknown = UnknownTopicHandling::Error;
            let partition = client.partition_client(self.topic.clone(), id, unknown).await;
            partitions.push(partition.map_err(|error| self.seen(&error))?);
        }
        self.partitions = partitions;
        Ok(())
    }

    /// Agrees on TLS with the first broker that does, and hangs up: the client tries for long and does
    /// not say what is wrong.
    async fn greet(&self, configuration: &Arc<ClientConfig>) -> Result<(), String> {
        let mut wrong = None;
        for broker in &self.brokers {
            let Ok(stream) = TcpStream::connect(broker).await else { continue };
            let host = broker.rsplit_once(':').map_or(broker.as_str(), |(host, _)| host);
            match tls::agree(configuration, host, stream).await {
                Ok(_) => return Ok(()),
                Err(why) => {
                    let ended =
                        || "it ends the connection when TLS begins: its port may be without";
                    wrong = Some(why.unwrap_or_else(|| ended().to_owned()));
                }
            }
        }
        // Where nobody listens the client will say so.
        wrong.map_or(Ok(()), Err)
    }

    async fn find(&self, client: &Client) -> Result<Vec<i32>, Error> {
        let topics = client.list_topics().await?;
        let topic = topics.into_iter().find(|topic| topic.name == self.topic);
        let ids: Vec<i32> = topic.into_iter().flat_map(|topic| topic.partitions).collect();
        if ids.is_empty() {
            return Err(Error::InvalidResponse("there is no such topic".into()));
        }
        Ok(ids)
    }

    /// Produces a slice, partition by partition.
    async fn produce(&self, slice: &[Delivery]) -> Result<Vec<Verdict>, Error> {
        let mut verdicts = vec![Verdict::Stored; slice.len()];
        let mut shares: Vec<Vec<usize>> = vec![Vec::new(); self.partitions.len()];
        for (place, delivery) in slice.iter().enumerate() {
            let key = delivery.batch.header.gateway.as_bytes();
            shares[partition(key, self.partitions.len())].push(place);
        }
        for (partition, share) in self.partitions.iter().zip(shares) {
            let mut rest = share.as_slice();
            while !rest.is_empty() {
                let (now, behind) = rest.split_at(fitting(rest, slice));
                rest = behind;
                produce(partition, now, slice, &mut verdicts).await?;
            }
        }
        Ok(verdicts)
    }

    async fn store_all(&mut self, slice: &[Delivery]) -> Result<Vec<Verdict>, Away> {
        let work = async {
            if self.partitions.is_empty() {
                self.connect().await?;
            }
            self.produce(slice).await.map_err(|error| self.seen(&error))
        };
        let why = match timeout(limits::KAFKA_TIME_MAX, work).await {
            Ok(Ok(verdicts)) => return Ok(verdicts),
            Ok(Err(why)) => why,
            Err(_) => "it did not answer in time".into(),
        };
        // Leaders move and clusters are rebuilt: begin with the brokers of the command line again.
        self.partitions.clear();
        Err(Away(Box::new(say::not_produced(&self.subject, &why))))
    }

    /// Says what was seen, in words.
    fn seen(&self, error: &Error) -> String {
        match error {
            Error::Connection(_) | Error::RetryFailed(_) if self.tls.is_some() => {
                "no broker of it can be reached by the name that the cluster gives it and its \
                 certificate bears, or none leads the partition"
                    .into()
            }
            Error::Connection(_) | Error::RetryFailed(_) => {
                "no broker of it can be reached, or none leads the partition".into()
            }
            Error::InvalidResponse(why) => why.clone(),
            Error::ServerError { protocol_error, .. } => format!("it answers {protocol_error:?}"),
            Error::Timeout => "it did not answer in time".into(),
            _ => "the connection ended before its answer".into(),
        }
    }
}

impl Sink for Kafka {
    fn store<'a>(&'a mut self, slice: &'a [Delivery]) -> BoxFuture<'a, Result<Vec<Verdict>, Away>> {
        Box::pin(self.store_all(slice))
    }

    fn reach(&mut self) -> BoxFuture<'_, Result<(), Away>> {
        Box::pin(async move {
            let why = match timeout(limits::SINK_REACH_TIME_MAX, self.connect()).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(why)) => why,
                Err(_) => "it did not answer in time".into(),
            };
            Err(Away(Box::new(say::not_produced(&self.subject, &why))))
        })
    }
}

/// Produces records in one request; those that together are too large for the cluster, one by one.
async fn produce(
    partition: &PartitionClient,
    places: &[usize],
    slice: &[Delivery],
    verdicts: &mut [Verdict],
) -> Result<(), Error> {
    let all = places.iter().map(|place| record(&slice[*place])).collect();
    match partition.produce(all, Compression::NoCompression).await {
        Err(error) if is_too_large(&error) => {}
        done => return done.map(drop),
    }
    for place in places {
        let one = vec![record(&slice[*place])];
        match partition.produce(one, Compression::NoCompression).await {
            Err(error) if is_too_large(&error) => {
                let why = "the cluster takes no record of its size (message.max.bytes)";
                verdicts[*place] = Verdict::Refused(why.into());
            }
            done => drop(done?),
        }
    }
    Ok(())
}

fn record(delivery: &Delivery) -> Record {
    let header = &delivery.batch.header;
    let mut headers = BTreeMap::new();
    headers.insert("ep".to_owned(), header.epoch.to_string().into_bytes());
    headers.insert("st".to_owned(), header.stream.clone().into_bytes());
    headers.insert("seq".to_owned(), header.sequence.to_string().into_bytes());
    Record {
        key: Some(header.gateway.clone().into_bytes()),
        value: Some(delivery.payload.to_vec()),
        headers,
        timestamp: DateTime::from_timestamp_millis(delivery.received_at.0).unwrap_or_default(),
    }
}

/// Returns how many of the first places go into one request: one at least.
fn fitting(places: &[usize], slice: &[Delivery]) -> usize {
    let mut bytes = 0;
    let fit = places.iter().take_while(|place| {
        bytes += slice[**place].payload.len();
        bytes <= limits::KAFKA_REQUEST_BYTES_MAX
    });
    fit.count().max(1)
}

fn is_too_large(error: &Error) -> bool {
    use ProtocolError::{MessageTooLarge, RecordListTooLarge};
    let Error::ServerError { protocol_error, .. } = error else { return false };
    matches!(protocol_error, MessageTooLarge | RecordListTooLarge)
}

/// Returns the partition of a key as Java's clients choose it: murmur2, made positive, by the number
/// of partitions (Kafka, `BuiltInPartitioner`).
fn partition(key: &[u8], partitions: usize) -> usize {
    let hash = murmur2(key) & 0x7fff_ffff;
    usize::try_from(hash).unwrap_or(0) % partitions.max(1)
}

/// MurmurHash2 with Kafka's seed.
fn murmur2(key: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ u32::try_from(key.len()).unwrap_or(u32::MAX);
    let mut fours = key.chunks_exact(4);
    for four in &mut fours {
        let mut k = four.iter().rev().fold(0, |k, byte| k << 8 | u32::from(*byte));
        k = k.wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = fours.remainder();
    if !rest.is_empty() {
        hash ^= rest.iter().rev().fold(0, |k, byte| k << 8 | u32::from(*byte));
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ hash >> 15
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tls() -> Result<Arc<ClientConfig>, String> {
        let tls = crate::mqtt::Tls { ca: None, client: None };
        crate::mqtt::tls_configuration(&tls, None).map_err(|error| error.to_string())
    }

    #[test]
    fn a_target_names_brokers_and_a_topic() {
        for target in ["a,b:7/plant.batches", "kafka://a,b:7/plant.batches"] {
            let kafka = Kafka::new(target, || panic!("no TLS was asked for")).unwrap();
            assert_eq!(kafka.brokers, ["a:9092", "b:7"]);
            assert!(kafka.tls.is_none());
            assert_eq!(kafka.topic, "plant.batches");
        }
        for bad in ["a", "a/", "a/b c", ":9/t", "a/b/c", "http://a/t", "kafkas://a"] {
            assert!(Kafka::new(bad, tls).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_target_that_asks_for_tls_gets_it_or_is_refused() {
        let refused = Kafka::new("kafkas://a/t", || Err("no CA".to_owned())).err();
        assert_eq!(refused.as_deref(), Some("no CA"));
        let kafka = Kafka::new("kafkas://a,b:7/t", tls).unwrap();
        assert_eq!(kafka.brokers, ["a:9093", "b:7"]);
        assert!(kafka.tls.is_some());
    }

    #[test]
    fn keys_are_hashed_as_by_java() {
        // The values of Kafka's own tests of its hash (UtilsTest, testMurmur2).
        let cases: [(&[u8], i32); 6] = [
            (b"21", -973_932_308),
            (b"foobar", -790_332_482),
            (b"a-little-bit-long-string", -985_981_536),
            (b"a-little-bit-longer-string", -1_486_304_829),
            (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            (b"abc", 479_470_107),
        ];
        for (key, hash) in cases {
            assert_eq!(murmur2(key).cast_signed(), hash);
        }
        assert!((0..100).all(|n: u8| partition(&[n], 7) < 7));
    }
}
