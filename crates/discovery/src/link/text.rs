//! Bytes of frames as text: printable whatever they are, and the same for the same bytes.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

/// `00-16-3e-00-00-01`.
pub fn dashed(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join("-")
}

/// `00163e`.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Text of several lines, such as a description: NULs at the end are dropped, bytes that are no UTF-8 become `\xNN`, control
/// characters other than line ends and tabs become visible.
pub fn free(bytes: &[u8]) -> String {
    readable(bytes, |c| matches!(c, '\n' | '\r' | '\t'))
}

/// Text that identifies something: like [`free`], on one line and without blanks around it.
pub fn identity(bytes: &[u8]) -> String {
    readable(bytes, |_| false).trim().to_owned()
}

fn readable(bytes: &[u8], stays: impl Fn(char) -> bool) -> String {
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let mut text = String::new();
    for chunk in bytes[..end].utf8_chunks() {
        for c in chunk.valid().chars() {
            let mut own = [0; 4];
            let one: &str = c.encode_utf8(&mut own);
            if stays(c) { text.push(c) } else { text.push_str(&model::text::printable(one)) }
        }
        for byte in chunk.invalid() {
            // Writing to a String cannot fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// An address of a family by IANA's address family numbers: IP and MAC addresses in their usual form, names as text, others
/// as `afn<number>:<hexadecimal>`. `None`: of another length than its family has.
pub fn address(family: u8, bytes: &[u8]) -> Option<String> {
    Some(match family {
        1 => Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).to_string(),
        2 => Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).to_string(),
        6 if matches!(bytes.len(), 6 | 8) => dashed(bytes),
        6 => return None,
        16 => identity(bytes),
        _ => format!("afn{family}:{}", hex(bytes)),
    })
}

/// An object identifier in BER (X.690 8.19), without its tag and length: `1.3.6.1.4.1.9`. `None`: it is none.
pub fn object_identifier(bytes: &[u8]) -> Option<String> {
    let mut numbers: Vec<u32> = Vec::new();
    let mut number: u32 = 0;
    let mut is_open = false;
    for byte in bytes {
        number = number.checked_mul(128)? | u32::from(byte & 0x7f);
        is_open = byte & 0x80 != 0;
        if is_open {
            continue;
        }
        if numbers.is_empty() {
            let first = (number / 40).min(2);
            numbers.extend([first, number - first * 40]);
        } else {
            numbers.push(number);
        }
        number = 0;
    }
    let is_whole = !is_open && !numbers.is_empty();
    is_whole.then(|| numbers.iter().map(u32::to_string).collect::<Vec<_>>().join("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_the_bytes_the_text_is_printable() {
        assert_eq!(free(b"Port 1\0\0"), "Port 1");
        assert_eq!(free(b"a\nb\tc\x1b[2J\xff\xfe!"), "a\nb\tc\\u{1b}[2J\\xff\\xfe!");
        assert_eq!(identity(b" a\nb \0"), "a\\nb");
        assert_eq!(identity("Büro\u{202e}".as_bytes()), "Büro\\u{202e}");
        assert_eq!((free(b"\0\0"), identity(b"  ")), (String::new(), String::new()));
        assert_eq!(free(b"a\0b"), "a\\u{0}b");
    }

    #[test]
    fn addresses_by_family() {
        assert_eq!(address(1, &[10, 0, 0, 1]).unwrap(), "10.0.0.1");
        assert_eq!(address(2, &[0xfe; 16]).unwrap(), "fefe:fefe:fefe:fefe:fefe:fefe:fefe:fefe");
        assert_eq!(address(6, &[0, 1, 2, 3, 4, 0xab]).unwrap(), "00-01-02-03-04-ab");
        assert_eq!(address(16, b"sw1.example").unwrap(), "sw1.example");
        assert_eq!(address(11, &[1, 2]).unwrap(), "afn11:0102");
        for (family, length) in [(1, 3), (1, 5), (2, 4), (6, 5)] {
            assert_eq!(address(family, &vec![1; length]), None, "{family} {length}");
        }
    }

    #[test]
    fn object_identifiers() {
        assert_eq!(object_identifier(&[0x2b, 6, 1, 4, 1, 9]).unwrap(), "1.3.6.1.4.1.9");
        assert_eq!(object_identifier(&[0x2b, 0x86, 0x48]).unwrap(), "1.3.840");
        assert_eq!(object_identifier(&[0x88, 0x37]).unwrap(), "2.999");
        for wrong in [&[][..], &[0x2b, 0x86], &[0x2b, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]] {
            assert_eq!(object_identifier(wrong), None, "{wrong:?}");
        }
    }
}
