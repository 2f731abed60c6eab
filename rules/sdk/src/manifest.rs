//! The manifest is put together while the rule compiles: bytes of texts, one after the other.

/// Bytes of all parts together.
#[must_use]
pub const fn length_of(parts: &[&str]) -> usize {
    let (mut length, mut part) = (0, 0);
    while part < parts.len() {
        length += parts[part].len();
        part += 1;
    }
    length
}

/// All parts, one after the other; `N` is their [`length_of`].
#[must_use]
pub const fn bytes_of<const N: usize>(parts: &[&str]) -> [u8; N] {
    let mut all = [0; N];
    let (mut at, mut part) = (0, 0);
    while part < parts.len() {
        let bytes = parts[part].as_bytes();
        let mut i = 0;
        while i < bytes.len() {
            all[at] = bytes[i];
            at += 1;
            i += 1;
        }
        part += 1;
    }
    all
}

/// A number as decimal text, and where its first digit stands.
#[must_use]
pub const fn decimal(mut number: u32) -> ([u8; 10], usize) {
    let mut digits = [b'0'; 10];
    let mut first = 10;
    loop {
        first -= 1;
        let digit = (number % 10) as u8;
        digits[first] = b'0' + digit;
        number /= 10;
        if number == 0 {
            return (digits, first);
        }
    }
}

/// Text of bytes that are text, from `first` on.
#[must_use]
pub const fn str_of(bytes: &[u8], first: usize) -> &str {
    match core::str::from_utf8(bytes.split_at(first).1) {
        Ok(text) => text,
        Err(_) => "",
    }
}
