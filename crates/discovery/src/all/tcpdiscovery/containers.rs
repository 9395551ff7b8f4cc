//! Which container a process belongs to, from the name of its control group (cgroups(7)).

/// `docker/<id>`, `podman/<id>`, `kubernetes/<id>`, `lxc/<name>`, `nspawn/<name>`; `None` for a process of the host.
/// `text` is that of `/proc/<pid>/cgroup`.
pub fn of(text: &str) -> Option<String> {
    // `<number>:<controllers>:<path>`, one line for each hierarchy; the container is the same in all.
    text.lines().take(64).filter_map(|line| line.splitn(3, ':').nth(2)).find_map(of_path)
}

fn of_path(path: &str) -> Option<String> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).take(64).collect();
    let is_kubernetes = parts.iter().any(|part| part.starts_with("kubepods"));
    // The innermost one counts: a container may run others.
    for (at, part) in parts.iter().enumerate().rev() {
        let before = at.checked_sub(1).map_or("", |before| parts[before]);
        let unit = part.strip_suffix(".scope").or_else(|| part.strip_suffix(".service")).unwrap_or(part);
        let found = match unit.rsplit_once('-') {
            // The monitor beside a container of podman is no part of it.
            Some((prefix, id)) if is_id(id) && !prefix.ends_with("conmon") => match prefix {
                _ if is_kubernetes => Some(("kubernetes", id)),
                "docker" => Some(("docker", id)),
                "libpod" => Some(("podman", id)),
                "crio" | "cri-containerd" => Some(("kubernetes", id)),
                "nerdctl" | "containerd" => Some(("containerd", id)),
                _ => None,
            },
            _ if is_id(unit) && is_kubernetes => Some(("kubernetes", unit)),
            _ if is_id(unit) && before == "docker" => Some(("docker", unit)),
            _ if is_id(unit) && before.starts_with("libpod") => Some(("podman", unit)),
            _ if before == "lxc" && !unit.is_empty() => Some(("lxc", unit)),
            _ => None,
        };
        let named = |prefix: &str| unit.strip_prefix(prefix).filter(|name| !name.is_empty());
        let found = found
            .or_else(|| named("lxc.payload.").map(|name| ("lxc", name)))
            .or_else(|| named("systemd-nspawn@").map(|name| ("nspawn", name)))
            .or_else(|| named("machine-").filter(|_| before == "machine.slice").map(|name| ("nspawn", name)));
        if let Some((kind, name)) = found {
            return Some(format!("{kind}/{}", model::text::shortened(&model::text::printable(name), 128)));
        }
    }
    None
}

/// As container engines make them: 64 hexadecimal digits (32 for some).
fn is_id(text: &str) -> bool {
    matches!(text.len(), 32 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_of_every_engine() {
        let id = "0123456789abcdef".repeat(4);
        for (path, expected) in [
            (format!("0::/system.slice/docker-{id}.scope"), Some(format!("docker/{id}"))),
            (format!("12:pids:/docker/{id}\n0::/"), Some(format!("docker/{id}"))),
            (format!("0::/docker/{id}/init.scope"), Some(format!("docker/{id}"))),
            (format!("0::/machine.slice/libpod-{id}.scope/container"), Some(format!("podman/{id}"))),
            (format!("0::/machine.slice/libpod-conmon-{id}.scope"), None),
            (
                format!(
                    "0::/kubepods.slice/kubepods-besteffort.slice/kubepods-pod1.slice/cri-containerd-{id}.scope"
                ),
                Some(format!("kubernetes/{id}")),
            ),
            (format!("0::/kubepods/burstable/pod12/{id}"), Some(format!("kubernetes/{id}"))),
            ("0::/lxc.payload.web/system.slice/nginx.service".into(), Some("lxc/web".into())),
            ("0::/lxc.monitor.web".into(), None),
            ("3:cpu:/lxc/old".into(), Some("lxc/old".into())),
            ("0::/machine.slice/systemd-nspawn@img.service/payload".into(), Some("nspawn/img".into())),
            ("0::/system.slice/ssh.service".into(), None),
            ("0::/".into(), None),
            ("junk".into(), None),
            (format!("0::/docker/{}", "z".repeat(64)), None),
        ] {
            assert_eq!(of(&path), expected, "{path}");
        }
    }
}
