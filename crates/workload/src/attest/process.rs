//! What `/proc` says of a process.

use std::fs::{File, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::Unseen;

/// A process, and the program that it runs: another exec makes another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProcessKey {
    /// Its number here.
    pub pid: i32,
    /// When it was started, in ticks since the machine was: two processes of one number differ in it.
    pub start: u64,
    /// Device and number of the file that it runs; `None`: we may not see it.
    pub exe: Option<(u64, u64)>,
}

/// What was seen.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) key: ProcessKey,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Its group, and its supplementary ones.
    pub(super) gids: Vec<u32>,
    /// The file that it runs.
    pub(super) exe: Option<(File, Metadata)>,
    /// That file's path, where it is the same file for us.
    pub(super) path: Option<String>,
    /// Its control group (v2), from the root of the hierarchy that we see.
    pub(super) cgroup: Option<String>,
}

/// More than this nothing in these files is.
const LARGEST: u64 = 64 << 10;

/// Reads what there is. Whoever calls makes sure that the process lived before and after.
pub(super) fn see(pid: i32) -> Result<Seen, Unseen> {
    let root = PathBuf::from(format!("/proc/{pid}"));
    let stat = read(&root.join("stat")).ok_or(Unseen::Gone)?;
    let start = start_of(&stat).ok_or(Unseen::NotSeen)?;
    let status = read(&root.join("status")).ok_or(Unseen::Gone)?;
    let (Some(uid), Some(gid)) = (effective(&status, "Uid:"), effective(&status, "Gid:")) else {
        return Err(Unseen::NotSeen);
    };
    let mut gids = groups(&status);
    gids.push(gid);
    let exe = File::open(root.join("exe")).and_then(|exe| exe.metadata().map(|found| (exe, found))).ok();
    let file = exe.as_ref().map(|(_, found)| (found.dev(), found.ino()));
    let path = file.and_then(|file| path_of(&root.join("exe"), file));
    let cgroup = read(&root.join("cgroup")).and_then(|text| group_of(&text).map(str::to_owned));
    let key = ProcessKey { pid, start, exe: file };
    Ok(Seen { key, uid, gid, gids, exe, path, cgroup })
}

/// Whose process it is: what the kernel says by itself, and no file system of anybody's.
pub(super) fn user_of(pid: i32) -> Option<u32> {
    effective(&read(&PathBuf::from(format!("/proc/{pid}/status")))?, "Uid:")
}

/// Reads a file of `/proc`; what is not text is lost, which no number is.
fn read(path: &Path) -> Option<String> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(LARGEST).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The 22nd field (proc_pid_stat(5)). The second is a name in parentheses that may hold any character.
fn start_of(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// The second of the four ids (proc_pid_status(5)): the effective one, which SO_PEERCRED gives too.
fn effective(status: &str, which: &str) -> Option<u32> {
    status.lines().find_map(|line| line.strip_prefix(which))?.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// The supplementary groups.
fn groups(status: &str) -> Vec<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap_or_default();
    line.split_ascii_whitespace().filter_map(|gid| gid.parse().ok()).collect()
}

/// The path of the file that a process runs, if that path leads to this very file here: in a container, or in a mount namespace that
/// anybody can make, it may lead to another one there.
fn path_of(link: &Path, file: (u64, u64)) -> Option<String> {
    let target = std::fs::read_link(link).ok()?;
    let here = std::fs::metadata(&target).ok()?;
    let path = std::str::from_utf8(target.as_os_str().as_bytes()).ok()?;
    ((here.dev(), here.ino()) == file && path.starts_with('/')).then(|| path.to_owned())
}

/// The group of the one hierarchy of version 2 (cgroups(7)). One outside of ours would begin with `/..`.
fn group_of(text: &str) -> Option<&str> {
    let group = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    let plain = group.starts_with('/') && !group.split('/').any(|part| part == "..") && !group.ends_with(" (deleted)");
    plain.then_some(group)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_name_cannot_shift_the_fields() {
        let fields = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20";
        assert_eq!(start_of(&format!("7 (sh) {fields}")), Some(4711));
        assert_eq!(
            start_of(&format!("7 (a) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 1 (b) {fields}")),
            Some(4711)
        );
        for bad in ["", "7 (sh", "7 (sh) S 1 2", "7 (sh) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 x"] {
            assert_eq!(start_of(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_effective_ids_count() {
        let status = "Name:\tUid:\t9\nUid:\t1000\t0\t0\t0\nGid:\t5\t6\t7\t8\n";
        assert_eq!((effective(status, "Uid:"), effective(status, "Gid:")), (Some(0), Some(6)));
        assert_eq!(effective("Uid:\t1", "Uid:"), None);
        assert_eq!(groups("Uid:\t1\nGroups:\t4 24 1000 \n"), [4, 24, 1000]);
        assert_eq!(groups("Groups:\t\n"), Vec::<u32>::new());
    }

    #[test]
    fn a_group_is_one_of_version_2_that_we_see() {
        let text = "12:cpu:/x\n1:name=systemd:/y\n0::/system.slice/a.service\n";
        assert_eq!(group_of(text), Some("/system.slice/a.service"));
        assert_eq!(group_of("0::/"), Some("/"));
        for bad in ["1:cpu:/", "0::/../b", "0::x", "0::/a (deleted)", ""] {
            assert_eq!(group_of(bad), None, "{bad}");
        }
    }

    #[test]
    fn we_see_ourselves() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let seen = see(pid).unwrap();
        let exe = std::env::current_exe().unwrap();
        assert_eq!(seen.path.as_deref(), exe.to_str());
        let found = std::fs::metadata(&exe).unwrap();
        assert_eq!(seen.key, ProcessKey { pid, start: seen.key.start, exe: Some((found.dev(), found.ino())) });
        assert!(seen.key.start > 0);
        assert_eq!(path_of(Path::new("/proc/self/exe"), (1, 1)), None, "another file at that path proves nothing");
    }
}
