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
use std::time::Duration;

use futures_util::future::BoxFuture;
use rskafka::BackoffConfig;
use rskafka::chrono::DateTime;
use rskafka::client::error::{Error, ProtocolError};
use rskafka::client::partition::{Compression, PartitionClient, UnknownTopicHandling};
use rskafka::client::{Client, ClientBuilder};
use rskafka::record::Record;
use tokio::time::timeout;

use super::sink::{Away, Delivery, Sink, Verdict};
use crate::events::receive as say;
use crate::limits;

/// Produces to one topic.
pub(super) struct Kafka {
    brokers: Vec<String>,
    topic: String,
    /// What people are told it is.
    subject: String,
    /// One a partition, in their order; none before the first contact and after trouble.
    partitions: Vec<PartitionClient>,
}

impl Kafka {
    /// Reads `broker[:port][,broker..]/topic`; connects to nothing.
    ///
    /// # Errors
    /// Says what is wrong.
    pub(super) fn new(target: &str) -> Result<Self, String> {
        let form = "the form is broker[:port][,broker..]/topic";
        let (brokers, topic) = target.rsplit_once('/').ok_or(form)?;
        let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if topic.is_empty() || topic.len() > 249 || !topic.chars().all(known) {
            return Err(format!("a topic has letters, digits, . _ and -; {form}"));
        }
        let brokers: Vec<String> = brokers
            .split(',')
            .map(|broker| match broker.rsplit_once(':') {
                Some((_, port)) if port.parse::<u16>().is_ok() => broker.to_owned(),
                _ => format!("{broker}:9092"),
            })
            .collect();
        if brokers.iter().any(|broker| broker.starts_with(':') || broker.contains('/')) {
            return Err(form.to_owned());
        }
        let subject = format!("kafka {}/{topic}", brokers[0]);
        Ok(Self { brokers, topic: topic.to_owned(), subject, partitions: Vec::new() })
    }

    async fn connect(&mut self) -> Result<(), Error> {
        let backoff = BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(2),
            deadline: Some(limits::KAFKA_TIME_MAX / 2),
            ..BackoffConfig::default()
        };
        let client = ClientBuilder::new(self.brokers.clone())
            .client_id("fieldgate-receive")
            .backoff_config(backoff)
            .build()
            .await?;
        let mut partitions = Vec::new();
        for id in self.find(&client).await? {
            let unknown = UnknownTopicHandling::Error;
            partitions.push(client.partition_client(self.topic.clone(), id, unknown).await?);
        }
        self.partitions = partitions;
        Ok(())
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
    async fn produce(&mut self, slice: &[Delivery]) -> Result<Vec<Verdict>, Error> {
        if self.partitions.is_empty() {
            self.connect().await?;
        }
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
        let why = match timeout(limits::KAFKA_TIME_MAX, self.produce(slice)).await {
            Ok(Ok(verdicts)) => return Ok(verdicts),
            Ok(Err(error)) => seen(&error),
            Err(_) => "it did not answer in time".into(),
        };
        // Leaders move and clusters are rebuilt: begin with the brokers of the command line again.
        self.partitions.clear();
        Err(Away(Box::new(say::not_produced(&self.subject, &why))))
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
                Ok(Err(error)) => seen(&error),
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

/// Says what was seen, in words.
fn seen(error: &Error) -> String {
    match error {
        Error::Connection(_) | Error::RetryFailed(_) => {
            "no broker of it can be reached, or none leads the partition".into()
        }
        Error::InvalidResponse(why) => why.clone(),
        Error::ServerError { protocol_error, .. } => format!("it answers {protocol_error:?}"),
        Error::Timeout => "it did not answer in time".into(),
        _ => "the connection ended before its answer".into(),
    }
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

    #[test]
    fn a_target_names_brokers_and_a_topic() {
        let kafka = Kafka::new("a,b:9093/plant.batches").unwrap();
        assert_eq!(kafka.brokers, ["a:9092", "b:9093"]);
        assert_eq!(kafka.topic, "plant.batches");
        for bad in ["a", "a/", "a/b c", ":9/t", "a/b/c"] {
            assert!(Kafka::new(bad).is_err(), "{bad}");
        }
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
