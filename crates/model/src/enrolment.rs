//! Enrolment tokens and marks of machines: what both sides have to agree on.

use crate::DocumentHash;
use crate::message::MachineMark;

/// What every token begins with, so that people and scanners for secrets recognise one.
pub const TOKEN_PREFIX: &str = "assim-";
/// Random bytes of a token: 192 bits, which nobody guesses.
pub const TOKEN_BYTES: usize = 24;

/// A mark of a machine is one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MarkKind {
    Installation,
    Hardware,
    Boot,
}

/// The text of a token of these random bytes: the prefix and 48 hexadecimal digits.
pub fn token_text(random: &[u8; TOKEN_BYTES]) -> String {
    let digits: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{TOKEN_PREFIX}{digits}")
}

/// The hash under which the CMA keeps a token; `None`: this is no token, white space around it aside.
///
/// A single SHA-256 is enough: a slow hash protects what people choose, because that can be guessed, and a token cannot.
pub fn token_hash(text: &str) -> Option<[u8; 32]> {
    let text = text.trim();
    let digits = text.strip_prefix(TOKEN_PREFIX)?;
    let is_token =
        digits.len() == 2 * TOKEN_BYTES && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    is_token.then(|| DocumentHash::of(format!("assimilation enrolment token\0{text}").as_bytes()).0)
}

/// The mark of an identifier that a system has, in lower case and without white space around it. The prefix keeps it from
/// being looked up in lists of hashes that others make of the same identifiers.
pub fn machine_mark(kind: MarkKind, identifier: &str) -> MachineMark {
    let name = match kind {
        MarkKind::Installation => "installation",
        MarkKind::Hardware => "hardware",
        MarkKind::Boot => "boot",
    };
    let text = format!("assimilation machine mark\0{name}\0{}", identifier.trim().to_ascii_lowercase());
    let mut mark = [0; 16];
    mark.copy_from_slice(&DocumentHash::of(text.as_bytes()).0[..16]);
    MachineMark(mark)
}

/// Checks a tag of a host: 1 to 64 ASCII letters, digits, `.`, `_`, `:`, `=` or `-`, not `-` first.
///
/// # Errors
/// A sentence that repeats the tag.
pub fn check_tag(tag: &str) -> Result<(), String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | ':' | '=' | '-');
    if tag.is_empty() || tag.len() > 64 || !tag.chars().all(legal) || tag.starts_with('-') {
        let shown: String = tag.chars().take(80).collect();
        return Err(format!("a tag has 1 to 64 letters, digits, '.', '_', ':', '=' or '-', not {shown:?}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_recognised_and_nothing_else() {
        let token = token_text(&[0xa7; TOKEN_BYTES]);
        assert_eq!(token.len(), 54);
        let hash = token_hash(&token).unwrap();
        assert_eq!(token_hash(&format!(" {token}\n")), Some(hash));
        assert_ne!(token_hash(&token_text(&[0xa8; TOKEN_BYTES])), Some(hash));
        let longer = format!("{token}0");
        for wrong in ["", "assim-", &token[..53], &longer, &token.to_uppercase(), &token.replace("a7", "zz")]
        {
            assert_eq!(token_hash(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn marks_of_different_kinds_differ() {
        let mark = |kind, text| machine_mark(kind, text);
        let one = mark(MarkKind::Boot, "0bd2fd2c-c4bc-4b1c-8a9e-3ff1f7ff0f0c");
        assert_eq!(one, mark(MarkKind::Boot, "0BD2FD2C-C4BC-4B1C-8A9E-3FF1F7FF0F0C\n"));
        assert_ne!(one, mark(MarkKind::Hardware, "0bd2fd2c-c4bc-4b1c-8a9e-3ff1f7ff0f0c"));
        assert_ne!(one, mark(MarkKind::Boot, "0bd2fd2c-c4bc-4b1c-8a9e-3ff1f7ff0f0d"));
    }

    #[test]
    fn tags_are_short_and_plain() {
        for tag in ["prod", "role:db", "site=berlin", "a.b_c-d", "7"] {
            assert_eq!(check_tag(tag), Ok(()));
        }
        for tag in ["", "-x", "a b", "é", "a\u{1b}", &"x".repeat(65)] {
            assert!(check_tag(tag).is_err(), "{tag:?}");
        }
    }
}
