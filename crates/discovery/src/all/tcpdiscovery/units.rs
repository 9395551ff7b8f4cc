//! Which systemd unit a process belongs to, from the name of its control group (systemd.unit(5)).

/// `ssh.service`, `session-3.scope`, `user@1000.service`; `None` where systemd does not manage the process. `text` is that
/// of `/proc/<pid>/cgroup`. Of units within units (those of a user, of a container) the outermost counts, which is the
/// one that the system's manager knows.
pub fn of(text: &str) -> Option<String> {
    // `0::<path>` in the unified hierarchy, `<number>:name=systemd:<path>` before it.
    let lines = || text.lines().take(64);
    let path = |prefix: &str| {
        lines().find_map(|line| {
            line.split_once(':')
                .filter(|(_, rest)| rest.starts_with(prefix))
                .map(|(_, rest)| &rest[prefix.len()..])
        })
    };
    [path("name=systemd:"), path(":")].into_iter().flatten().find_map(of_path)
}

fn of_path(path: &str) -> Option<String> {
    let unit =
        path.split('/').take(64).find(|part| part.ends_with(".service") || part.ends_with(".scope"))?;
    // A name of a control group that would mean something to the kernel begins with an underscore more.
    let unit = unit.strip_prefix('_').unwrap_or(unit);
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '@' | ':' | '\\' | '+');
    (unit.len() <= 255 && unit.chars().all(legal)).then(|| unit.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outermost_unit_counts() {
        for (text, expected) in [
            ("0::/system.slice/ssh.service", Some("ssh.service")),
            (
                "0::/system.slice/system-postgresql.slice/postgresql@15-main.service",
                Some("postgresql@15-main.service"),
            ),
            ("0::/user.slice/user-1000.slice/session-3.scope", Some("session-3.scope")),
            (
                "0::/user.slice/user-1000.slice/user@1000.service/app.slice/app-x.service",
                Some("user@1000.service"),
            ),
            ("0::/system.slice/x.service/inner/y.service", Some("x.service")),
            ("12:pids:/elsewhere\n1:name=systemd:/system.slice/cron.service\n0::/", Some("cron.service")),
            ("0::/init.scope", Some("init.scope")),
            ("0::/system.slice/dev-disk\\x2dx.service", Some("dev-disk\\x2dx.service")),
            ("0::/", None),
            ("0::/docker/0123", None),
            ("0::/system.slice/a b.service", None),
            ("junk", None),
            ("", None),
        ] {
            assert_eq!(of(text).as_deref(), expected, "{text}");
        }
    }
}
