//! Checks what guards a frame and cuts it off.

use crc::{CRC_16_IBM_3740, CRC_16_MODBUS, CRC_32_ISO_HDLC, Crc};

use super::settings::Checksum;

const MODBUS: Crc<u16> = Crc::<u16>::new(&CRC_16_MODBUS);
const CCITT: Crc<u16> = Crc::<u16>::new(&CRC_16_IBM_3740);
const ISO_HDLC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISO_HDLC);

impl Checksum {
    /// Returns the frame without its checksum, or `None` when it is wrong or missing.
    #[must_use]
    pub fn strip(self, frame: &[u8]) -> Option<&[u8]> {
        match self {
            Self::Crc16Modbus => {
                let (body, sum) = frame.split_last_chunk()?;
                (MODBUS.checksum(body) == u16::from_le_bytes(*sum)).then_some(body)
            }
            Self::Crc16Ccitt => {
                let (body, sum) = frame.split_last_chunk()?;
                (CCITT.checksum(body) == u16::from_be_bytes(*sum)).then_some(body)
            }
            Self::Crc32 => {
                let (body, sum) = frame.split_last_chunk()?;
                (ISO_HDLC.checksum(body) == u32::from_be_bytes(*sum)).then_some(body)
            }
            Self::Sum8 => {
                let (sum, body) = frame.split_last()?;
                (body.iter().fold(0, |all: u8, byte| all.wrapping_add(*byte)) == *sum)
                    .then_some(body)
            }
            Self::Xor8 => {
                let (sum, body) = frame.split_last()?;
                (exclusive_or(body) == *sum).then_some(body)
            }
            Self::Nmea => {
                let star = frame.iter().rposition(|byte| *byte == b'*')?;
                let sum = frame[star + 1..].trim_ascii_end();
                let &[high, low] = sum else { return None };
                let sum = hex_digit(high)? << 4 | hex_digit(low)?;
                let body = &frame[..star];
                // The start mark may have been cut off by the framing already.
                let guarded = body.iter().position(|byte| *byte == b'$').map_or(0, |at| at + 1);
                (exclusive_or(&body[guarded..]) == sum).then_some(body)
            }
        }
    }
}

fn hex_digit(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| value.try_into().ok())
}

fn exclusive_or(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |all, byte| all ^ byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check values of "123456789" as the catalogue of CRC algorithms gives them.
    #[test]
    fn every_checksum_accepts_its_check_value_and_refuses_one_flipped_bit() {
        let table: &[(Checksum, &[u8])] = &[
            (Checksum::Crc16Modbus, &[0x37, 0x4B]),
            (Checksum::Crc16Ccitt, &[0x29, 0xB1]),
            (Checksum::Crc32, &[0xCB, 0xF4, 0x39, 0x26]),
            (Checksum::Sum8, &[0xDD]),
            (Checksum::Xor8, &[0x31]),
        ];
        for (checksum, sum) in table {
            let mut frame = [b"123456789", *sum].concat();
            assert_eq!(checksum.strip(&frame), Some(&b"123456789"[..]), "{checksum:?}");
            frame[3] ^= 0x10;
            assert_eq!(checksum.strip(&frame), None, "{checksum:?}");
            assert_eq!(checksum.strip(&[]), None, "{checksum:?}");
        }
    }

    #[test]
    fn an_nmea_sentence_is_guarded_between_dollar_and_star() {
        let body = &b"$GPGLL,5057.970,N,00146.110,E,142451,A"[..];
        assert_eq!(Checksum::Nmea.strip(&[body, b"*27"].concat()), Some(body));
        assert_eq!(Checksum::Nmea.strip(&[&body[1..], b"*27\r"].concat()), Some(&body[1..]));
        for bad in ["*26", "*2", "*+7", "*2z", "*\u{e9}", "", "*277"] {
            assert_eq!(Checksum::Nmea.strip(&[body, bad.as_bytes()].concat()), None, "{bad}");
        }
        assert_eq!(Checksum::Nmea.strip(b"*"), None);
    }
}
