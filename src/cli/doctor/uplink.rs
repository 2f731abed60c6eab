//! `doctor uplink`: the way to a broker step by step, as an uplink takes it, with the time each step
//! took and what was seen: files, name, TCP, TLS with the certificates, login, one publish that is
//! acknowledged.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout};

use super::{Finding, Tell};
use crate::batch::text::rfc3339;
use crate::clock::{Clock as _, System};
use crate::events::{broker as say, firsthour};
use crate::mqtt::{
    Broker, Certificate, ConnectError, Incoming, Layout, Login, Passed, Rejection, Session, Step,
    Version, connect_watched,
};
use crate::reading::UnixMillis;

/// An uplink to be looked at.
pub(in crate::cli) struct Patient<'a> {
    /// Its name in the configuration.
    pub(in crate::cli) name: &'a str,
    pub(in crate::cli) gateway: &'a str,
    pub(in crate::cli) broker: &'a Broker,
    /// Whether a gateway runs that has this login; two of one client id throw each other out.
    pub(in crate::cli) is_running: bool,
}

/// A certificate that ends within this is worth a word.
const EXPIRES_SOON_DAYS: i64 = 21;
const DAY_MS: i64 = 86_400_000;

impl Patient<'_> {
    /// Takes all steps, and says whether the last one was reached.
    pub(in crate::cli) async fn examine(&self, tell: Tell<'_>) -> bool {
        let subject = format!("uplink {}", self.name);
        if !self.files(tell) {
            return false;
        }
        let is_cloud = self.broker.preset.topics != Layout::Own;
        let shadow = format!("{}-doctor", self.broker.client_id);
        let mut broker = self.broker.clone();
        if !is_cloud {
            broker.client_id = shadow;
        }
        if is_cloud && self.is_running {
            tell(Finding::odd(
                "login",
                "not tried: the running gateway has this login, and a second one would throw it out",
            ));
            return true;
        }
        let session = match self.dial(&broker, tell).await {
            Err(error) if !is_cloud && is_about_the_client(&error) && !self.is_running => {
                tell(Finding::odd(
                    "login",
                    format!("refused as {}; trying as the gateway", broker.client_id),
                ));
                self.dial(self.broker, tell).await
            }
            other => other,
        };
        match session {
            Ok(session) => {
                let is_good = self.publish(session, tell).await;
                if !is_good || is_cloud || broker.version == Version::V5 {
                    return is_good;
                }
                let Some(why) = self.refused_in_5(&broker).await else { return true };
                let why = format!("acknowledged, and thrown away: in MQTT 5 the broker says {why}");
                let notice = firsthour::not_acknowledged(&subject, &self.test_publish().0, &why);
                tell(Finding::bad("publish", why).told(notice));
                false
            }
            Err(error) => {
                let notice = say::not_connected(&subject, self.broker, &error);
                tell(Finding::bad(step(&error), error.to_string()).told(notice));
                false
            }
        }
    }

    /// Looks at what must be readable before anything is sent.
    fn files(&self, tell: Tell<'_>) -> bool {
        let subject = format!("uplink {}", self.name);
        let mut trouble = None;
        let secrets = self.broker.login.iter().flat_map(Login::secrets);
        for secret in secrets.filter(|secret| secret.is_within_reach()) {
            if let Err(why) = secret.read() {
                trouble.get_or_insert(ConnectError::Settings(why.to_string()));
            }
        }
        if let Some(Err(why)) = self.broker.tls.as_ref().map(|tls| tls.look_at_files()) {
            trouble.get_or_insert(why);
        }
        let Some(error) = trouble else { return true };
        let notice = say::not_connected(&subject, self.broker, &error);
        tell(Finding::bad("files", error.to_string()).told(notice));
        false
    }

    async fn dial(&self, broker: &Broker, tell: Tell<'_>) -> Result<Session, ConnectError> {
        let mut since = Instant::now();
        let mut passed = |passed: Passed| {
            let took = since.elapsed();
            since = Instant::now();
            let finding = match passed {
                Passed::Name(addresses) => {
                    let list: Vec<_> = addresses.iter().map(|it| it.ip().to_string()).collect();
                    Finding::good("name", format!("{} is {}", broker.host, list.join(", ")))
                }
                Passed::Tcp(address) => Finding::good("tcp", format!("{address} answers")),
                Passed::Tls(chain) => secured(&chain),
                Passed::Presented(chain) if chain.is_empty() => {
                    Finding::odd("tls", "the broker shows no certificate")
                }
                Passed::Presented(chain) => {
                    let chain: Vec<_> = chain.iter().map(ToString::to_string).collect();
                    Finding::odd("tls", format!("the broker shows: {}", chain.join("; ")))
                }
                Passed::Login => Finding::good("login", logged_in(broker)),
            };
            tell(finding.took(took));
        };
        connect_watched(broker, true, &mut passed).await
    }

    /// Publishes once, to a topic that no receiver reads, and waits for the acknowledgement.
    async fn publish(&self, mut session: Session, tell: Tell<'_>) -> bool {
        let (topic, payload) = self.test_publish();
        let since = Instant::now();
        let bytes = payload.len();
        let acknowledged = async {
            session.publish(&topic, payload, false).await?;
            loop {
                match session.next().await? {
                    Incoming::Acknowledged(_) => return Ok(None),
                    Incoming::Refused(_, reason) => return Ok(Some(reason.to_string())),
                    Incoming::Received(_) => {}
                }
            }
        };
        let outcome = timeout(PUBLISH_TIME_MAX, acknowledged).await;
        let subject = format!("uplink {}", self.name);
        let why = match outcome {
            Ok(Ok(None)) => {
                let said = format!("{bytes} bytes to {topic} acknowledged");
                tell(Finding::good("publish", said).took(since.elapsed()));
                session.disconnect().await;
                return true;
            }
            Ok(Ok(Some(reason))) => format!("the broker refuses it: {reason}"),
            Ok(Err(error)) => {
                let error: crate::mqtt::SessionError = error;
                error.to_string()
            }
            Err(_) => format!("no acknowledgement within {} s", PUBLISH_TIME_MAX.as_secs()),
        };
        let notice = firsthour::not_acknowledged(&subject, &topic, &why);
        tell(Finding::bad("publish", why).told(notice));
        false
    }

    /// Publishes once more in MQTT 5, and returns why the broker refuses. In MQTT 3.1.1 it has no word
    /// for that, and acknowledges what it throws away (section 3.3.5). One that speaks no MQTT 5 has
    /// said all it can.
    async fn refused_in_5(&self, broker: &Broker) -> Option<String> {
        let broker = Broker { version: Version::V5, ..broker.clone() };
        let mut session = connect_watched(&broker, true, &mut |_| {}).await.ok()?;
        let (topic, payload) = self.test_publish();
        let asked = async {
            session.publish(&topic, payload, false).await.ok()?;
            loop {
                match session.next().await.ok()? {
                    Incoming::Acknowledged(_) => return None,
                    Incoming::Refused(_, reason) => return Some(reason.to_string()),
                    Incoming::Received(_) => {}
                }
            }
        };
        let refused = timeout(PUBLISH_TIME_MAX, asked).await.ok().flatten();
        session.disconnect().await;
        refused
    }

    fn test_publish(&self) -> (String, Bytes) {
        let at = rfc3339(System.now());
        let json = format!("{{\"fieldgate_test\":\"{at}\"}}");
        let topic = match self.broker.preset.topics {
            Layout::Own => format!("fg/1/{}/test", self.gateway),
            Layout::AzureHub => {
                format!("devices/{}/messages/events/fg=1&st=test", self.broker.client_id)
            }
            Layout::ThingsBoard => "v1/devices/me/attributes".to_owned(),
        };
        (topic, json.into())
    }
}

/// Waiting for the one acknowledgement: a broker that takes longer delivers no backlog either.
const PUBLISH_TIME_MAX: Duration = Duration::from_secs(10);

fn is_about_the_client(error: &ConnectError) -> bool {
    matches!(
        error,
        ConnectError::Rejected(
            Rejection::Identifier | Rejection::NotAuthorised | Rejection::BadLogin,
            _
        ) | ConnectError::Closed(Step::Login)
    )
}

fn step(error: &ConnectError) -> &'static str {
    match error {
        ConnectError::Settings(_) => "files",
        ConnectError::Name { .. } | ConnectError::Silent(Step::Name) => "name",
        ConnectError::Refused(_) | ConnectError::Unreachable { .. } => "tcp",
        ConnectError::Silent(Step::Tcp) | ConnectError::Closed(Step::Name | Step::Tcp) => "tcp",
        ConnectError::Tls(_) => "tls",
        ConnectError::Silent(Step::Tls) | ConnectError::Closed(Step::Tls) => "tls",
        _ => "login",
    }
}

fn logged_in(broker: &Broker) -> String {
    let user = match &broker.login {
        Some(login) => format!("user {}", login.user),
        None => "no user".to_owned(),
    };
    format!("accepted ({user}, client id {}, MQTT {})", broker.client_id, broker.version)
}

fn secured(chain: &[Certificate]) -> Finding {
    let Some(own) = chain.first() else { return Finding::good("tls", "agreed") };
    let left = days_left(own.until, System.now());
    let said = format!("{own} ({left} days left)");
    match left {
        ..EXPIRES_SOON_DAYS => Finding::odd("tls", format!("{said}: renew it soon")),
        _ => Finding::good("tls", said),
    }
}

fn days_left(until: UnixMillis, now: UnixMillis) -> i64 {
    (until.0 - now.0).div_euclid(DAY_MS)
}
