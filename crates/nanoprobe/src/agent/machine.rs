//! Marks of the machine that this is, so that the CMA can tell a copy from a host that moved: hashes of what
//! machine-id(5), the firmware (SMBIOS type 1) and random(4) call themselves. The identifiers themselves never travel.

use discovery::Host;
use model::enrolment::{MarkKind, machine_mark};
use model::message::Machine;

/// One identifier on one line; the longest has 36 characters.
const MAX_BYTES: u64 = 256;

/// Product UUIDs that manufacturers have put into many machines: no mark of any of them.
const SHARED: [&str; 4] = [
    "03000200-0400-0500-0006-000700080009",
    "00020003-0004-0005-0006-000700080009",
    "12345678-1234-5678-90ab-cddeefaabbcc",
    "fefefefe-fefe-fefe-fefe-fefefefefefe",
];

/// The marks of a machine. What cannot be read (the firmware's identifier is root's only) is absent.
pub fn marks(host: &Host) -> Machine {
    let mark = |kind, path: &str, is_one: fn(&str) -> bool| {
        let bytes = host.read_at_most(path, MAX_BYTES).ok()?;
        let text = String::from_utf8(bytes).ok()?.trim().to_ascii_lowercase();
        is_one(&text).then(|| machine_mark(kind, &text))
    };
    Machine {
        installation: mark(MarkKind::Installation, "/etc/machine-id", is_machine_id),
        hardware: mark(MarkKind::Hardware, "/sys/class/dmi/id/product_uuid", is_own_uuid),
        boot: mark(MarkKind::Boot, "/proc/sys/kernel/random/boot_id", is_uuid),
    }
}

/// 32 digits; systemd writes `uninitialized` into images.
fn is_machine_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit()) && !is_one_digit(text)
}

/// As RFC 9562 writes it.
fn is_uuid(text: &str) -> bool {
    let is_legal = |(index, byte): (usize, u8)| match index {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    };
    text.len() == 36 && text.bytes().enumerate().all(is_legal)
}

fn is_own_uuid(text: &str) -> bool {
    is_uuid(text) && !is_one_digit(text) && !SHARED.contains(&text)
}

/// All zeroes, all ones: nobody has set it.
fn is_one_digit(text: &str) -> bool {
    let mut digits = text.bytes().filter(|byte| *byte != b'-');
    let first = digits.next();
    digits.all(|digit| Some(digit) == first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, Machine) {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let machine = marks(&Host::at(folder.path()));
        (folder, machine)
    }

    const ID: (&str, &str) = ("etc/machine-id", "0123456789abcdef0123456789abcdef\n");
    const UUID: &str = "sys/class/dmi/id/product_uuid";
    const BOOT: (&str, &str) = ("proc/sys/kernel/random/boot_id", "5af81a08-7d0c-4c2b-a05c-a93a1a8e8a5c\n");

    #[test]
    fn a_machine_has_three_marks_and_they_are_no_identifiers() {
        let (_folder, machine) = tree(&[ID, (UUID, "4C4C4544-0042-3510-8051-B4C04F4E4D32\n"), BOOT]);
        let marks = [machine.installation, machine.hardware, machine.boot].map(Option::unwrap);
        assert!(marks[0] != marks[1] && marks[1] != marks[2]);
        assert_ne!(marks[0].0[..4], [0x01, 0x23, 0x45, 0x67]);
        let (_folder, other) = tree(&[ID, (UUID, "4c4c4544-0042-3510-8051-b4c04f4e4d32"), BOOT]);
        assert_eq!(machine, other);
    }

    #[test]
    fn what_marks_no_machine_is_left_out() {
        let shared = "03000200-0400-0500-0006-000700080009";
        let zeroes = "00000000-0000-0000-0000-000000000000";
        for uuid in [shared, zeroes, "Not Settable", "", &"f".repeat(36), &"9".repeat(400)] {
            assert_eq!(tree(&[(UUID, uuid)]).1, Machine::default(), "{uuid}");
        }
        for id in ["uninitialized\n", "", "0123", &"0".repeat(32)] {
            assert_eq!(tree(&[("etc/machine-id", id)]).1, Machine::default(), "{id}");
        }
    }

    #[test]
    fn a_running_linux_says_which_boot_it_is() {
        if Path::new("/proc/sys/kernel/random/boot_id").exists() {
            assert!(marks(&Host::running()).boot.is_some());
        }
    }
}
