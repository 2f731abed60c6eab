//! What a configuration can be told to be: its faults and warnings. Codes FG-Cnn. The sentences
//! themselves stand where the fault is found, because they quote the file.

use super::Code;

/// This room's codes.
pub const CODES: &[&Code] = &[
    &UNREADABLE,
    &SYNTAX,
    &UNKNOWN_KEY,
    &WRONG_TYPE,
    &BAD_VALUE,
    &MISSING_KEY,
    &DEFINED_TWICE,
    &NOT_FOUND,
    &LATER,
    &BARE_SECRET,
    &EXCLUSIVE,
    &BAD_NAME,
    &BAD_ADDRESS,
    &BAD_MATCH,
    &TOO_MANY,
    &NO_DECIMALS,
    &UNUSED_PORT,
    &SAME_ID,
    &UNSTABLE_PATH,
    &NO_UPLINK,
    &RESERVED_ID,
    &NOT_THERE_YET,
    &PRESET,
];

/// A file that is no readable text.
pub static UNREADABLE: Code = Code {
    id: "FG-C01",
    title: "configuration file cannot be read",
    about: "A file of the configuration does not exist, may not be read, is too large or is not \
            UTF-8 text. The daemon does not start without its configuration and systemd does not \
            try again. Check the path after --config, the owner and mode of the file, and the \
            encoding that the editor saved it in.",
};
/// Not TOML.
pub static SYNTAX: Code = Code {
    id: "FG-C02",
    title: "not TOML",
    about: "The file breaks the rules of TOML 1.0 at this place, so what it means is not known. \
            Nothing else about this file is checked until that is mended. Most often a quote or a \
            bracket is missing on this line or the line above, or text stands without quotes.",
};
/// A key nobody reads.
pub static UNKNOWN_KEY: Code = Code {
    id: "FG-C03",
    title: "unknown key",
    about: "The configuration holds a key that fieldgate does not know at this place. It is not \
            ignored, because a misspelled key would silently leave its default in force. Correct \
            the spelling or remove the line; fieldgate config schema lists every key.",
};
/// Right key, wrong kind of value.
pub static WRONG_TYPE: Code = Code {
    id: "FG-C04",
    title: "wrong kind of value",
    about: "The key is known but its value is of another kind: a number where text belongs, text \
            where a table belongs. Durations and sizes are text with their unit (\"5s\", \
            \"2GiB\"), so that nobody has to guess what a naked number counts.",
};
/// Right kind, impossible value.
pub static BAD_VALUE: Code = Code {
    id: "FG-C05",
    title: "value does not do",
    about: "The value is of the right kind but says something that cannot be: a duration that is \
            out of bounds, an unknown type, an address that is no address. The fault names what \
            was found and what would do. Nothing is guessed or cut to fit.",
};
/// A key that must be there.
pub static MISSING_KEY: Code = Code {
    id: "FG-C06",
    title: "something is missing",
    about: "A key without a default is not there, or there is nothing to read at all. A complete \
            configuration needs one device or source, and an uplink with a url to send to; \
            everything else has a default that fieldgate config show prints.",
};
/// Two definitions of one name.
pub static DEFINED_TWICE: Code = Code {
    id: "FG-C07",
    title: "defined twice",
    about: "The same name is defined in two places, possibly in two files of conf.d. Neither wins: \
            which one would apply could depend on the order of file names. Rename one of them or \
            remove it; both places are named.",
};
/// A reference into the void.
pub static NOT_FOUND: Code = Code {
    id: "FG-C08",
    title: "refers to something that is not there",
    about: "A device names a port or a template that does not exist. Ports are defined as \
            [port.NAME]; templates are files NAME.toml beside the configuration, in its folder \
            templates, or in /usr/share/fieldgate/templates, and some are built in.",
};
/// Known, but this version cannot do it.
pub static LATER: Code = Code {
    id: "FG-C09",
    title: "not in this version",
    about: "The configuration asks for something that this version of fieldgate knows by name but \
            does not do yet, such as HTTP on a TCP port. It refuses instead of ignoring it, so that \
            nobody believes that it is in force. Remove the key or install a later version.",
};
/// A password in plain sight.
pub static BARE_SECRET: Code = Code {
    id: "FG-C10",
    title: "secret written in the clear",
    about: "Passwords and keys do not belong into the configuration, which is copied, shown and \
            put under version control. Write where the secret is kept: a file, an environment \
            variable or a systemd credential. It is read at the moment of use, so a rotated \
            secret takes effect by itself.",
};
/// Two things that exclude each other.
pub static EXCLUSIVE: Code = Code {
    id: "FG-C11",
    title: "these exclude each other",
    about: "Two settings cannot hold at the same time: a serial port that is a Modbus bus cannot \
            also carry a framed device, a resource is either observed or polled. The fault names \
            both; decide for one of them.",
};
/// A name that cannot be a topic level.
pub static BAD_NAME: Code = Code {
    id: "FG-C12",
    title: "name does not do",
    about: "Gateways, devices and points are named in MQTT topics and as device/point everywhere \
            else. A name is 1 to 128 bytes without blanks, control characters and the signs \
            / + # * \" that have a meaning there. Letters, digits, '-', '_' and '.' always do.",
};
/// A Modbus address that is none.
pub static BAD_ADDRESS: Code = Code {
    id: "FG-C13",
    title: "no Modbus address",
    about: "Modbus addresses are written in two ways: as table and protocol address from 0 \
            (\"holding 8\"), or as the five- or six-digit number of Modicon manuals from 1 \
            (\"40009\", \"400009\"). Both name the same register here; fieldgate check prints \
            both, so that it can be compared with the manual.",
};
/// A regular expression that is none, or lacks a group.
pub static BAD_MATCH: Code = Code {
    id: "FG-C14",
    title: "match does not fit its points",
    about: "The regular expression of a serial device is not valid, or has no group for one of \
            the device's points. Each point takes the group of its own name, written \
            (?<weight>...), or the one its key names.",
};
/// More than fits.
pub static TOO_MANY: Code = Code {
    id: "FG-C15",
    title: "too many",
    about: "The configuration asks for more points, files or names than fieldgate will hold. The \
            bounds are far above what a board can read in a useful time and keep its memory \
            bounded. Spread the devices over more than one gateway.",
};
/// A float with noise for digits.
pub static NO_DECIMALS: Code = Code {
    id: "FG-C51",
    title: "float without decimals",
    about: "A floating point register carries seven digits, most of them noise. Unrounded, such a \
            reading takes five bytes on disk and on the wire; with decimals = 2 about one. Nothing \
            is lost by it that the sensor knew. Add decimals to the point, or leave it if the \
            digits matter.",
};
/// A port nobody talks on.
pub static UNUSED_PORT: Code = Code {
    id: "FG-C52",
    title: "port is not used",
    about: "A port is defined but no device names it in via, so it is not opened. Often a device \
            was removed or its table was commented out. Remove the port as well, or point a device \
            at it.",
};
/// Two devices of one number.
pub static SAME_ID: Code = Code {
    id: "FG-C53",
    title: "same id twice on a bus",
    about: "Two devices of the configuration have the same id on the same bus. That is useful to \
            read one physical device under two names, and wrong when two were meant: then both \
            answer at once and garble each other. Give one another id if they are two.",
};
/// A path that moves.
pub static UNSTABLE_PATH: Code = Code {
    id: "FG-C54",
    title: "port path may move",
    about: "Linux numbers /dev/ttyUSB and /dev/ttyACM in the order in which adapters appear, so \
            after a restart or a replugged cable the same path can be another adapter. The links \
            in /dev/serial/by-id carry the adapter's own name and stay; fieldgate ports lists \
            them.",
};
/// Nothing is sent.
pub static NO_UPLINK: Code = Code {
    id: "FG-C55",
    title: "nothing is sent",
    about: "There is no [uplink.NAME], so readings are kept in the buffer and dropped when they \
            are older than keep or the buffer is full. That is fine while a bus is being tried \
            out. Add an uplink with a url to send them.",
};
/// An id the specification keeps.
pub static RESERVED_ID: Code = Code {
    id: "FG-C56",
    title: "id is reserved",
    about: "On a serial line the Modbus specification gives 1 to 247 to devices and reserves 248 \
            to 255. Some devices are shipped with such an id nevertheless and answer to it. It is \
            used as written; another id is better when the device is put into service.",
};
/// A file or variable that a connection needs.
pub static NOT_THERE_YET: Code = Code {
    id: "FG-C57",
    title: "secret or certificate cannot be read",
    about: "A password, key or certificate that the configuration refers to does not exist, cannot \
            be read by this user, is damaged, or does not belong to its key. The daemon starts \
            nevertheless, keeps readings, and reads the file again at every connect, so it is \
            enough to put it in place. An environment variable must be set for the service, not \
            only in your shell.",
};
/// A limit of a cloud.
pub static PRESET: Code = Code {
    id: "FG-C58",
    title: "the cloud of this preset would refuse it",
    about: "A preset stands for the limits of one cloud's broker: payload, topics, keep-alive, \
            version, TLS, login. What the configuration asks for is outside of them, so the \
            broker would close the connection, most often without a reason. Nothing is started \
            like this. The limits are those of the README's table of presets; where your contract \
            has other ones, preset = \"mqtt\" assumes none.",
};
