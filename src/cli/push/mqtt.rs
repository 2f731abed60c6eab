//! `fieldgate rule push FILE --mqtt URL --gateway NAME`: from an operator's desk to a gateway nobody
//! visits. A desired state is signed and published, the file follows in the chunks that the gateway
//! asks for, and its answer is awaited.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::remote::told;
use super::sign::{KeyArgs, Signer, manifest};
use crate::api::rules::{Done, Version};
use crate::clock::{Clock as _, System};
use crate::config::broker_url;
use crate::error::{Exit, Fatal};
use crate::events::push as say;
use crate::mqtt::{self, Broker, Incoming, Login, Session, SessionError, Tls, User};
use crate::rules::folder::{Edition, digest};
use crate::rules::signature::Claim;
use crate::rules::want::{self, From, Sent};
use crate::secret::Secret;

/// Bytes of a chunk: AWS IoT takes 128 KiB a message, and a slow link is not held up for long.
const CHUNK_BYTES: usize = 32 * 1024;

/// How a gateway is reached over MQTT.
#[derive(Debug, Args)]
pub(in crate::cli) struct Over {
    /// Over this broker instead of the socket: mqtt://HOST[:PORT] or mqtts://HOST[:PORT]
    #[arg(long, value_name = "URL", requires = "gateway", requires = "key")]
    mqtt: Option<String>,
    /// The gateway's name
    #[arg(long, value_name = "NAME", requires = "mqtt")]
    gateway: Option<String>,
    /// Secret key that signs the desired state, as minisign -G writes it
    #[arg(long, value_name = "FILE", requires = "mqtt")]
    key: Option<PathBuf>,
    /// File whose first line is the key's password; asked for at the terminal when absent
    #[arg(long, value_name = "FILE", requires = "key")]
    password_file: Option<PathBuf>,
    /// User name at the broker
    #[arg(long, value_name = "NAME", requires = "mqtt")]
    user: Option<String>,
    /// File with the password of --user
    #[arg(long, value_name = "FILE", requires = "user")]
    user_password_file: Option<PathBuf>,
    /// PEM file with the CAs to trust; default: the system's
    #[arg(long, value_name = "FILE", requires = "mqtt")]
    ca: Option<PathBuf>,
    /// The gateway fetches the file from this https:// address instead
    #[arg(long, value_name = "URL", requires = "mqtt")]
    from: Option<String>,
    /// How long the gateway's answer is awaited
    #[arg(long, value_name = "SECONDS", default_value_t = 120, requires = "mqtt")]
    wait: u64,
}

impl Over {
    pub(super) fn is_meant(&self) -> bool {
        self.mqtt.is_some()
    }

    /// Publishes the desired state and serves it until the gateway has answered.
    pub(super) fn push(
        self,
        (path, file): (&Path, &[u8]),
        signature: Option<&[u8]>,
        to: Option<&str>,
    ) -> Result<Exit, Fatal> {
        let found = manifest(path, file)?;
        let subject = path.display().to_string();
        let unsigned = || Fatal::new(Exit::Problem, say::unsigned(&subject).to_string());
        let signature = signature.ok_or_else(unsigned)?;
        let signature = String::from_utf8_lossy(signature).into_owned();
        let Some(key) = self.key.clone() else {
            return Err(Fatal::new(Exit::Usage, "--mqtt needs --key"));
        };
        let signer = KeyArgs { key, password_file: self.password_file.clone() }.open()?;
        let edition =
            Edition { name: found.name.clone(), version: found.version, digest: digest(file) };
        let from = self.from.clone().map_or(From::Chunks(CHUNK_BYTES), From::Https);
        let sent = Sent { edition, size: file.len(), signature, from };
        let post = to.unwrap_or(&found.name).to_owned();
        let wish = Wish { over: &self, signer, sent, post, file };
        let done = crate::cli::block_on(wish.fulfil())?;
        told(&done, false)
    }

    fn broker(&self) -> Result<Broker, Fatal> {
        let url = self.mqtt.as_deref().unwrap_or_default();
        let parsed = broker_url(url)
            .map_err(|why| Fatal::new(Exit::Usage, say::no_broker(url, &why).to_string()))?;
        let client = format!("fieldgate-push-{}", std::process::id());
        let mut broker = Broker::new(&parsed.host, parsed.port, &client);
        broker.tls = parsed.tls.then(|| Tls { ca: self.ca.clone(), client: None });
        broker.login = self.user.as_deref().map(|user| Login {
            user: User::from(user),
            password: self.user_password_file.clone().map(Secret::File),
        });
        Ok(broker)
    }
}

/// A file that is to run at one post of one gateway.
struct Wish<'a> {
    over: &'a Over,
    signer: Signer,
    sent: Sent,
    post: String,
    file: &'a [u8],
}

/// What the gateway's answer means for the wish.
enum Heard {
    /// It is about something else.
    Other,
    /// These chunks are asked for.
    Asks(Vec<usize>),
    Done(Done),
    /// It was refused, in these words.
    Refused(String),
}

impl Wish<'_> {
    async fn fulfil(self) -> Result<Done, Fatal> {
        let url = self.over.mqtt.as_deref().unwrap_or_default();
        let lost = |why: &str| Fatal::new(Exit::Unreachable, say::no_broker(url, why).to_string());
        let broker = self.over.broker()?;
        let mut session =
            mqtt::connect(&broker, true).await.map_err(|error| lost(&error.to_string()))?;
        let gateway = self.over.gateway.as_deref().unwrap_or_default();
        let until = Instant::now() + Duration::from_secs(self.over.wait);
        let mut last = String::new();
        let answer = timeout_at(until, self.serve(&mut session, gateway, &mut last)).await;
        let done = match answer {
            Ok(Ok(done)) => done,
            Ok(Err(error)) => return Err(lost(&error.to_string())),
            Err(_) => {
                let notice = say::no_have(gateway, self.over.wait, &last);
                return Err(Fatal::new(Exit::Unreachable, notice.to_string()));
            }
        };
        session.disconnect().await;
        done
    }

    async fn serve(
        &self,
        session: &mut Session,
        gateway: &str,
        last: &mut String,
    ) -> Result<Result<Done, Fatal>, SessionError> {
        let root = format!("fg/1/{gateway}");
        session.subscribe(&[format!("{root}/have")]).await?;
        // Seconds rise by themselves, from whichever desk they come.
        let serial = u64::try_from(System.now().0 / 1000).unwrap_or(1);
        let document = want::write(&self.post, &self.sent);
        let comment = Claim::want(gateway, serial);
        let mut payload = match self.signer.sign(document.as_bytes(), &comment) {
            Ok(signature) => signature.into_bytes(),
            Err(fatal) => return Ok(Err(fatal)),
        };
        payload.extend_from_slice(document.as_bytes());
        let mine = digest(&payload);
        session.publish(&format!("{root}/want"), Bytes::from(payload), true).await?;
        loop {
            let Incoming::Received(message) = session.next().await? else { continue };
            let text = String::from_utf8_lossy(&message.payload).into_owned();
            let heard = self.hear(&text, &mine);
            if !matches!(heard, Heard::Other) {
                *last = text;
            }
            match heard {
                Heard::Other => {}
                Heard::Asks(chunks) => {
                    for number in chunks {
                        let start = number.saturating_mul(CHUNK_BYTES).min(self.file.len());
                        let end = (start + CHUNK_BYTES).min(self.file.len());
                        let chunk = Bytes::copy_from_slice(&self.file[start..end]);
                        let digest = &self.sent.edition.digest;
                        let topic = format!("{root}/want/{digest}/{number}");
                        session.publish(&topic, chunk, false).await?;
                    }
                }
                Heard::Done(done) => return Ok(Ok(done)),
                Heard::Refused(words) => return Ok(Err(Fatal::new(Exit::Problem, words))),
            }
        }
    }

    fn hear(&self, text: &str, payload: &str) -> Heard {
        let Ok(have) = serde_json::from_str::<Value>(text) else { return Heard::Other };
        let refused = have["refused"]["message"].as_str();
        if let Some(words) = refused.filter(|_| have["refused"]["payload"] == payload) {
            return Heard::Refused(words.to_owned());
        }
        if have["payload"] != payload {
            return Heard::Other;
        }
        let digest = &self.sent.edition.digest;
        if have["asks"]["digest"].as_str() == Some(digest) {
            let chunks = have["asks"]["chunks"].as_array().into_iter().flatten();
            let chunks = chunks.filter_map(Value::as_u64).filter_map(|n| usize::try_from(n).ok());
            return Heard::Asks(chunks.collect());
        }
        let rule = &have["rules"][&self.post];
        if let Some(words) = rule["error"]["message"].as_str() {
            return Heard::Refused(words.to_owned());
        }
        let Edition { name, version, .. } = &self.sent.edition;
        let stands = ["live", "trial"].into_iter().find(|key| rule[*key]["digest"] == **digest);
        match stands {
            Some(stands) => Heard::Done(Done {
                rule: self.post.clone(),
                version: Some(Version {
                    name: name.clone(),
                    version: version.to_string(),
                    digest: digest.clone(),
                }),
                stands: if rule["enabled"] == false { "off" } else { stands }.to_owned(),
            }),
            None => Heard::Other,
        }
    }
}
