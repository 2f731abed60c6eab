//! What the CoAP server and clients say. Codes FG-Pnn.

use std::net::{IpAddr, SocketAddr};

use super::{Code, Notice};
use crate::limits;

/// This room's codes.
pub const CODES: &[&Code] = &[
    &LISTEN,
    &STRANGER,
    &FLOOD,
    &BEHIND,
    &NAMES,
    &UNREADABLE_POST,
    &SILENT,
    &REFUSED,
    &UNREADABLE_ANSWER,
    &NOT_OBSERVABLE,
];

/// The listener's port cannot be taken.
pub static LISTEN: Code = Code {
    id: "FG-P01",
    title: "CoAP listener cannot take its port",
    about: "The UDP port that devices post to could not be opened, so nothing they send arrives. \
            The gateway tries again every five seconds and goes on by itself when the port is \
            free. Another CoAP server on this machine is the usual reason; stop it, or give \
            `listen` another port.",
};

/// Somebody outside `allow` posts.
pub static STRANGER: Code = Code {
    id: "FG-P02",
    title: "CoAP datagrams from outside the allow list",
    about: "A CoAP listener with an allow list got datagrams from an address that is not on it. \
            They are counted and dropped without an answer. If the sender is one of your devices, \
            add its address or network to `allow`; if not, find out who it is.",
};

/// An address sends more than a listener takes.
pub static FLOOD: Code = Code {
    id: "FG-P03",
    title: "CoAP sender over its rate",
    about: "One address sends more requests a second than a listener takes from one sender. The \
            surplus is dropped without an answer; confirmable requests are sent again by their \
            sender, slower. Other senders are not touched. Look for a device that is stuck in a \
            loop, or let devices put several readings into one SenML pack.",
};

/// The pipeline is behind.
pub static BEHIND: Code = Code {
    id: "FG-P04",
    title: "CoAP posts put off: the gateway is behind",
    about: "Readings came faster than they could be stored, so a CoAP listener answered 5.03 \
            (service unavailable, come again in some seconds). Devices that repeat lose nothing; \
            devices that do not lose the reading. It ends by itself when the buffer keeps up \
            again; a slow or full disk is the usual reason.",
};

/// A sender invents names.
pub static NAMES: Code = Code {
    id: "FG-P05",
    title: "too many different points",
    about: "A CoAP sender names a point that is new, and the gateway knows as many as it will \
            ever know. New names are refused (5.03 to a device that posts); points already known \
            go on. Usually a device puts something that changes, like a counter or a time, into a \
            name. Correct the device, then start the gateway again to forget the names.",
};

/// A body that was posted cannot be read.
pub static UNREADABLE_POST: Code = Code {
    id: "FG-P06",
    title: "CoAP post cannot be read",
    about: "A device posts something that is no text value, JSON or SenML as the listener takes \
            them, or to a path that is not /device or /device/point. It is answered with an error \
            code and a sentence that says what is wrong; nothing of it is kept. Other devices are \
            not touched. Correct the device's payload, path or content format.",
};

/// A server does not answer.
pub static SILENT: Code = Code {
    id: "FG-P07",
    title: "CoAP server does not answer",
    about: "A CoAP device that the gateway polls or observes did not answer, even after the \
            repeats that RFC 7252 asks for, or its address cannot be reached. Its known points \
            get readings without data (timeout), and the gateway keeps asking. Check the device's \
            power, its address and the network between.",
};

/// A server answers with an error.
pub static REFUSED: Code = Code {
    id: "FG-P08",
    title: "CoAP server answers with an error",
    about: "A CoAP device answers, but with a client error (4.xx: the path, method or format is \
            not what it has) or a server error (5.xx: it has a problem of its own). Its known \
            points get readings without data (device exception), and the gateway keeps asking. \
            Compare the path in the configuration with the device's /.well-known/core.",
};

/// A server's answer cannot be read.
pub static UNREADABLE_ANSWER: Code = Code {
    id: "FG-P09",
    title: "CoAP answer cannot be read",
    about: "A CoAP device answers with a body that is not what `format` says, or is no text \
            value, JSON or SenML. Its known points get readings without data (malformed), and the \
            gateway keeps asking. Set `format` to what the device sends.",
};

/// A server does not let itself be observed.
pub static NOT_OBSERVABLE: Code = Code {
    id: "FG-P10",
    title: "CoAP resource cannot be observed",
    about: "The configuration asks to observe a CoAP resource, but its server answers without \
            agreeing to send changes (RFC 7641): it does not support that, or has too many \
            observers. The gateway asks again each time the answer's age runs out, so values still \
            arrive, only later. Use `every` to poll at a rate you choose.",
};

/// A listener cannot take its port; `why` in words.
pub fn cannot_listen(listener: &str, at: SocketAddr, why: &str) -> Notice {
    Notice::error(&LISTEN, listener, format!("cannot take UDP port {} ({why})", at.port()))
        .seen(format!("It is to listen on {at}; it is tried every 5 s."))
        .likely(format!("another program listens on port {}", at.port()))
        .likely(format!("{} is no address of this machine", at.ip()))
        .likely("the port is below 1024 and the gateway may not take such ports")
        .try_next("stop the other program, or give `listen` another address or port")
}

/// A datagram came from outside the allow list.
pub fn stranger(listener: &str, from: IpAddr) -> Notice {
    Notice::warning(
        &STRANGER,
        listener,
        format!("gets datagrams from {from}, which is not allowed"),
    )
    .seen("They are dropped without an answer.")
    .likely("a device has a new address")
    .likely("somebody searches the network")
    .try_next("add its network to `allow` if it is yours")
}

/// An address is over its rate.
pub fn flood(listener: &str, from: IpAddr) -> Notice {
    let rate = limits::COAP_REQUESTS_PER_SECOND_MAX;
    Notice::warning(
        &FLOOD,
        listener,
        format!("gets more than {rate} requests a second from {from}"),
    )
    .seen("The surplus is dropped without an answer; other senders are not touched.")
    .likely("a device is stuck in a loop")
    .likely("many devices share this address behind a router")
    .try_next("let the device send several readings in one SenML pack")
}

/// The pipeline takes nothing more.
pub fn behind(listener: &str) -> Notice {
    Notice::warning(&BEHIND, listener, "puts posts off (5.03): the gateway is behind")
        .seen("Devices are told to come again in some seconds.")
        .likely("the disk is slow or full")
        .likely("devices post more than this board can store")
        .try_next("fieldgate buffer status")
}

/// No further point can be known.
pub fn too_many_names(subject: &str, example: &str) -> Notice {
    let most = limits::POINTS_LEARNED_MAX;
    Notice::error(
        &NAMES,
        subject,
        format!("names a new point ({example}); senders have named {most} already"),
    )
    .seen("Points already known go on; new ones are refused.")
    .likely("a device puts a counter or a time into a name")
    .try_next("correct the device, then start the gateway again")
}

/// A body that was posted cannot be read; `why` is what its sender was told.
pub fn unreadable_post(listener: &str, from: IpAddr, path: &str, why: &str) -> Notice {
    Notice::warning(
        &UNREADABLE_POST,
        listener,
        format!("cannot read what {from} posts to /{path}: {why}"),
    )
    .seen("The device was told so; nothing of the post was kept.")
    .likely("the device sends another format than its Content-Format says")
    .likely("its path is not /device/point or /device")
    .try_next("compare the device's payload with the sentence above")
}

/// A server does not answer; `why` in words.
pub fn silent(client: &str, url: &str, why: &str) -> Notice {
    Notice::warning(&SILENT, client, format!("gets no answer from {url} ({why})"))
        .likely("the device is off, asleep or out of reach")
        .likely("its address is another one")
        .likely("a firewall drops UDP between the gateway and the device")
        .try_next("fieldgate once")
}

/// A server answers with an error code, and a diagnostic when it sent one.
pub fn refused(client: &str, url: &str, code: &str, diagnostic: &str) -> Notice {
    let notice = Notice::warning(&REFUSED, client, format!("gets {code} from {url}"));
    let notice = if diagnostic.is_empty() {
        notice
    } else {
        notice.seen(format!("The device says: {diagnostic}"))
    };
    notice
        .likely(if code.starts_with('4') {
            "the path in the configuration is not the device's"
        } else {
            "the device has a problem of its own"
        })
        .likely("the device wants encryption or a login (OSCORE, DTLS)")
        .try_next("look at the device's /.well-known/core")
}

/// A server's answer cannot be read.
pub fn unreadable_answer(client: &str, url: &str, why: &str) -> Notice {
    Notice::warning(&UNREADABLE_ANSWER, client, format!("cannot read what {url} answers: {why}"))
        .likely("`format` names another format than the device sends")
        .likely("the path names a resource that is no measurement")
        .try_next("fieldgate config show")
}

/// A server answers without agreeing to send changes.
pub fn not_observable(client: &str, url: &str) -> Notice {
    Notice::warning(&NOT_OBSERVABLE, client, format!("cannot observe {url}"))
        .seen("The server answered, but without the Observe option.")
        .seen("It is asked again each time the answer's age runs out.")
        .likely("the resource cannot be observed")
        .likely("the server has as many observers as it can bear")
        .try_next("set `every` instead of mode = \"observe\"")
}
