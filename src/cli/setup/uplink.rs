//! Step 5 of setup: where readings go, and the doctor's steps on the way there, one by one.

use std::path::Path;

use super::Walk;
use super::ask::Stopped;
use super::without_user;
use crate::cli::doctor::uplink::Patient;
use crate::config::{self, broker_url, outline};
use crate::mqtt::{Broker, Login, User};
use crate::secret::Secret;

/// The uplink that setup makes.
const NAME: &str = "cloud";
/// Tries of one run: whoever cannot get it right then keeps it and looks later.
const TRIES_MAX: usize = 20;

impl Walk<'_> {
    /// Asks where readings go and tries it; returns whether it works, or none was wanted.
    pub(super) fn uplink(&mut self) -> Result<bool, Stopped> {
        self.ask.step(5, "Uplink", "the MQTT broker that readings are sent to");
        let there = outline::outline(self.main).uplinks;
        if let Some((name, url)) = there.iter().find(|(name, _)| name != NAME) {
            self.ask.say(&format!(
                "  uplink {name} goes to {}; edit its table to change it",
                without_user(url)
            ));
            return self.try_out(name, None, None);
        }
        let there = there.first().map(|(_, url)| url.clone()).unwrap_or_default();
        let (before, mut proposed) = (self.drafts.clone(), there.clone());
        for _ in 0..TRIES_MAX {
            // Nothing stays of a try that was not kept.
            self.drafts = before.clone();
            let question = "mqtt://HOST or mqtts://HOST, or - for none";
            let url = self.ask.ask("uplink", question, &proposed)?;
            proposed.clone_from(&url);
            if url.is_empty() {
                self.ask.say("  readings are kept in the buffer until there is one");
                return Ok(true);
            }
            if let Err(why) = broker_url(&url) {
                self.ask.say(&format!("  that is no broker's url: {why}"));
                self.ask.not_again("uplink")?;
                continue;
            }
            if url != there {
                self.drafts.set(&["uplink", NAME], "url", &outline::text(&url))?;
            }
            let (login, password) = self.login(&url)?;
            if self.try_out(NAME, login, password)? {
                return Ok(true);
            }
            if self.ask.yes("uplink.keep", "keep it like this, and look later", true)? {
                return Ok(false);
            }
            self.ask.not_again("uplink")?;
        }
        Ok(false)
    }

    /// Asks who logs in. The password goes into a file of its own, for the daemon alone.
    fn login(&mut self, url: &str) -> Result<(Option<String>, Option<String>), Stopped> {
        if url.starts_with("mqtts://") {
            let ca =
                self.ask.ask("ca", "file with the broker's CA; none means the system's", "")?;
            if !ca.is_empty() {
                // In the file it would begin at the file's own folder, not where the person stands.
                let ca = std::path::absolute(&ca).unwrap_or_else(|_| ca.into());
                let folder = std::path::absolute(self.drafts.folder()).unwrap_or_default();
                // One that is not there at all is told by the steps below.
                let copy = match ca.starts_with(&folder) || is_for_all(&ca) {
                    true => None,
                    false => self.drafts.keep_ca(&ca).ok(),
                };
                let ca = copy.unwrap_or(ca);
                let ca = ca.to_string_lossy();
                self.drafts.set(&["uplink", NAME], "ca", &outline::text(&ca))?;
            }
        }
        let user = self.ask.ask("user", "user name", "")?;
        if user.is_empty() {
            return Ok((None, None));
        }
        let password = self.ask.secret("password", "its password")?;
        if let Some(password) = &password {
            let path = self.drafts.secret(&format!("{NAME}.password"), password.clone());
            let path = std::path::absolute(&path).unwrap_or(path);
            let (user, path) = (outline::text(&user), outline::text(&path.to_string_lossy()));
            let auth = format!("{{ user = {user}, password = {{ file = {path} }} }}");
            self.drafts.set(&["uplink", NAME], "auth", &auth)?;
        } else {
            self.ask.say("  a user without a password is not sent; leave both out, or give both");
            return Ok((None, None));
        }
        Ok((Some(user), password))
    }

    /// Takes the doctor's steps with the uplink as it would be.
    fn try_out(
        &mut self,
        name: &str,
        user: Option<String>,
        password: Option<String>,
    ) -> Result<bool, Stopped> {
        let drafts = self.drafts.list();
        let config = match config::load_drafted(self.main, config::Options::default(), &drafts) {
            Ok(config) => config,
            // Without a device there is nothing to read, which is a fault; the broker can be tried.
            Err(faults) => return self.try_bare(name, user.zip(password), &faults),
        };
        let Some(uplink) = config.uplinks.iter().find(|uplink| uplink.name == name) else {
            return Ok(true);
        };
        let mut broker = uplink.broker.clone();
        if let (Some(login), Some(password)) = (&mut broker.login, password) {
            login.password = Some(Secret::Typed(password.into()));
        }
        self.read_ca_where_it_is(&mut broker);
        let gateway = config.gateway.name.to_string();
        let holder = crate::sources::line::ports::holder(&config.store.path);
        self.examine(name, &gateway, &broker, holder.is_some())
    }

    /// Tries the broker of a configuration that cannot be loaded yet.
    fn try_bare(
        &mut self,
        name: &str,
        login: Option<(String, String)>,
        faults: &config::Faults,
    ) -> Result<bool, Stopped> {
        let table = self.drafts.main_table();
        let text =
            |key: &str| table.get("uplink")?.get(name)?.get(key)?.as_str().map(str::to_owned);
        let Some(Ok(url)) = text("url").map(|url| broker_url(&url)) else {
            self.ask.say(&format!("  not tried: {faults}"));
            return Ok(false);
        };
        let gateway =
            table.get("gateway").and_then(|it| it.get("name")?.as_str()).unwrap_or("gateway");
        let mut broker = Broker::new(&url.host, url.port, gateway);
        let ca = text("ca").map(|ca| self.drafts.folder().join(ca));
        broker.tls = url.tls.then_some(crate::mqtt::Tls { ca, client: None });
        broker.login = login.map(|(user, password)| Login {
            user: User::Name(user),
            password: Some(Secret::Typed(password.into())),
        });
        self.read_ca_where_it_is(&mut broker);
        self.examine(name, gateway, &broker, false)
    }

    /// The copy of the CA beside the main file is not written yet.
    fn read_ca_where_it_is(&self, broker: &mut Broker) {
        let Some(tls) = &mut broker.tls else { return };
        if let Some(ca) = tls.ca.as_deref().and_then(|ca| self.drafts.readable_ca(ca)) {
            tls.ca = Some(ca);
        }
    }

    fn examine(
        &mut self,
        name: &str,
        gateway: &str,
        broker: &Broker,
        is_running: bool,
    ) -> Result<bool, Stopped> {
        let patient = Patient { name, gateway, broker, is_running };
        let (good, lines) = crate::cli::block_on(async {
            let mut lines = Vec::new();
            let good = patient
                .examine(&mut |finding| {
                    crate::cli::doctor::print(&finding.to_string());
                    lines.push(finding);
                })
                .await;
            Ok((good, lines.len()))
        })?;
        if good && lines > 0 {
            self.ask.say("  the uplink works");
        }
        Ok(good)
    }
}

/// Whether the system's own folders hold the file for everybody, as they do its CAs. The unit shows the
/// daemon no home folder and another `/tmp`.
fn is_for_all(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    let allows = |path: &Path, bit: u32| {
        path.metadata().is_ok_and(|about| about.permissions().mode() & bit == bit)
    };
    let is_system = path.starts_with("/etc") || path.starts_with("/usr");
    is_system && allows(path, 0o004) && path.ancestors().skip(1).all(|it| allows(it, 0o001))
}
