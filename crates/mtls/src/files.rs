//! Notices when files change on disk.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What a reload compares: which file it is, when its contents or rights last changed, and how long it is.
///
/// The change time and not the modification time, since `cp -p` and backups bring old modification times with them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stamp(Vec<Option<[i128; 4]>>);

impl Stamp {
    pub(crate) fn of<'a>(paths: impl IntoIterator<Item = &'a (impl AsRef<Path> + ?Sized + 'a)>) -> Self {
        let one = |path: &Path| {
            let meta = std::fs::metadata(path).ok()?;
            let changed = i128::from(meta.ctime()) * 1_000_000_000 + i128::from(meta.ctime_nsec());
            Some([meta.dev().into(), meta.ino().into(), changed, meta.size().into()])
        };
        Self(paths.into_iter().map(|p| one(p.as_ref())).collect())
    }
}
