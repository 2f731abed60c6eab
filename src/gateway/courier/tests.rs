//! The courier between a broker that is only two channels and a real door: what comes through, and
//! what does not.

use minisign::{KeyPair, sign};
use tokio::time::{Duration, timeout};

use super::*;
use crate::clock::{Clock, Manual};
use crate::mqtt::{Carrier, errands};
use crate::reading::UnixMillis;
use crate::rules::door::Settings;
use crate::rules::door::tests::Words;
use crate::rules::folder::Folder;
use crate::rules::signature::{Key, Keys};

const FILE: &str = "agg 1.0.0";

struct World {
    _folder: tempfile::TempDir,
    pair: KeyPair,
    carrier: Carrier,
    link: watch::Sender<LinkState>,
    site: Arc<Words>,
    door: Arc<Door>,
    courier: Option<Courier>,
}

impl World {
    fn new() -> Self {
        Self::with(Words::default())
    }

    fn with(site: Words) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let pair = KeyPair::generate_unencrypted_keypair().unwrap();
        let keys = Keys::new(vec![Key::parse(&pair.pk.to_base64()).unwrap()]);
        let settings = Settings { gateway: "gw-1".into(), groups: Vec::new(), keys };
        // 2026-11-22T10:00:00Z.
        let clock: Arc<dyn Clock> = Arc::new(Manual::new(UnixMillis(1_795_341_600_000)));
        let (kept, _) = Folder::open(&folder.path().join("rules")).unwrap();
        let door = Arc::new(Door::new(settings, clock, kept));
        let site = Arc::new(site);
        let (carrier, broker) = errands("fg/1/gw-1/want".to_owned());
        let (link, watched) = watch::channel(LinkState::default());
        let courier = Courier {
            door: Arc::clone(&door),
            site: Arc::clone(&site) as Arc<dyn Site>,
            events: Events::default(),
            root: "fg/1/gw-1".to_owned(),
            broker,
            link: watched,
        };
        Self { _folder: folder, pair, carrier, link, site, door, courier: Some(courier) }
    }

    /// Runs `visit` beside the courier.
    async fn beside(mut self, visit: impl AsyncFnOnce(&mut Self)) {
        let (courier, stop) = (self.courier.take().unwrap(), CancellationToken::new());
        let visiting = async {
            visit(&mut self).await;
            stop.cancel();
        };
        tokio::join!(courier.run(stop.clone()), visiting);
    }

    fn sign(&self, bytes: &[u8], comment: &str) -> String {
        sign(None, &self.pair.sk, bytes, Some(comment), None).unwrap().to_string()
    }

    /// A desired state that asks for `file` at `smooth` in chunks of 1 KiB.
    fn want(&self, serial: u64, file: &[u8]) -> Vec<u8> {
        let text = String::from_utf8_lossy(file).into_owned();
        let comment = text.split(' ').take(2).collect::<Vec<_>>().join(" ");
        let signature = self.sign(file, &format!("fieldgate rule {comment}"));
        self.want_with(serial, file, signature)
    }

    fn want_with(&self, serial: u64, file: &[u8], signature: String) -> Vec<u8> {
        let text = String::from_utf8_lossy(file).into_owned();
        let mut words = text.split(' ');
        let name = words.next().unwrap().to_owned();
        let version = words.next().unwrap().parse().unwrap();
        let edition = Edition { name, version, digest: digest(file) };
        let sent = Sent { edition, size: file.len(), signature, from: From::Chunks(1024) };
        self.signed(&want::write("smooth", &sent), &format!("fieldgate want gw-1 {serial}"))
    }

    fn signed(&self, document: &str, comment: &str) -> Vec<u8> {
        [self.sign(document.as_bytes(), comment).into_bytes(), document.into()].concat()
    }

    async fn deliver(&self, leaf: &str, payload: &[u8]) {
        let topic = format!("fg/1/gw-1/{leaf}");
        let payload = Bytes::copy_from_slice(payload);
        let message = Message { topic, payload, retain: false, duplicate: false };
        self.carrier.letters.send(message).await.unwrap();
    }

    fn connect(&self) {
        self.link.send_modify(|link| {
            link.connected = true;
            link.connections += 1;
        });
    }

    /// The next `have`, and what was listened to before it.
    async fn heard(&mut self) -> (Vec<String>, Value) {
        let mut topics = Vec::new();
        loop {
            let patience = Duration::from_secs(3600);
            match timeout(patience, self.carrier.errands.recv()).await.unwrap().unwrap() {
                Errand::Listen(more) => topics.extend(more),
                Errand::Publish { topic, payload, retain } => {
                    assert_eq!((topic.as_str(), retain), ("fg/1/gw-1/have", true));
                    return (topics, serde_json::from_slice(&payload).unwrap());
                }
            }
        }
    }

    /// A rule's file of `chunks` chunks.
    fn long(chunks: usize) -> Vec<u8> {
        let mut file = b"agg 1.0.0 ".to_vec();
        file.resize(1024 * chunks - 24, b'x');
        file
    }

    async fn chunks(&self, file: &[u8], numbers: impl IntoIterator<Item = usize>) {
        let digest = digest(file);
        let chunks: Vec<_> = file.chunks(1024).collect();
        for number in numbers {
            self.deliver(&format!("want/{digest}/{number}"), chunks[number]).await;
        }
    }
}

fn message(have: &Value) -> String {
    have["rules"]["smooth"]["error"]["message"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test(start_paused = true)]
async fn a_file_in_chunks_of_any_order_runs_and_is_told() {
    World::new()
        .beside(async |world| {
            world.connect();
            let (topics, have) = world.heard().await;
            assert_eq!(topics, ["fg/1/gw-1/want"]);
            assert_eq!(have["rules"], json!({}));
            let file = World::long(20);
            world.deliver("want", &world.want(7, &file)).await;
            let (topics, have) = world.heard().await;
            assert_eq!(have["asks"]["chunks"], json!((0..16).collect::<Vec<_>>()));
            assert_eq!(topics.len(), 16);
            assert_eq!(topics[3], format!("fg/1/gw-1/want/{}/3", digest(&file)));
            // Some nobody asked for, some twice, the last first; noise is passed over.
            let digest = digest(&file);
            for (leaf, payload) in [
                (format!("want/{digest}/99"), &b"x"[..]),
                (format!("want/{digest}/-1"), b"x"),
                (format!("want/{digest}/0"), b"short"),
                (format!("want/{}/0", "0".repeat(64)), &file[..1024]),
                (format!("want/{digest}"), b"x"),
            ] {
                world.deliver(&leaf, payload).await;
            }
            world.chunks(&file, [17, 3, 3, 17]).await;
            world.chunks(&file, (0..16).rev()).await;
            let (_, have) = world.heard().await;
            assert_eq!(have["asks"]["chunks"], json!([16, 18, 19]));
            world.chunks(&file, [18, 19, 16]).await;
            let (_, have) = world.heard().await;
            assert_eq!(have["rules"]["smooth"]["live"]["digest"], json!(digest), "{have}");
            assert_eq!((&have["want"], &have["asks"]), (&json!(7), &Value::Null));
            assert!(world.site.runs("smooth").0.is_some());

            // The same once more, as a broker that retains it would: nothing is fetched again.
            world.deliver("want", &world.want(7, &file)).await;
            let (topics, have) = world.heard().await;
            assert!(topics.is_empty() && have["asks"].is_null(), "{have}");
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn what_does_not_come_is_asked_for_again_also_on_another_connection_and_then_given_up() {
    World::new()
        .beside(async |world| {
            world.connect();
            world.heard().await;
            let file = World::long(3);
            world.deliver("want", &world.want(7, &file)).await;
            world.heard().await;
            world.chunks(&file, [0, 2]).await;
            let (topics, have) = world.heard().await;
            assert_eq!((topics.len(), &have["asks"]["chunks"]), (1, &json!([1])));
            world.connect();
            let (topics, have) = world.heard().await;
            assert_eq!((topics.len(), &have["asks"]["chunks"]), (2, &json!([1])));
            for _ in 0..limits::CHUNK_TRIES_MAX {
                assert_eq!(world.heard().await.1["asks"]["chunks"], json!([1]));
            }
            let (_, have) = world.heard().await;
            let told = message(&have);
            assert!(told.contains("FG-W68") && told.contains("the first is 1"), "{have}");
            assert!(have["asks"].is_null());
            assert_eq!(world.site.runs("smooth").0, None);

            // It can be begun anew.
            world.deliver("want", &world.want(8, &file)).await;
            world.heard().await;
            world.chunks(&file, 0..3).await;
            assert_eq!(message(&world.heard().await.1), "");
            assert!(world.site.runs("smooth").0.is_some());
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_desired_state_that_is_not_to_be_trusted_is_refused_and_told() {
    World::new()
        .beside(async |world| {
            world.connect();
            world.heard().await;
            world.deliver("want", &world.want(7, FILE.as_bytes())).await;
            world.heard().await;
            world.chunks(FILE.as_bytes(), [0]).await;
            world.heard().await;
            let before = world.door.ledger();
            let good = world.want(8, b"agg 1.1.0");
            let document = br#"{"rules":{}}"#;
            let stranger = KeyPair::generate_unencrypted_keypair().unwrap();
            let strange =
                sign(None, &stranger.sk, &document[..], Some("fieldgate want gw-1 9"), None);
            let strange = [strange.unwrap().to_string().as_bytes(), document].concat();
            let changed = String::from_utf8(good.clone()).unwrap().replace("1.1.0\"", "9.1.0\"");
            #[rustfmt::skip]
            let cases: Vec<(Vec<u8>, &str, &str)> = vec![
                (b"{\"rules\":{}}".to_vec(), "W69", "four lines"),
                (b"\xff\xff\xff".to_vec(), "W69", "four lines"),
                (changed.into_bytes(), "W62", "was changed"),
                (good[..good.len() - 1].to_vec(), "W62", "was changed"),
                (strange, "W62", "not trusted"),
                (world.signed("{\"rules\":{}}", "fieldgate want gw-2 9"), "W63", "gw-2"),
                (world.signed("{\"rules\":{}}", "fieldgate rule agg 1.0.0"), "W63", "rule agg"),
                (world.signed("{\"rules\":{}}", "fieldgate want gw-1 9 groups=a"), "W63", "groups a"),
                (world.signed("{\"rules\":{}}", "fieldgate want gw-1 9 not-after=2026-01-01"), "W64", "expired"),
                (world.signed("{\"rules\":{}}", "fieldgate want gw-1 6"), "W69", "7 was taken before"),
                (world.signed("{\"rules\":7}", "fieldgate want gw-1 9"), "W69", "no object"),
                (vec![b'a'; limits::WANT_BYTES_MAX + 1], "W69", "too large"),
            ];
            for (payload, code, words) in cases {
                world.deliver("want", &payload).await;
                let (_, have) = world.heard().await;
                let told = have["refused"]["message"].as_str().unwrap();
                assert!(told.starts_with(&format!("FG-{code}")) && told.contains(words), "{told}");
                assert_eq!(have["refused"]["payload"], digest(&payload));
                assert_eq!((&have["want"], world.door.ledger() == before), (&json!(7), true));
            }
            // Taken back: nothing to answer. The next is answered, and the old refusal is gone.
            world.deliver("want", b"").await;
            let off = "{\"rules\":{\"smooth\":{\"enabled\":false}}}";
            world.deliver("want", &world.signed(off, "fieldgate want gw-1 9")).await;
            let (_, have) = world.heard().await;
            assert_eq!((&have["rules"]["smooth"]["enabled"], &have["want"]), (&json!(false), &json!(9)));
            assert!(have["refused"].is_null());
            assert_eq!(world.site.runs("smooth").0, None);
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_not_to_be_trusted_is_refused_and_told_though_the_state_is_in_order() {
    World::new()
        .beside(async |world| {
            world.connect();
            world.heard().await;
            let stranger = KeyPair::generate_unencrypted_keypair().unwrap();
            let strange =
                sign(None, &stranger.sk, FILE.as_bytes(), Some("fieldgate rule agg 1.0.0"), None);
            let other = world.sign(b"agg 2.0.0", "fieldgate rule agg 2.0.0");
            let group = world.sign(FILE.as_bytes(), "fieldgate rule agg 1.0.0 groups=south");
            let cases = [
                (String::new(), "W61"),
                ("garbage".to_owned(), "W61"),
                (strange.unwrap().to_string(), "W62"),
                (other, "W62"),
                (group, "W63"),
            ];
            for (serial, (signature, code)) in (10..).zip(cases) {
                world.deliver("want", &world.want_with(serial, FILE.as_bytes(), signature)).await;
                world.heard().await;
                world.chunks(FILE.as_bytes(), [0]).await;
                let (_, have) = world.heard().await;
                assert!(message(&have).starts_with(&format!("FG-{code}")), "{have}");
            }
            // Bytes that are not the ones that were signed for, of the same length.
            world.deliver("want", &world.want(20, FILE.as_bytes())).await;
            world.heard().await;
            world.deliver(&format!("want/{}/0", digest(FILE.as_bytes())), b"agg 9.0.0").await;
            let (_, have) = world.heard().await;
            let told = message(&have);
            assert!(told.contains("FG-W68") && told.contains("should be"), "{told}");
            assert_eq!(world.site.runs("smooth").0, None);
            assert!(world.door.ledger().posts.is_empty());

            let nowhere = world.signed(
                &String::from_utf8(world.want(21, FILE.as_bytes()))
                    .unwrap()
                    .lines()
                    .nth(4)
                    .unwrap()
                    .replace("smooth", "nowhere"),
                "fieldgate want gw-1 21",
            );
            world.deliver("want", &nowhere).await;
            world.heard().await;
            world.chunks(FILE.as_bytes(), [0]).await;
            let (_, have) = world.heard().await;
            let told = have["rules"]["nowhere"]["error"]["message"].as_str().unwrap_or_default();
            assert!(told.contains("FG-W66"), "{have}");
        })
        .await;
}

/// Lets something be done at the door, as by whoever looks after trials.
fn order(world: &World, order: impl FnOnce(&Door, &dyn Site) -> Result<Edition, Box<Notice>>) {
    order(&world.door, &*world.site).unwrap();
}

#[tokio::test(start_paused = true)]
async fn have_tells_at_once_how_a_trial_ended_and_each_thing_once() {
    World::with(Words::with_trials())
        .beside(async |world| {
            world.connect();
            world.heard().await;
            for (serial, file) in [(7, "agg 1.0.0"), (8, "agg 1.1.0")] {
                world.deliver("want", &world.want(serial, file.as_bytes())).await;
                world.heard().await;
                world.chunks(file.as_bytes(), [0]).await;
                world.heard().await;
            }
            let told = |have: &Value| {
                let smooth = &have["rules"]["smooth"];
                let of = |key: &str| smooth[key]["version"].as_str().unwrap_or("-").to_owned();
                let ended = &smooth["ended"];
                let how = format!("{} {} {}", of("ended"), ended["end"], ended["why"]);
                (of("live"), of("trial"), of("good"), how.replace('"', ""))
            };
            let line = |live: &str, trial: &str, good: &str, how: &str| {
                (live.to_owned(), trial.to_owned(), good.to_owned(), how.to_owned())
            };
            order(world, |door, site| door.roll_back("smooth", "it trapped", site));
            let (topics, have) = world.heard().await;
            let away = line("1.0.0", "-", "-", "1.1.0 sent away it trapped");
            assert_eq!((topics, told(&have)), (Vec::new(), away.clone()));

            // A broker that retains the desired state sends it with every connection.
            world.connect();
            assert_eq!(told(&world.heard().await.1), away);
            world.deliver("want", &world.want(8, b"agg 1.1.0")).await;
            assert_eq!(told(&world.heard().await.1), away, "it is not tried again for that");
            // Who wants it again says so with another number.
            world.deliver("want", &world.want(9, b"agg 1.1.0")).await;
            let (_, have) = world.heard().await;
            assert_eq!(told(&have), line("1.0.0", "1.1.0", "-", "1.1.0 sent away it trapped"));

            order(world, |door, site| door.promote("smooth", "it did well", site));
            let (_, have) = world.heard().await;
            assert_eq!(told(&have), line("1.1.0", "-", "1.0.0", "1.1.0 promoted it did well"));
            order(world, |door, site| {
                let live = door.ledger().posts["smooth"].live.clone().unwrap();
                door.fall_back(("smooth", &live), "it floods", site)
            });
            let (_, have) = world.heard().await;
            assert_eq!(told(&have), line("1.0.0", "-", "-", "1.1.0 rolled back it floods"));
            world.deliver("want", &world.want(9, b"agg 1.1.0")).await;
            let (_, have) = world.heard().await;
            assert_eq!(told(&have), line("1.0.0", "-", "-", "1.1.0 rolled back it floods"));

            // Nobody hears what happens while there is no connection; all of it stands in the next.
            world.link.send_modify(|link| link.connected = false);
            tokio::task::yield_now().await;
            world.door.enable("smooth", false, &*world.site).unwrap();
            for _ in 0..50 {
                tokio::task::yield_now().await;
            }
            assert!(world.carrier.errands.try_recv().is_err());
            world.connect();
            let (_, have) = world.heard().await;
            assert_eq!(have["rules"]["smooth"]["enabled"], false);
        })
        .await;
}
