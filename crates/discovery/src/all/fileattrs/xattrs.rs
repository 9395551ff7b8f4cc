//! The values of extended attributes: access control lists, labels, texts.

use serde_json::Value;

/// Longer values of extended attributes are cut.
const MAX_XATTR_TEXT_BYTES: usize = 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AclTag {
    Owner,
    User,
    OwningGroup,
    Group,
    Mask,
    Other,
}

#[derive(Debug, PartialEq, Eq)]
pub struct AclEntry {
    pub tag: AclTag,
    /// Three bits: read 4, write 2, execute 1.
    pub rights: u16,
    /// User or group number; without meaning for the other tags.
    pub id: u32,
}

/// The attribute `system.posix_acl_access` of Linux: version 2, then entries of tag, rights and number, all little
/// endian (include/uapi/linux/posix_acl_xattr.h). `None` when it is anything else.
pub fn parse_acl(bytes: &[u8]) -> Option<Vec<AclEntry>> {
    let (version, entries) = bytes.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*version) != 2 || entries.len() % 8 != 0 {
        return None;
    }
    let (entries, _) = entries.as_chunks::<8>();
    let parse = |[t0, t1, r0, r1, i0, i1, i2, i3]: &[u8; 8]| {
        let tag = match u16::from_le_bytes([*t0, *t1]) {
            0x01 => AclTag::Owner,
            0x02 => AclTag::User,
            0x04 => AclTag::OwningGroup,
            0x08 => AclTag::Group,
            0x10 => AclTag::Mask,
            0x20 => AclTag::Other,
            _ => return None,
        };
        Some(AclEntry {
            tag,
            rights: u16::from_le_bytes([*r0, *r1]),
            id: u32::from_le_bytes([*i0, *i1, *i2, *i3]),
        })
    };
    entries.iter().map(parse).collect()
}

/// `user:role:type:level`; the level has colons of its own.
pub fn selinux(value: &[u8]) -> Value {
    let text = xattr_text(value);
    let parts = ["user", "role", "type", "level"].into_iter().zip(text.splitn(4, ':'));
    Value::Object(parts.map(|(name, part)| (name.to_owned(), part.into())).collect())
}

pub fn xattr_text(value: &[u8]) -> String {
    // Values that are C strings are often stored with their end mark.
    let value = value.strip_suffix(b"\0").unwrap_or(value);
    let cut = if value.len() > MAX_XATTR_TEXT_BYTES {
        format!("... ({} bytes)", value.len())
    } else {
        String::new()
    };
    match std::str::from_utf8(value) {
        Ok(text) if !text.contains('\0') => {
            let end = text.floor_char_boundary(MAX_XATTR_TEXT_BYTES);
            text[..end].to_owned() + &cut
        }
        _ => {
            let kept = &value[..value.len().min(MAX_XATTR_TEXT_BYTES)];
            let digits: String = kept.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("0x{digits}{cut}")
        }
    }
}
