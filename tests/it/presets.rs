//! Presets against a broker that refuses what their cloud refuses: the uplink carries a backlog
//! through it, from the configuration on, and nothing is refused; without the preset it is.

use std::path::Path;

use fieldgate::batch::decode;
use fieldgate::config;
use fieldgate::mqtt::{Broker, Preset, connect, preset};

use crate::strict::{self, Identity, Rules, Strict};
use crate::uplink::{Authority, Running, until};

/// A broker of these rules with TLS, and the uplink that a configuration with `preset` makes.
struct Scene {
    folder: tempfile::TempDir,
    strict: Strict,
    broker: Broker,
}

async fn scene(preset: &str, rules: Rules, auth: &str) -> Scene {
    let folder = tempfile::tempdir().unwrap();
    let ours = Authority::new(folder.path(), "ours");
    let (chain, key) = ours.sign(folder.path(), "localhost", 4000);
    let (cert, secret) = ours.sign(folder.path(), "gw-1", 4000);
    std::fs::write(folder.path().join("token"), "A1_TEST_TOKEN\n").unwrap();
    let identity = Identity { chain: &chain, key: &key, clients: &ours.file };
    let strict = Strict::start(rules, Some(identity)).await;
    let auth = auth.replace(
        "CERT",
        &format!("cert = \"{}\", key = {{ file = \"{}\" }}", cert.display(), secret.display()),
    );
    let text = format!(
        "gateway.name = \"gw-1\"\n[source.push]\nvia = \"coap listen 127.0.0.1:5683\"\n\
         [uplink.cloud]\npreset = \"{preset}\"\nurl = \"mqtts://localhost:8883\"\n\
         ca = \"{}\"\n{auth}\n",
        ours.file.display()
    );
    let mut broker = resolved(folder.path(), &text);
    broker.port = strict.port;
    Scene { folder, strict, broker }
}

fn resolved(folder: &Path, text: &str) -> Broker {
    let path = folder.join("fieldgate.toml");
    std::fs::write(&path, text).unwrap();
    let config = config::load(&path, config::Options::default());
    config.unwrap_or_else(|faults| panic!("{faults}")).uplinks[0].broker.clone()
}

impl Scene {
    /// Sends this backlog, and returns what was refused of it.
    async fn carry(&self, batches: impl Iterator<Item = usize>) -> Vec<String> {
        let uplink = Running::start(self.broker.clone());
        let mut count = 0;
        for bytes in batches {
            count += 1;
            uplink.list.seal(count, bytes);
        }
        let count = usize::try_from(count).unwrap();
        until("the backlog is gone, or something is refused", || {
            uplink.list.freed().len() >= count || !self.strict.refused().is_empty()
        })
        .await;
        if self.strict.refused().is_empty() {
            let freed: Vec<u64> = (1..=count as u64).collect();
            let mut had = uplink.list.freed();
            had.sort_unstable();
            assert_eq!(had, freed, "each is freed once");
        }
        uplink.stop().await;
        self.strict.refused()
    }
}

/// Some hundred small batches, and large ones up to what the preset seals.
fn backlog(preset: &Preset) -> impl Iterator<Item = usize> + use<> {
    let large = preset.batch_bytes;
    std::iter::repeat_n(large, 12).chain(std::iter::repeat_n(200, 300)).chain([large; 4])
}

#[tokio::test]
async fn aws_takes_a_backlog_of_its_preset_and_every_batch_of_it() {
    let mut rules = strict::aws();
    rules.protocol = Some("x-amzn-mqtt-ca");
    let mut scene = scene("aws", rules, "auth = { CERT }").await;
    // The broker of the test cannot have port 443, so the preset is told of another.
    assert_eq!(scene.broker.preset, &preset::AWS);
    let alpn = Some((scene.strict.port, "x-amzn-mqtt-ca"));
    scene.broker.preset = Box::leak(Box::new(Preset { alpn, ..preset::AWS.clone() }));
    assert_eq!(scene.carry(backlog(&preset::AWS)).await, [""; 0]);
    let messages = scene.strict.messages();
    let data = messages.iter().filter(|(topic, _)| topic == "fg/1/gw-1/data").count();
    assert_eq!(data, 316);
    drop(scene.folder);
}

#[tokio::test]
async fn aws_refuses_what_the_plain_preset_lets_through() {
    let refused = |broker: fn(&mut Broker), bytes: usize, count: usize, what: &'static str| async move {
        let mut scene = scene("aws", strict::aws(), "auth = { CERT }").await;
        broker(&mut scene.broker);
        let refused = scene.carry(std::iter::repeat_n(bytes, count)).await;
        assert!(refused.iter().any(|it| it.contains(what)), "{what}: {refused:?}");
    };
    let plain: fn(&mut Broker) = |broker| broker.preset = &preset::MQTT;
    refused(plain, 132_097, 1, "a payload of 132097 bytes").await;
    refused(plain, 200, 2000, "publishes too fast").await;
    refused(plain, 100_000, 60, "bytes too fast").await;
    refused(|broker| broker.keep_alive = std::time::Duration::from_secs(5), 200, 1, "keep-alive")
        .await;
    refused(|broker| broker.host = "127.0.0.1".into(), 200, 1, "a TLS handshake").await;
    let mut rules = strict::aws();
    rules.protocol = Some("x-amzn-mqtt-ca");
    let scene = scene("aws", rules, "auth = { CERT }").await;
    let refused = scene.carry(std::iter::once(200)).await;
    assert!(refused[0].starts_with("the protocol None"), "{refused:?}");
}

#[tokio::test]
async fn aws_lets_a_gateway_hear_its_receiver_and_nobody_too_many_topics_at_once() {
    let scene = scene("aws", strict::aws(), "auth = { CERT }").await;
    let uplink = Running::start_with_receiver(scene.broker.clone());
    (1..=3).for_each(|seq| uplink.list.seal(seq, 200));
    let data =
        || scene.strict.messages().iter().filter(|(topic, _)| topic.ends_with("data")).count();
    until("the batches are there", || data() == 3 || !scene.strict.refused().is_empty()).await;
    assert_eq!(scene.strict.subscribed(), ["fg/1/gw-1/ack"]);
    assert_eq!((scene.strict.refused(), uplink.list.freed()), (Vec::new(), Vec::new()));
    uplink.stop().await;
    let mut greedy = connect(&scene.broker, true).await.unwrap();
    let topics: Vec<String> = (0..9).map(|n| format!("fg/1/gw-1/{n}")).collect();
    assert!(greedy.subscribe(&topics).await.is_err());
    assert_eq!(scene.strict.refused(), ["a subscription to 9 topics"]);
}

#[tokio::test]
async fn azure_takes_a_backlog_of_its_preset_and_tells_the_streams_by_their_properties() {
    let scene = scene("azure", strict::azure(), "auth = { CERT }").await;
    let batches = std::iter::repeat_n(preset::AZURE.batch_bytes, 5).chain([200; 15]);
    assert_eq!(scene.carry(batches).await, [""; 0]);
    let messages = scene.strict.messages();
    let of = |kind: &str| messages.iter().filter(|(topic, _)| topic.ends_with(kind)).count();
    assert_eq!(of("&st=data"), 20);
    assert!(of("&st=status") >= 2 && of("&st=meta") == 1, "{:?}", messages.len());
}

#[tokio::test]
async fn azure_refuses_what_the_plain_preset_lets_through() {
    let mut scene = scene("azure", strict::azure(), "auth = { CERT }").await;
    scene.broker.preset = &preset::MQTT;
    let refused = scene.carry(std::iter::once(200)).await;
    assert!(refused[0].contains("a retained will"), "{refused:?}");
}

#[tokio::test]
async fn thingsboard_gets_json_that_it_can_read_and_the_token_as_user_name() {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/uplink/vectors");
    let mut rules = strict::thingsboard();
    rules.server_name = Some("localhost");
    let scene = scene("thingsboard", rules, "auth = { token = { file = \"token\" }, CERT }").await;
    let uplink = Running::start(scene.broker.clone());
    let (mut seq, mut readings) = (0, 0);
    for entry in std::fs::read_dir(vectors).unwrap() {
        let Ok(batch) = std::fs::read(entry.unwrap().path()) else { continue };
        let Ok(decoded) = decode(&batch) else { continue };
        decoded.rows(|row| readings += usize::from(row.value.is_some()));
        seq += 1;
        uplink.list.put(seq, batch);
    }
    uplink.freed(usize::try_from(seq).unwrap()).await;
    uplink.stop().await;
    assert_eq!(scene.strict.refused(), [""; 0]);
    let messages = scene.strict.messages();
    let mut arrived = 0;
    for (_, json) in messages.iter().filter(|(topic, _)| topic == "v1/gateway/telemetry") {
        let json: serde_json::Value = serde_json::from_slice(json).unwrap();
        for sample in json.as_object().unwrap().values().flat_map(|it| it.as_array().unwrap()) {
            let values = sample["values"].as_object().unwrap();
            arrived += values.keys().filter(|key| !key.ends_with("_q")).count();
        }
    }
    assert!(readings > 1000 && arrived > 1000, "{arrived} of {readings}");
    assert!(messages.len() > usize::try_from(seq).unwrap() + 2, "no batch became several messages");
}

#[tokio::test]
async fn thingsboard_refuses_batches_as_they_are() {
    let mut rules = strict::thingsboard();
    rules.server_name = Some("localhost");
    rules.topic = |_, _| true;
    rules.retain = true;
    let mut scene =
        scene("thingsboard", rules, "auth = { token = { file = \"token\" }, CERT }").await;
    scene.broker.preset = &preset::MQTT;
    let refused = scene.carry(std::iter::once(200)).await;
    assert!(refused[0].starts_with("a payload to"), "{refused:?}");
}
