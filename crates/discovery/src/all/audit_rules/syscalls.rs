//! System calls by architecture, as far as rules ask for them (ausyscall(8), the kernel's tables).

/// Name and numbers on x86_64, i386 and aarch64; -1 where there is none.
const NUMBERS: &[(&str, [i32; 3])] = &[
    ("adjtimex", [159, 124, 171]),
    ("chmod", [90, 15, -1]),
    ("chown", [92, 182, -1]),
    ("clock_adjtime", [305, 343, 266]),
    ("clock_settime", [227, 264, 112]),
    ("creat", [85, 8, -1]),
    ("create_module", [174, 127, -1]),
    ("delete_module", [176, 129, 106]),
    ("execve", [59, 11, 221]),
    ("execveat", [322, 358, 281]),
    ("fchmod", [91, 94, 52]),
    ("fchmodat", [268, 306, 53]),
    ("fchown", [93, 95, 55]),
    ("fchownat", [260, 298, 54]),
    ("finit_module", [313, 350, 273]),
    ("fremovexattr", [199, 237, 16]),
    ("fsetxattr", [190, 228, 7]),
    ("ftruncate", [77, 93, 46]),
    ("init_module", [175, 128, 105]),
    ("lchown", [94, 16, -1]),
    ("link", [86, 9, -1]),
    ("linkat", [265, 303, 37]),
    ("lremovexattr", [198, 236, 15]),
    ("lsetxattr", [189, 227, 6]),
    ("mknod", [133, 14, -1]),
    ("mknodat", [259, 297, 33]),
    ("mount", [165, 21, 40]),
    ("open", [2, 5, -1]),
    ("open_by_handle_at", [304, 342, 265]),
    ("openat", [257, 295, 56]),
    ("openat2", [437, 437, 437]),
    ("ptrace", [101, 26, 117]),
    ("query_module", [178, 167, -1]),
    ("removexattr", [197, 235, 14]),
    ("rename", [82, 38, -1]),
    ("renameat", [264, 302, 38]),
    ("renameat2", [316, 353, 276]),
    ("rmdir", [84, 40, -1]),
    ("setdomainname", [171, 121, 162]),
    ("sethostname", [170, 74, 161]),
    ("settimeofday", [164, 79, 170]),
    ("setxattr", [188, 226, 5]),
    ("stime", [-1, 25, -1]),
    ("symlink", [88, 83, -1]),
    ("symlinkat", [266, 304, 36]),
    ("truncate", [76, 92, 45]),
    ("umount", [-1, 22, -1]),
    ("umount2", [166, 52, 39]),
    ("unlink", [87, 10, -1]),
    ("unlinkat", [263, 301, 35]),
];

/// The system calls that every host's document tells about, when its machine has them.
pub const ASKED: &[&str] = &[
    "adjtimex",
    "chmod",
    "chown",
    "clock_settime",
    "create_module",
    "delete_module",
    "fchmod",
    "fchmodat",
    "fchown",
    "fchownat",
    "finit_module",
    "fremovexattr",
    "fsetxattr",
    "init_module",
    "lchown",
    "lremovexattr",
    "lsetxattr",
    "mount",
    "query_module",
    "removexattr",
    "rename",
    "renameat",
    "renameat2",
    "rmdir",
    "setdomainname",
    "sethostname",
    "settimeofday",
    "setxattr",
    "stime",
    "umount",
    "umount2",
    "unlink",
    "unlinkat",
];

/// Those of which the refused calls are asked for.
pub const ASKED_WHEN_REFUSED: &[&str] =
    &["creat", "ftruncate", "open", "open_by_handle_at", "openat", "openat2", "truncate"];

/// A kind of machine, with the system call interfaces that its programs can use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Machine {
    X86_64,
    /// 32-bit programs are not asked for: most servers of this kind cannot run any.
    Aarch64,
    /// 64 bits with a 32-bit interface that may be in use: s390x, ppc64.
    OtherWithBoth,
    /// 64 bits only, with the old calls.
    Ppc64le,
    /// 64 bits only, with the table of new architectures: riscv64, loongarch64.
    Other64,
    /// A 32-bit machine.
    Only32,
}

impl Machine {
    /// By the machine name of uname(2).
    pub fn named(name: &str) -> Machine {
        match name {
            "x86_64" => Machine::X86_64,
            "aarch64" => Machine::Aarch64,
            "s390x" | "ppc64" => Machine::OtherWithBoth,
            "ppc64le" => Machine::Ppc64le,
            "riscv64" | "loongarch64" => Machine::Other64,
            _ => Machine::Only32,
        }
    }

    /// Whether the 64-bit and the 32-bit interface count.
    pub fn interfaces(self) -> (bool, bool) {
        match self {
            Machine::X86_64 | Machine::OtherWithBoth => (true, true),
            Machine::Aarch64 | Machine::Ppc64le | Machine::Other64 => (true, false),
            Machine::Only32 => (false, true),
        }
    }

    /// Whether the 64-bit and the 32-bit interface, as far as they count, have this system call.
    pub fn has(self, name: &str) -> (bool, bool) {
        let number = |column: usize| number(name, column) != Some(-1);
        match self {
            Machine::X86_64 => (number(0), number(1)),
            Machine::Aarch64 => (number(2), false),
            Machine::OtherWithBoth => (name != "stime", true),
            Machine::Ppc64le => (true, false),
            Machine::Other64 => (number(2), false),
            Machine::Only32 => (false, true),
        }
    }

    /// The name of a system call by number, on the 64-bit or the 32-bit interface; `None` for those that no
    /// rule asks for and for machines whose tables are not here.
    pub fn name_of(self, number: i32, is_64_bit: bool) -> Option<&'static str> {
        let column = match (self, is_64_bit) {
            (Machine::X86_64, true) => 0,
            (Machine::X86_64, false) => 1,
            (Machine::Aarch64, true) => 2,
            _ => return None,
        };
        NUMBERS.iter().find(|(_, numbers)| numbers[column] == number && number >= 0).map(|(name, _)| *name)
    }

    /// Whether [`name_of`](Self::name_of) knows this machine.
    pub fn has_numbers(self) -> bool {
        matches!(self, Machine::X86_64 | Machine::Aarch64)
    }

    /// Whether a machine field of a loaded rule (`AUDIT_ARCH_*` of <linux/audit.h>) is this one: its 64-bit
    /// interface, its 32-bit one, or neither.
    pub fn interface_of(self, audit_arch: u32) -> Option<bool> {
        match (self, audit_arch) {
            (Machine::X86_64, 0xc000_003e) | (Machine::Aarch64, 0xc000_00b7) => Some(true),
            (Machine::X86_64, 0x4000_0003) | (Machine::Aarch64, 0x4000_0028) => Some(false),
            _ => None,
        }
    }
}

fn number(name: &str, column: usize) -> Option<i32> {
    NUMBERS.iter().find(|(known, _)| *known == name).map(|(_, numbers)| numbers[column])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_has_a_number() {
        for name in ASKED.iter().chain(ASKED_WHEN_REFUSED) {
            assert!(number(name, 1).is_some_and(|number| number > 0), "{name}");
        }
    }

    #[test]
    fn machines_differ() {
        assert_eq!(Machine::named("x86_64").has("stime"), (false, true));
        assert_eq!(Machine::named("x86_64").has("chmod"), (true, true));
        assert_eq!(Machine::named("aarch64").has("chmod"), (false, false));
        assert_eq!(Machine::named("aarch64").has("fchmodat"), (true, false));
        assert_eq!(Machine::named("ppc64le").has("chmod"), (true, false));
        assert_eq!(Machine::named("riscv64").has("chmod"), (false, false));
        assert_eq!(Machine::named("i686").has("stime"), (false, true));
        assert_eq!(Machine::X86_64.name_of(90, true), Some("chmod"));
        assert_eq!(Machine::X86_64.name_of(15, false), Some("chmod"));
        assert_eq!(Machine::X86_64.name_of(15, true), None);
        assert_eq!(Machine::Aarch64.name_of(-1, true), None);
    }
}
