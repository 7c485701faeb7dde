//! Which unit or container a process belongs to, by its control group (cgroups(7)).

/// Who started a process, as its control group tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// The unit of systemd, as `nginx.service`.
    pub unit: Option<String>,
    /// The container: its number, the first twelve digits of it, or its name.
    pub container: Option<String>,
}

/// Digits of a container's number that are shown.
const SHOWN: usize = 12;
/// What stands before the number of a container in the names that managers give to groups.
const PREFIXES: [&str; 6] = [
    "docker-",
    "libpod-",
    "cri-containerd-",
    "crio-",
    "lxc.payload.",
    "machine-",
];

/// Reads `/proc/PID/cgroup`.
#[must_use]
pub fn group(text: &str) -> Group {
    let mut found = Group::default();
    for line in text.lines() {
        // number:controllers:path
        let Some(path) = line.splitn(3, ':').nth(2) else {
            continue;
        };
        let mut before = "";
        for part in path.split('/').filter(|part| !part.is_empty()) {
            if let Some(container) = container(part, before) {
                found.container = Some(container);
            } else if found.container.is_none() && is_unit(part) {
                // What a user's own manager has started stands below that.
                found.unit = Some(match found.unit.take() {
                    Some(above) if above.starts_with("user@") => format!("{above}/{part}"),
                    _ => part.to_owned(),
                });
            }
            before = part;
        }
    }
    found
}

fn is_unit(part: &str) -> bool {
    [".service", ".socket"]
        .iter()
        .any(|kind| part.ends_with(kind))
}

fn container(part: &str, before: &str) -> Option<String> {
    let name = part.strip_suffix(".scope").unwrap_or(part);
    let prefix = PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix));
    let bare = prefix.unwrap_or(name);
    if bare.len() == 64 && bare.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Some(bare.chars().take(SHOWN).collect());
    }
    // Those that have a name of their own.
    let is_named = prefix.is_some() && (name.starts_with("lxc.") || name.starts_with("machine-"));
    (is_named || before == "lxc").then(|| bare.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_and_containers_are_found() {
        let id = "4f5c".repeat(16);
        let short = &id[..12];
        for (text, unit, container) in [
            (
                "0::/system.slice/nginx.service\n".to_owned(),
                Some("nginx.service"),
                None,
            ),
            (
                "0::/user.slice/user-1000.slice/user@1000.service/app.slice/x.scope\n".to_owned(),
                Some("user@1000.service"),
                None,
            ),
            (
                "0::/user.slice/user-1000.slice/user@1000.service/app.slice/web.service\n"
                    .to_owned(),
                Some("user@1000.service/web.service"),
                None,
            ),
            (
                format!("0::/system.slice/docker-{id}.scope\n"),
                None,
                Some(short),
            ),
            (
                format!("12:cpu,cpuacct:/docker/{id}\n0::/docker/{id}\n"),
                None,
                Some(short),
            ),
            (
                format!(
                    "0::/kubepods.slice/kubepods-burstable.slice/pod1.slice/cri-containerd-{id}.scope"
                ),
                None,
                Some(short),
            ),
            (
                format!("0::/machine.slice/libpod-{id}.scope/container"),
                None,
                Some(short),
            ),
            (
                "0::/lxc.payload.web/system.slice/ssh.service".to_owned(),
                None,
                Some("web"),
            ),
            ("4:memory:/lxc/web".to_owned(), None, Some("web")),
            ("0::/".to_owned(), None, None),
            ("nonsense\n::\n1:2".to_owned(), None, None),
            (String::new(), None, None),
        ] {
            let found = group(&text);
            assert_eq!(
                (found.unit.as_deref(), found.container.as_deref()),
                (unit, container),
                "{text}"
            );
        }
    }
}
