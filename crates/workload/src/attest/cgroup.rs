//! What the path of a control group says of whoever made it.
//!
//! Only what stands above the first unit counts. Below it, whoever was given the group (a user's own service manager, a container)
//! makes groups of any name.

/// What is known by the place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place<'a> {
    /// The unit of the system's service manager.
    pub(super) unit: Option<&'a str>,
    /// The container's id.
    pub(super) container: Option<&'a str>,
}

/// What service managers call what they run.
const UNITS: [&str; 4] = [".service", ".scope", ".socket", ".mount"];

/// What container run times put before an id.
const RUNTIMES: [&str; 5] = ["docker-", "cri-containerd-", "crio-", "libpod-", "nerdctl-"];

impl<'a> Place<'a> {
    /// Reads a path such as `/system.slice/agent.service`.
    pub(super) fn of(path: &'a str) -> Self {
        let mut found = Self { unit: None, container: None };
        for part in path.split('/').filter(|part| !part.is_empty()) {
            if let Some(id) = container(part) {
                // With systemd a container's group is a unit too.
                found.container = Some(id);
                found.unit = is_unit(part).then_some(part);
                break;
            }
            if is_unit(part) {
                found.unit = Some(part);
                break;
            }
            // Slices, and the groups that run times make without systemd: `docker`, `kubepods`, `burstable`, `pod...`.
            let is_above =
                part.ends_with(".slice") || ["docker", "kubepods", "burstable", "besteffort"].contains(&part);
            if !is_above && !part.starts_with("pod") {
                break;
            }
        }
        found
    }
}

fn is_unit(part: &str) -> bool {
    UNITS.iter().any(|kind| part.len() > kind.len() && part.ends_with(kind))
}

/// The id in `docker-ID.scope`, `cri-containerd-ID.scope` or `ID`: 64 hexadecimal digits.
fn container(part: &str) -> Option<&str> {
    let part = part.strip_suffix(".scope").unwrap_or(part);
    let part = RUNTIMES.iter().find_map(|prefix| part.strip_prefix(prefix)).unwrap_or(part);
    let is_id = part.len() == 64 && part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    is_id.then_some(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_and_containers_are_found_where_nobody_else_makes_them() {
        let id = "0123456789abcdef".repeat(4);
        let pod = "pod0f3c8a7e_1111_2222_3333_444455556666";
        let of = |path: &str| {
            let place = Place::of(path);
            (place.unit.map(str::to_owned), place.container.map(str::to_owned))
        };
        let text = |text: &str| Some(text.to_owned());
        for (path, unit, container) in [
            ("/system.slice/agent.service", text("agent.service"), None),
            ("/system.slice/system-agent.slice/agent@1.service", text("agent@1.service"), None),
            ("/user.slice/user-1000.slice/session-2.scope", text("session-2.scope"), None),
            // A user's own manager makes what it likes below its unit.
            ("/user.slice/user-1000.slice/user@1000.service/app.slice/agent.service", text("user@1000.service"), None),
            (
                &*format!("/user.slice/user-1000.slice/user@1000.service/docker-{id}.scope"),
                text("user@1000.service"),
                None,
            ),
            (&*format!("/system.slice/docker-{id}.scope"), text(&format!("docker-{id}.scope")), text(&id)),
            (
                &*format!("/system.slice/docker-{id}.scope/agent.service"),
                text(&format!("docker-{id}.scope")),
                text(&id),
            ),
            (&*format!("/docker/{id}"), None, text(&id)),
            (&*format!("/kubepods/burstable/{pod}/{id}"), None, text(&id)),
            (
                &*format!(
                    "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-{pod}.slice/cri-containerd-{id}.scope"
                ),
                text(&format!("cri-containerd-{id}.scope")),
                text(&id),
            ),
            (&*format!("/anything/{id}"), None, None),
            (&*format!("/{}", &id[1..]), None, None),
            ("/", None, None),
            ("/.service", None, None),
        ] {
            assert_eq!(of(path), (unit, container), "{path}");
        }
    }
}
