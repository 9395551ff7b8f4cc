//! Room and inodes where the state is, and whether it can be written at all.

use super::{Check, Look, Topic};
use rustix::fs::StatVfsMountFlags;
use std::path::Path;

const NAME: &str = "disk";

pub static TOPIC: Topic = Topic { name: NAME, check };

/// Free space below which the database may soon not grow, in bytes, and files that may still be made.
const LOW_SPACE_BYTES: u64 = 200 * 1024 * 1024;
const LOW_INODES: u64 = 1000;

/// What a file system says of itself.
struct Space {
    free_bytes: u64,
    /// 0 of 0 where files are not counted.
    inodes: (u64, u64),
    is_read_only: bool,
}

fn check(look: &Look) -> Vec<Check> {
    let state = look.paths().state();
    let Ok(status) = rustix::fs::statvfs(&state) else {
        let text = format!("{} is not there: no CMA or nanoprobe has run here", state.display());
        return vec![Check::bad(NAME, text)];
    };
    let space = Space {
        free_bytes: status.f_bavail.saturating_mul(status.f_frsize),
        inodes: (status.f_favail, status.f_files),
        is_read_only: status.f_flag.contains(StatVfsMountFlags::RDONLY),
    };
    judge(&state, &space)
}

fn judge(state: &Path, space: &Space) -> Vec<Check> {
    let shown = format!("{} MB free for {}", space.free_bytes / 1_048_576, state.display());
    if space.is_read_only {
        let text = format!("{} is on a read-only file system: remount it", state.display());
        return vec![
            Check::bad(NAME, text)
                .fix(format!("mount -o remount,rw $(findmnt -no TARGET -T {})", state.display())),
        ];
    }
    let mut checks = vec![if space.free_bytes < LOW_SPACE_BYTES {
        Check::bad(NAME, format!("only {shown}: make room, changes are kept on the hosts until then")).fix(
            format!("du -xh --max-depth=2 $(findmnt -no TARGET -T {}) | sort -h | tail", state.display()),
        )
    } else {
        Check::good(NAME, shown)
    }];
    let (free, all) = space.inodes;
    if all > 0 && free < LOW_INODES {
        let text = format!("only {free} more files can be made on the file system of {}", state.display());
        checks.push(Check::bad(NAME, text).fix(format!("df -i {}", state.display())));
    }
    checks
}

#[cfg(test)]
mod tests {
    use super::super::look::Rig;
    use super::*;

    const WELL: Space = Space { free_bytes: 1 << 40, inodes: (10_000, 20_000), is_read_only: false };

    #[test]
    fn what_is_short_is_named() {
        let bad = |space: Space| -> Vec<String> {
            judge(Path::new("/s"), &space)
                .into_iter()
                .filter(Check::is_bad)
                .map(|c| c.text + &c.fix)
                .collect()
        };
        assert_eq!(bad(WELL), Vec::<String>::new());
        assert!(bad(Space { free_bytes: 5 << 20, ..WELL })[0].contains("only 5 MB"));
        assert!(bad(Space { is_read_only: true, ..WELL })[0].contains("remount,rw"));
        assert!(bad(Space { inodes: (3, 20_000), ..WELL })[0].contains("only 3 more files"));
        assert_eq!(bad(Space { inodes: (0, 0), ..WELL }), Vec::<String>::new(), "btrfs does not count");
        assert!(check(&Rig::new().look())[0].text.contains("has run here"));
    }
}
