//! What the uplink and zigbee2mqtt say about their brokers. Codes FG-Unn.
//!
//! The subject of all of them is the owner of the session: `uplink cloud`, `source zigbee`.

use std::time::Duration;

use super::{Code, Events, Notice, rounded};
use crate::limits;
use crate::mqtt::{
    Broker, ConnectError, Reason, Rejection, SessionError, Step, TlsFault, Told, Version,
};

/// This room's codes.
pub const CODES: &[&Code] = &[
    &NOT_REACHED,
    &LOGIN_REFUSED,
    &TLS_FAILED,
    &SETTINGS_UNUSABLE,
    &CONNECTION_LOST,
    &NOT_ACKNOWLEDGED,
    &BATCH_UNWANTED,
    &META_TOO_LARGE,
    &SUBSCRIPTION_REFUSED,
    &RECEIVER_SILENT,
    &RECEIPT_UNBELIEVED,
];

/// FG-U01.
pub static NOT_REACHED: Code = Code {
    id: "FG-U01",
    title: "broker not reached",
    about: "No MQTT session came about: the broker's name, its address, or its answer is \
            missing. The gateway keeps every batch on disk and dials again, with growing pauses \
            of up to half a minute; nothing is lost until the buffer's limit. A person can check \
            cable, mobile signal, DNS, firewall, and whether the broker runs on that host and \
            port.",
};

/// FG-U02.
pub static LOGIN_REFUSED: Code = Code {
    id: "FG-U02",
    title: "broker refuses the login",
    about: "The broker was reached and answered CONNECT with a refusal. The gateway keeps every \
            batch and tries again with growing pauses, reading user, password and certificate \
            files anew each time, so a corrected file is enough. A person compares them with the \
            broker's side.",
};

/// FG-U03.
pub static TLS_FAILED: Code = Code {
    id: "FG-U03",
    title: "TLS to the broker fails",
    about: "The encrypted connection could not be agreed on: a certificate is expired, not valid \
            yet, for another name, or of an unknown CA, or the broker does not accept ours. The \
            gateway never sends data over a connection it cannot trust; it keeps every batch and \
            tries again. Look at this board's clock first: a wrong clock makes good certificates \
            look bad.",
};

/// FG-U04.
pub static SETTINGS_UNUSABLE: Code = Code {
    id: "FG-U04",
    title: "broker settings cannot be used",
    about: "A password, key or certificate file that the configuration names is missing, \
            unreadable or damaged, so the broker was not dialled. The gateway looks again with \
            growing pauses; a corrected file takes effect by itself, without a restart.",
};

/// FG-U05.
pub static CONNECTION_LOST: Code = Code {
    id: "FG-U05",
    title: "broker connection lost",
    about: "A working session ended without our doing. The gateway dials again and sends \
            everything that was not acknowledged once more, in order and byte for byte the same; \
            receivers drop what they already have by its key. If it happens often, look at the \
            link, or for a second client with the same identifier: brokers throw the older one \
            out.",
};

/// FG-U06.
pub static NOT_ACKNOWLEDGED: Code = Code {
    id: "FG-U06",
    title: "broker does not acknowledge",
    about: "The connection is up and batches were sent, but the broker acknowledges none. The \
            gateway gives the connection up, dials again and sends them once more; they stay on \
            disk until they are acknowledged. A person looks at the broker: a full disk, a stuck \
            bridge, or an access list that swallows publishes.",
};

/// FG-U07.
pub static BATCH_UNWANTED: Code = Code {
    id: "FG-U07",
    title: "broker does not take a batch",
    about: "The broker refused a batch several times, or several connections in a row ended with \
            it sent and not acknowledged, or it is larger than the broker takes: MQTT 3.1.1 has \
            no other way to say so than to hang up. The gateway parks the batch: it stays on disk \
            and is counted, everything else goes on, and it is tried again once an hour until it \
            passes or the buffer's limit drops it. A person raises the broker's limit on packet \
            size, or allows the topic.",
};

/// FG-U08.
pub static META_TOO_LARGE: Code = Code {
    id: "FG-U08",
    title: "list of series too long for meta",
    about: "The retained `meta` message would be larger than brokers take, so it is sent with \
            the number of series instead of their list. No reading is affected: every batch \
            names its own series. A person may spread the points over several gateways if the \
            list is needed.",
};

/// FG-U09.
pub static SUBSCRIPTION_REFUSED: Code = Code {
    id: "FG-U09",
    title: "broker refuses a subscription",
    about: "The login works but the broker does not let this client read the topics it needs, so \
            nothing arrives from there. The gateway tries again with growing pauses. A person \
            allows the topic in the broker's access list, or corrects the topic in the \
            configuration.",
};

/// FG-U20.
pub static RECEIVER_SILENT: Code = Code {
    id: "FG-U20",
    title: "receiver says nothing",
    about: "With ack = \"receiver\" a batch is freed when its receiver names it on the topic \
            fg/1/GATEWAY/ack. The broker has taken batches, and nobody has named any for long. \
            Nothing is lost: they stay on disk until the buffer's limit. A person looks whether \
            the receiver runs, sees this gateway's topics and may publish to that one; once it \
            speaks again, what it misses is sent again.",
};

/// FG-U21.
pub static RECEIPT_UNBELIEVED: Code = Code {
    id: "FG-U21",
    title: "acknowledgement that cannot be true",
    about: "Something on the topic fg/1/GATEWAY/ack is no acknowledgement of a receiver of this \
            gateway: it is no JSON of that form, speaks of an epoch or a batch that never was, or \
            is far too long. It was ignored and counted; no batch is freed by it. A person looks \
            at who may publish to that topic: nobody but the receiver should.",
};

/// The codes that end when a session works again.
const OF_SESSIONS: [&Code; 7] = [
    &NOT_REACHED,
    &LOGIN_REFUSED,
    &TLS_FAILED,
    &SETTINGS_UNUSABLE,
    &CONNECTION_LOST,
    &NOT_ACKNOWLEDGED,
    &SUBSCRIPTION_REFUSED,
];

/// The codes of sessions that do not come about; only the latest of them is true.
const OF_DIALLING: [&Code; 4] = [&NOT_REACHED, &LOGIN_REFUSED, &TLS_FAILED, &SETTINGS_UNUSABLE];

/// Tells that a session did not come about. Another reason that stood before is over: a broker that
/// refuses the login is reached.
pub fn tell_not_connected(events: &Events, subject: &str, broker: &Broker, error: &ConnectError) {
    let mut notice = not_connected(subject, broker, error);
    if let Some(command) = doctor_of(subject) {
        notice.next.insert(0, command);
    }
    for code in OF_DIALLING.into_iter().filter(|code| *code != notice.code) {
        events.clear(code, subject, "fails for another reason now");
    }
    events.raise(notice);
}

/// Builds the notice for a session that did not come about.
#[must_use]
pub fn not_connected(subject: &str, broker: &Broker, error: &ConnectError) -> Notice {
    let at = format!("{}:{}", broker.host, broker.port);
    match error {
        ConnectError::Settings(why) => Notice::error(
            &SETTINGS_UNUSABLE,
            subject,
            format!("cannot log in to the broker {at}: {why}"),
        )
        .try_next("fieldgate check"),
        ConnectError::Tls(fault) => tls_failed(subject, &at, fault),
        ConnectError::Rejected(rejection, told) => login_refused(subject, broker, *rejection, told),
        ConnectError::Unfit(why) => unfit(subject, &at, why),
        _ => not_reached(subject, &at, broker.tls.is_some(), error),
    }
}

/// Returns the command that tries an uplink's broker step by step, and shows at which it stops.
fn doctor_of(subject: &str) -> Option<String> {
    subject.strip_prefix("uplink ").map(|name| format!("fieldgate doctor uplink {name}"))
}

/// Returns where the settings of a session stand: sources and uplinks have a configuration, the
/// programs for servers a command line.
fn settings_of(subject: &str) -> &'static str {
    if subject.starts_with("uplink ") || subject.starts_with("source ") {
        "fieldgate config show"
    } else {
        "compare the command line (--help) with the broker's own settings"
    }
}

fn not_reached(subject: &str, at: &str, tls: bool, error: &ConnectError) -> Notice {
    let notice =
        Notice::warning(&NOT_REACHED, subject, format!("does not reach the broker {at}: {error}"))
            .because(cause(error));
    let other_port = if tls {
        "this port speaks plain MQTT, not TLS (mqtts:// is usually port 8883)"
    } else {
        "this port wants TLS (mqtts://, usually port 8883)"
    };
    match error {
        ConnectError::Name { .. } => notice
            .likely("the name is misspelt")
            .likely("this machine has no network or no name server")
            .try_next(settings_of(subject)),
        ConnectError::Refused(_) => notice
            .seen("The host itself is there and answers.")
            .likely("the broker is not running")
            .likely("it listens on another port")
            .likely("it listens on its own loopback only")
            .try_next(settings_of(subject)),
        ConnectError::Closed(_) => notice
            .likely(other_port)
            .likely("the broker is starting, full, or refuses this address")
            .likely("it hangs up instead of refusing a login")
            .try_next("look at the broker's log for this address"),
        ConnectError::Silent(Step::Tls | Step::Login) => notice
            .seen("The TCP connection was accepted.")
            .likely(other_port)
            .likely("the broker hangs or its host is overloaded")
            .try_next("look at the broker's log for this address"),
        ConnectError::Violation(_) => notice
            .likely("something else than an MQTT broker listens there")
            .likely(other_port)
            .try_next(settings_of(subject)),
        _ => notice
            .likely("this board's network or mobile link is down")
            .likely("a firewall on the way drops the packets")
            .likely("the broker's host is off")
            .try_next("check the link to the gateway's router, then to the broker's host"),
    }
}

/// Tells apart what a person would look at in different places.
fn cause(error: &ConnectError) -> &'static str {
    match error {
        ConnectError::Name { .. } => "name",
        ConnectError::Refused(_) => "refused",
        ConnectError::Closed(_) => "closed",
        ConnectError::Silent(Step::Tls | Step::Login) => "no answer",
        ConnectError::Violation(_) => "no broker",
        _ => "unreachable",
    }
}

fn login_refused(subject: &str, broker: &Broker, rejection: Rejection, told: &Told) -> Notice {
    let at = format!("{}:{}", broker.host, broker.port);
    let who = match &broker.login {
        Some(login) => format!("user {}, client id {}", login.user, broker.client_id),
        None => format!("no user, client id {}", broker.client_id),
    };
    let notice = Notice::error(
        &LOGIN_REFUSED,
        subject,
        format!("is refused by the broker {at}: {rejection}{told}"),
    )
    .seen(format!("Logged in as: {who}."));
    let notice = match rejection {
        Rejection::BadLogin | Rejection::NotAuthorised if broker.login.is_none() => notice
            .likely("the broker wants a user and password, and none are configured")
            .likely("the broker wants a client certificate"),
        Rejection::BadLogin | Rejection::NotAuthorised => notice
            .likely("the password is wrong or was changed at the broker")
            .likely("the user does not exist there")
            .likely("this user may not connect with this client id"),
        Rejection::Identifier => {
            notice.likely("the broker allows other client identifiers only; ours is gateway.name")
        }
        Rejection::Unavailable => notice.likely("the broker is starting or overloaded"),
        Rejection::Version(Version::V311) => {
            notice.likely("the broker speaks MQTT 5 only: version = \"5\"")
        }
        Rejection::Version(Version::V5) => {
            notice.likely("the broker speaks MQTT 3.1.1 only: version = \"3.1.1\"")
        }
        Rejection::Other(Reason::NO_RETAIN) => notice.likely(
            "the broker keeps no retained messages, and the last will asks for it: choose its preset",
        ),
        Rejection::Other(_) if told.elsewhere.is_some() => {
            notice.likely("the broker has moved, or shares its load: put the named one into url")
        }
        Rejection::Other(_) => notice.likely("the broker's operator limits its clients"),
    };
    notice.try_next(settings_of(subject))
}

fn unfit(subject: &str, at: &str, why: &str) -> Notice {
    let found = format!("cannot use the broker {at}: {why}");
    Notice::error(&LOGIN_REFUSED, subject, found)
        .seen("The login itself was accepted.")
        .likely("the broker's operator limits it to less than MQTT has")
        .try_next(settings_of(subject))
}

fn tls_failed(subject: &str, at: &str, fault: &TlsFault) -> Notice {
    let notice = Notice::error(
        &TLS_FAILED,
        subject,
        format!("has no trusted connection to the broker {at}: {fault}"),
    );
    match fault {
        TlsFault::Expired { .. } => notice
            .likely("the broker's certificate was not renewed")
            .likely("this board's clock is wrong")
            .try_next("timedatectl"),
        TlsFault::NotYetValid { .. } => notice
            .likely("this board's clock is wrong: it has no battery and was not synchronised yet")
            .likely("the broker's certificate is to be used later")
            .try_next("timedatectl"),
        TlsFault::UnknownIssuer => notice
            .likely("the broker's CA is a private one, and `ca` does not name its file")
            .likely("`ca` names the wrong file")
            .likely("another device answers in the broker's place")
            .try_next(settings_of(subject)),
        TlsFault::WrongName { .. } => notice
            .likely("the url names the broker differently than its certificate does")
            .likely("another host answers in the broker's place")
            .try_next(settings_of(subject)),
        TlsFault::ClientRefused(_) => notice
            .likely("no client certificate is configured, or it is the wrong one")
            .likely("it has expired or was revoked")
            .likely("the broker trusts another CA for its clients")
            .try_next(settings_of(subject)),
        TlsFault::NotTls => notice
            .likely("this port speaks plain MQTT (mqtts:// is usually port 8883)")
            .likely("a proxy or portal answers in the broker's place")
            .try_next(settings_of(subject)),
        TlsFault::BadCertificate(_) | TlsFault::Handshake(_) => notice
            .likely("the broker's certificate or TLS version is too old or unusual")
            .try_next("look at the broker's log for this address"),
    }
}

/// Builds the notice for a session that ended.
#[must_use]
pub fn lost(subject: &str, broker: &Broker, error: &SessionError) -> Notice {
    let at = format!("{}:{}", broker.host, broker.port);
    match error {
        SessionError::Filter(filter, reason) => Notice::error(
            &SUBSCRIPTION_REFUSED,
            subject,
            format!("may not subscribe to {filter} at the broker {at}: {reason}"),
        )
        .likely("the broker's access list does not allow it")
        .try_next(settings_of(subject)),
        // TLS 1.3 lets a broker refuse a client certificate as late as here.
        SessionError::Tls(fault) => tls_failed(subject, &at, fault),
        _ => Notice::warning(&CONNECTION_LOST, subject, format!("lost the broker {at}: {error}"))
            .likely("the network between was interrupted")
            .likely("the broker was restarted")
            .likely(format!("another client uses the identifier {}", broker.client_id))
            .try_next("nothing: it dials again by itself"),
    }
}

/// Builds the notice for a connection on which nothing is acknowledged.
#[must_use]
pub fn not_acknowledged(subject: &str, broker: &Broker, count: usize, waited: Duration) -> Notice {
    let mut notice = Notice::warning(
        &NOT_ACKNOWLEDGED,
        subject,
        format!(
            "has had no acknowledgement from {}:{} for {} ({count} batches sent)",
            broker.host,
            broker.port,
            rounded(waited)
        ),
    )
    .seen("The connection itself is up.")
    .likely("the broker's disk is full or its storage hangs")
    .likely("an access list swallows what this client publishes")
    .likely("the link is too slow for the batches");
    notice.next.extend(doctor_of(subject));
    notice.try_next("look at the broker's log for this client")
}

/// Builds the notice for a batch that connections keep ending with.
#[must_use]
pub fn batch_unwanted(subject: &str, batch: &str, bytes: usize, times: u32) -> Notice {
    let what =
        format!("lost {times} connections in a row over the same batch, {batch} ({bytes} bytes)");
    parked(subject, what)
        .likely(format!(
            "the broker takes packets below {bytes} bytes only \
             (mosquitto: max_packet_size, EMQX: max_packet_size, AWS IoT: 128 KiB)"
        ))
        .likely("an access list of the broker hangs up on this topic")
        .likely("the broker crashes on it")
        .try_next("raise the broker's limit on packet size, or lower batch.max_bytes")
        .try_next("fieldgate buffer status")
}

/// Builds the notice for a batch that is larger than the broker says it takes.
#[must_use]
pub fn batch_too_large(subject: &str, batch: &str, bytes: usize, bytes_max: usize) -> Notice {
    let what = format!("cannot send {batch} ({bytes} bytes): the broker takes {bytes_max} bytes");
    parked(subject, what)
        .likely("the batch was sealed before batch.max_bytes was lowered, or for another broker")
        .likely("the broker's limit on packet size was lowered")
        .try_next(format!("raise that limit, or set batch.max_bytes below {bytes_max}"))
        .try_next("fieldgate buffer status")
}

/// Builds the notice for a batch that the broker refuses with a reason of its own.
#[must_use]
pub fn batch_refused(subject: &str, batch: &str, bytes: usize) -> Notice {
    let times = limits::BATCH_REFUSED_MAX;
    let what = format!("is refused the batch {batch} ({bytes} bytes), {times} times");
    parked(subject, what)
        .likely("this client may not publish to its topic")
        .likely("the broker checks payloads, and this one is not to its taste")
        .try_next("look at the broker's log for this client")
}

fn parked(subject: &str, what: String) -> Notice {
    Notice::error(&BATCH_UNWANTED, subject, what)
        .seen("Nothing is lost: the batch waits on disk, all others go on; it is tried every hour.")
}

/// Builds the notice for a receiver that says nothing; `last` is how long ago it did.
#[must_use]
pub fn receiver_silent(subject: &str, topic: &str, last: Option<Duration>) -> Notice {
    let since = match last {
        Some(last) => format!("for {}", rounded(last)),
        None => "since the gateway started".to_owned(),
    };
    Notice::warning(&RECEIVER_SILENT, subject, format!("has heard nothing on {topic} {since}"))
        .seen("The broker takes batches; they are kept here until their receiver names them.")
        .likely("no receiver runs, or it cannot store what it gets")
        .likely(format!("the receiver may not publish to {topic}"))
        .likely("the receiver does not acknowledge; then ack = \"broker\" is right")
        .try_next(format!("mosquitto_sub -t '{topic}' at the broker"))
}

/// Builds the notice for an acknowledgement that `why`.
#[must_use]
pub fn receipt_unbelieved(subject: &str, why: &str) -> Notice {
    Notice::warning(
        &RECEIPT_UNBELIEVED,
        subject,
        format!("got an acknowledgement that {why}; it is ignored"),
    )
    .likely("another program publishes to this gateway's ack topic")
    .likely("two gateways share this name")
    .try_next("look at the broker's access list for that topic")
}

/// Builds the notice for a list of series that does not fit.
#[must_use]
pub fn meta_too_large(subject: &str, series: usize, bytes_max: usize) -> Notice {
    Notice::warning(
        &META_TOO_LARGE,
        subject,
        format!(
            "sends meta without its {series} series: the list is over {} KiB",
            bytes_max / 1024
        ),
    )
    .seen("Every batch names its own series; no reading is affected.")
}

/// Ends what was told about a session of `subject`: it works again.
pub fn works_again(events: &Events, subject: &str) {
    for code in OF_SESSIONS {
        events.clear(code, subject, "works again");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_that_is_not_reached_for_another_reason_is_told_again() {
        let (events, broker) = (Events::default(), Broker::new("broker.example", 1883, "gw-1"));
        let refused = ConnectError::Refused("192.0.2.1:1883".parse().unwrap());
        let unknown = ConnectError::Name { host: "broker.example".to_owned(), why: "is unknown" };
        let told = [&refused, &unknown, &refused].map(|error| {
            tell_not_connected(&events, "uplink cloud", &broker, error);
            events.standing()[0].notice.cause
        });
        assert_eq!(told, ["refused", "name", "name"], "each once");
        assert_eq!(events.standing()[0].count, 3);
    }
}
