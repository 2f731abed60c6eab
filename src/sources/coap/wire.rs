//! What both sides need of RFC 7252 messages beyond `coap-lite`'s codec: which datagrams are
//! requests at all, option values as numbers, block options (RFC 7959), and empty messages.

use coap_lite::{CoapOption, HeaderRaw, MessageClass, MessageType, Packet};

/// Protocol version in the first two bits; others are ignored in silence (RFC 7252 section 3).
const VERSION: u8 = 1;
/// The byte between options and payload (RFC 7252 section 3).
const PAYLOAD_MARKER: u8 = 0xff;

/// What a datagram is to a server.
#[derive(Debug)]
pub(super) enum Datagram {
    /// A request, to be answered.
    Request(Box<Packet>),
    /// Well-formed and not ours to answer: to be rejected with a reset when it carries a message
    /// id, else ignored. A CoAP ping is one (RFC 7252 section 4.3).
    Rejected(Option<u16>),
    /// Not CoAP as RFC 7252 section 3 lays it out; rejected likewise.
    Malformed(Option<u16>),
}

impl Datagram {
    /// Sorts a datagram.
    pub(super) fn read(bytes: &[u8]) -> Self {
        let Ok(raw) = HeaderRaw::try_from(bytes) else { return Self::Malformed(None) };
        let header = coap_lite::Header::from_raw(&raw);
        if header.get_version() != VERSION {
            return Self::Malformed(None);
        }
        let confirmable = header.get_type() == MessageType::Confirmable;
        let id = confirmable.then_some(header.message_id);
        let Some(packet) = read_packet(bytes) else { return Self::Malformed(id) };
        match packet.header.code {
            MessageClass::Request(_) | MessageClass::Reserved(0x08..=0x1f)
                if matches!(
                    header.get_type(),
                    MessageType::Confirmable | MessageType::NonConfirmable
                ) =>
            {
                Self::Request(Box::new(packet))
            }
            _ => Self::Rejected(id),
        }
    }
}

/// Decodes a message, refusing two shapes that the codec lets through: an empty message with
/// something behind its header, and a payload marker without a payload.
pub(super) fn read_packet(bytes: &[u8]) -> Option<Packet> {
    let packet = Packet::from_bytes(bytes).ok()?;
    if packet.header.get_version() != VERSION {
        return None;
    }
    if packet.header.code == MessageClass::Empty && bytes.len() > 4 {
        return None;
    }
    // The last byte may also be the end of an option; only writing it again tells them apart.
    if packet.payload.is_empty()
        && bytes.last() == Some(&PAYLOAD_MARKER)
        && packet.to_bytes_unlimited().is_ok_and(|again| again.len() < bytes.len())
    {
        return None;
    }
    Some(packet)
}

/// Writes a message that has only a header: an acknowledgement or a reset.
pub(super) fn empty(kind: MessageType, id: u16) -> Vec<u8> {
    let first = match kind {
        MessageType::Confirmable => 0x40,
        MessageType::NonConfirmable => 0x50,
        MessageType::Acknowledgement => 0x60,
        MessageType::Reset => 0x70,
    };
    let [high, low] = id.to_be_bytes();
    vec![first, 0, high, low]
}

/// Returns the first value of `option` as an unsigned integer; `None` when it is absent or longer
/// than four bytes.
pub(super) fn number(packet: &Packet, option: CoapOption) -> Option<u32> {
    uint(packet.get_first_option(option)?)
}

/// Reads an option value of format uint (RFC 7252 section 3.2): 0 to 4 bytes.
fn uint(value: &[u8]) -> Option<u32> {
    (value.len() <= 4).then(|| value.iter().fold(0, |n, byte| n << 8 | u32::from(*byte)))
}

/// Writes an option value of format uint in as few bytes as it needs.
pub(super) fn uint_bytes(number: u32) -> Vec<u8> {
    let bytes = number.to_be_bytes();
    bytes[number.leading_zeros() as usize / 8..].to_vec()
}

/// Returns the Content-Format of a message, when it names one.
pub(super) fn content_format(packet: &Packet) -> Option<u16> {
    number(packet, CoapOption::ContentFormat).map(|n| u16::try_from(n).unwrap_or(u16::MAX))
}

/// Value of a Block1 or Block2 option (RFC 7959 section 2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Block {
    /// Which block, counted in blocks of this size: 0 to 2^20 - 1.
    pub num: u32,
    /// Whether more follow.
    pub more: bool,
    /// Size exponent, 0 to 6: 16 to 1024 bytes.
    pub exponent: u8,
}

impl Block {
    /// Reads the option; `None` when it is longer than three bytes or has the reserved size.
    pub(super) fn read(value: &[u8]) -> Option<Self> {
        let n = uint(value).filter(|_| value.len() <= 3)?;
        let exponent = (n & 0x7) as u8;
        (exponent < 7).then_some(Self { num: n >> 4, more: n & 0x8 != 0, exponent })
    }

    /// Returns the bytes of a full block.
    pub(super) fn size(self) -> usize {
        16 << self.exponent
    }

    /// Returns where the block begins in the body.
    pub(super) fn offset(self) -> usize {
        self.num as usize * self.size()
    }

    /// Writes the option's value.
    pub(super) fn bytes(self) -> Vec<u8> {
        uint_bytes(self.num << 4 | u32::from(self.more) << 3 | u32::from(self.exponent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_take_as_few_bytes_as_they_need() {
        for (number, bytes) in
            [(0, vec![]), (1, vec![1]), (255, vec![255]), (256, vec![1, 0]), (65536, vec![1, 0, 0])]
        {
            assert_eq!(uint_bytes(number), bytes);
            assert_eq!(uint(&bytes), Some(number));
        }
        assert_eq!(uint(&[1, 2, 3, 4, 5]), None);
    }

    #[test]
    fn a_block_number_beyond_twelve_bits_is_read_and_written() {
        let block = Block { num: 70_000, more: true, exponent: 2 };
        assert_eq!(Block::read(&block.bytes()), Some(block));
        assert_eq!(block.offset(), 70_000 * 64);
        assert_eq!(Block::read(&[0x07]), None, "size exponent 7 is reserved");
        assert_eq!(Block::read(&[0, 0, 0, 0]), None);
        assert_eq!(Block::read(&[]), Some(Block { num: 0, more: false, exponent: 0 }));
    }

    #[test]
    fn a_payload_marker_without_payload_is_malformed_and_an_option_ending_in_ff_is_not() {
        assert!(matches!(
            Datagram::read(&[0x40, 2, 0, 9, 0xb1, b'a', 0xff]),
            Datagram::Malformed(Some(9))
        ));
        assert!(matches!(Datagram::read(&[0x40, 2, 0, 9, 0x41, 0xff]), Datagram::Request(_)));
    }
}
