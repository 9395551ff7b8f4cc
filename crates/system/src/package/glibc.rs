//! Which glibc a program needs: the highest version among the symbols that it takes from it.

use super::checked;
use std::fmt;
use std::path::Path;
use std::process::Command;
use std::str::FromStr;

/// Major and minor: 2.17.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Glibc(pub u32, pub u32);

impl fmt::Display for Glibc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

impl FromStr for Glibc {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no version of glibc such as 2.17");
        let (major, minor) = text.split_once('.').ok_or_else(wrong)?;
        // A third number (2.2.5) makes no difference here.
        let minor = minor.split('.').next().unwrap_or(minor);
        Ok(Glibc(major.parse().map_err(|_| wrong())?, minor.parse().map_err(|_| wrong())?))
    }
}

/// What a program asks of the system it runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// `None`: linked statically.
    pub glibc: Option<Glibc>,
    pub libgcc: bool,
}

/// Of several programs together. Reads them with `objdump`.
pub fn needs<'a>(programs: impl IntoIterator<Item = &'a Path>) -> Result<Needs, String> {
    let mut all = Needs { glibc: None, libgcc: false };
    for program in programs {
        let text = checked(Command::new("objdump").arg("-p").arg(program))?;
        let one = parse(&String::from_utf8_lossy(&text));
        all = Needs { glibc: all.glibc.max(one.glibc), libgcc: all.libgcc || one.libgcc };
    }
    Ok(all)
}

/// Reads the private headers as `objdump -p` prints them: lines `0x.. 0x.. 00 GLIBC_2.34` and `NEEDED libgcc_s.so.1`.
fn parse(headers: &str) -> Needs {
    let words = || headers.lines().filter_map(|line| line.split_whitespace().last());
    Needs {
        glibc: words().filter_map(|word| word.strip_prefix("GLIBC_")?.parse().ok()).max(),
        libgcc: headers.lines().any(|line| line.split_whitespace().eq(["NEEDED", "libgcc_s.so.1"])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_version_counts() {
        let text = "Dynamic Section:\n  NEEDED               libgcc_s.so.1\n\nVersion References:\n  required from libc.so.6:\n    \
                    0x09691a75 0x00 05 GLIBC_2.2.5\n    0x0696911b 0x00 04 GLIBC_2.10\n    0x06969194 0x00 03 GLIBC_2.4\n    \
                    0x0 0x00 02 GLIBC_PRIVATE\n";
        assert_eq!(parse(text), Needs { glibc: Some(Glibc(2, 10)), libgcc: true });
        assert_eq!(parse("Program Header:\n"), Needs { glibc: None, libgcc: false });
        assert!(Glibc(2, 9) < Glibc(2, 17) && Glibc(2, 36) < Glibc(3, 0));
        assert!("2".parse::<Glibc>().is_err() && "x.y".parse::<Glibc>().is_err());
        assert_eq!("2.2.5".parse(), Ok(Glibc(2, 2)));
    }
}
