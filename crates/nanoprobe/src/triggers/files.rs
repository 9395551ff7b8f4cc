//! inotify(7) on the directories of everything that the last runs looked at.

use super::mapping::{Happened, Interest, Mapping};
use inotify::{EventMask, Inotify, WatchDescriptor, WatchMask};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

/// Most directories that are watched; the system's own limit may be lower.
const MAX_WATCHES: usize = 16_384;

/// Shortest and longest pause after events that concern nobody; it doubles while they keep coming.
const PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(200));

/// Without such events for so long, a directory counts as quiet again.
const QUIET: Duration = Duration::from_millis(500);

/// What triggers, in a directory that holds something of interest. Opening and reading are not among it, so our
/// own runs never trigger themselves.
const EVENTS: WatchMask = WatchMask::MODIFY
    .union(WatchMask::ATTRIB)
    .union(WatchMask::CREATE)
    .union(WatchMask::DELETE)
    .union(WatchMask::MOVED_FROM)
    .union(WatchMask::MOVED_TO)
    .union(WatchMask::CLOSE_WRITE)
    .union(WatchMask::DELETE_SELF)
    .union(WatchMask::MOVE_SELF)
    .union(WatchMask::ONLYDIR);

/// In a directory that is watched only because something below it does not exist yet: writers do not matter there.
const EVENTS_ABOVE: WatchMask = WatchMask::CREATE
    .union(WatchMask::MOVED_TO)
    .union(WatchMask::DELETE_SELF)
    .union(WatchMask::MOVE_SELF)
    .union(WatchMask::ONLYDIR);

/// What a look at the events gave.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Noticed {
    /// Instances to run again.
    pub instances: BTreeSet<String>,
    /// The kernel dropped events: anything may have changed.
    pub overflow: bool,
}

/// The watches of this process.
pub struct FileChanges {
    inotify: AsyncFd<Inotify>,
    mapping: Mapping,
    /// One directory may have several names (`/bin` and `/usr/bin`), and has one watch.
    by_descriptor: HashMap<WatchDescriptor, BTreeSet<PathBuf>>,
    by_path: BTreeMap<PathBuf, Watched>,
    /// Directories without a watch, because there is a limit.
    unwatched: usize,
    told: bool,
    /// When events last concerned nobody, and how long the pause after that was.
    ignored: Option<Instant>,
    pause: Duration,
}

#[derive(Debug)]
struct Watched {
    descriptor: WatchDescriptor,
    above_only: bool,
}

impl FileChanges {
    /// Must be called within a tokio runtime.
    // `AsyncFd::new` is deprecated in favour of an unsafe function, because a type could give another descriptor
    // each time it is asked; an `Inotify` owns one and gives that.
    #[allow(deprecated)]
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            inotify: AsyncFd::new(Inotify::init()?)?,
            mapping: Mapping::default(),
            by_descriptor: HashMap::new(),
            by_path: BTreeMap::new(),
            unwatched: 0,
            told: false,
            ignored: None,
            pause: PAUSES.0,
        })
    }

    /// Watches for what the last run of an instance looked at, instead of what earlier runs did.
    ///
    /// Returns the instances for which there is a new watch (not only this one: a directory of another may have
    /// appeared): what happened there between their reading and now was not noticed, so they have to look again.
    pub fn set(&mut self, instance: &str, interest: Interest) -> BTreeSet<String> {
        self.mapping.set(instance, interest);
        // Also when nothing changed: watches that ended by themselves come back here.
        self.update()
    }

    /// Watches no longer for an instance; returns what [`FileChanges::set`] does.
    pub fn remove(&mut self, instance: &str) -> BTreeSet<String> {
        if self.mapping.remove(instance) { self.update() } else { BTreeSet::new() }
    }

    /// Instances whose files are watched.
    pub fn instances(&self) -> impl Iterator<Item = &str> {
        self.mapping.instances()
    }

    /// Number of watches, and of directories that should have one and have none.
    pub fn watches(&self) -> (usize, usize) {
        (self.by_path.len(), self.unwatched)
    }

    /// Waits for events that concern an instance.
    pub async fn next(&mut self) -> io::Result<Noticed> {
        loop {
            let mut ready = self.inotify.readable_mut().await?;
            let mut noticed = Noticed::default();
            let mut gone = Vec::new();
            let mut buffer = [0; 16 * 1024];
            loop {
                match ready.get_inner_mut().read_events(&mut buffer) {
                    Ok(events) => {
                        for event in events {
                            let name = event.name.map(Path::new);
                            take(
                                event.mask,
                                &event.wd,
                                name,
                                &self.by_descriptor,
                                &self.mapping,
                                &mut noticed,
                                &mut gone,
                            );
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            ready.clear_ready();
            for descriptor in gone {
                self.forget(&descriptor);
            }
            if noticed.overflow || !noticed.instances.is_empty() {
                return Ok(noticed);
            }
            // Events that concern nobody come from a busy directory: let the kernel fold the next ones together.
            // The first may also be the start of a change whose end follows at once, so the pause begins short.
            let now = Instant::now();
            let busy = self.ignored.is_some_and(|last| now.duration_since(last) < QUIET);
            self.pause = if busy { (self.pause * 2).min(PAUSES.1) } else { PAUSES.0 };
            self.ignored = Some(now);
            tokio::time::sleep(self.pause).await;
        }
    }

    /// Sets and removes watches as the mapping wants them; returns whom the new ones are for.
    fn update(&mut self) -> BTreeSet<String> {
        let mut wanted: BTreeMap<PathBuf, (bool, Vec<PathBuf>)> = BTreeMap::new();
        for directory in self.mapping.directories() {
            let (existing, above_only) = nearest(directory);
            let entry = wanted.entry(existing).or_insert((true, Vec::new()));
            entry.0 = entry.0 && above_only;
            entry.1.push(directory.to_owned());
        }
        let stale: Vec<PathBuf> =
            self.by_path.keys().filter(|path| !wanted.contains_key(*path)).cloned().collect();
        for path in stale {
            if let Some(watched) = self.by_path.remove(&path)
                && let Some(names) = self.by_descriptor.get_mut(&watched.descriptor)
            {
                names.remove(&path);
                if names.is_empty() {
                    self.by_descriptor.remove(&watched.descriptor);
                    let _ = self.inotify.get_ref().watches().remove(watched.descriptor);
                }
            }
        }
        self.unwatched = 0;
        let mut new = BTreeSet::new();
        for (path, (above_only, directories)) in wanted {
            if self.by_path.get(&path).is_some_and(|watched| watched.above_only == above_only) {
                continue;
            }
            if self.by_path.len() >= MAX_WATCHES {
                self.unwatched += 1;
                continue;
            }
            let mask = if above_only { EVENTS_ABOVE } else { EVENTS };
            match self.inotify.get_ref().watches().add(&path, mask) {
                Ok(descriptor) => {
                    let names = self.by_descriptor.entry(descriptor.clone()).or_default();
                    let by_path = &self.by_path;
                    let more =
                        names.iter().any(|name| by_path.get(name).is_some_and(|other| !other.above_only));
                    if above_only && more {
                        // The last mask wins; another name of this directory needs the larger one.
                        let _ = self.inotify.get_ref().watches().add(&path, EVENTS);
                    }
                    names.insert(path.clone());
                    if !self.by_path.contains_key(&path) {
                        directories.iter().for_each(|directory| new.extend(self.mapping.watching(directory)));
                    }
                    self.by_path.insert(path, Watched { descriptor, above_only });
                }
                Err(error) => {
                    self.unwatched += 1;
                    if !self.told && error.raw_os_error() == Some(rustix::io::Errno::NOSPC.raw_os_error()) {
                        self.told = true;
                        tracing::warn!(
                            watches = self.by_path.len(),
                            "the limit of inotify watches is reached: the rest is polled only; raise fs.inotify.max_user_watches"
                        );
                    } else {
                        tracing::debug!(path = %path.display(), %error, "a directory cannot be watched and is polled");
                    }
                }
            }
        }
        new
    }

    fn forget(&mut self, descriptor: &WatchDescriptor) {
        if let Some(names) = self.by_descriptor.remove(descriptor) {
            names.iter().for_each(|name| {
                self.by_path.remove(name);
            });
            let _ = self.inotify.get_ref().watches().remove(descriptor.clone());
        }
    }
}

fn take(
    mask: EventMask,
    descriptor: &WatchDescriptor,
    name: Option<&Path>,
    by_descriptor: &HashMap<WatchDescriptor, BTreeSet<PathBuf>>,
    mapping: &Mapping,
    noticed: &mut Noticed,
    gone: &mut Vec<WatchDescriptor>,
) {
    if mask.contains(EventMask::Q_OVERFLOW) {
        noticed.overflow = true;
        return;
    }
    // Events of a watch that was removed meanwhile.
    let Some(names) = by_descriptor.get(descriptor) else { return };
    let entries = EventMask::CREATE | EventMask::DELETE | EventMask::MOVED_FROM | EventMask::MOVED_TO;
    let selves = EventMask::DELETE_SELF | EventMask::MOVE_SELF | EventMask::IGNORED | EventMask::UNMOUNT;
    let happened = if mask.intersects(selves) {
        // The name leads elsewhere now; the next run of those concerned sets a new watch.
        gone.push(descriptor.clone());
        Happened::Itself
    } else if mask.intersects(entries) {
        Happened::Appeared
    } else if mask.contains(EventMask::MODIFY) {
        Happened::Written
    } else {
        Happened::Changed
    };
    for directory in names {
        noticed.instances.extend(mapping.affected(directory, name, happened));
    }
}

/// The directory itself, or the nearest one above that exists (`true`).
fn nearest(directory: &Path) -> (PathBuf, bool) {
    for (steps, candidate) in directory.ancestors().enumerate() {
        if candidate.is_dir() {
            return (candidate.to_owned(), steps > 0);
        }
    }
    (PathBuf::from("/"), true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::time::Duration;

    async fn noticed(changes: &mut FileChanges) -> Vec<String> {
        match tokio::time::timeout(Duration::from_secs(5), changes.next()).await {
            Ok(noticed) => noticed.unwrap().instances.into_iter().collect(),
            Err(_) => vec![],
        }
    }

    async fn quiet(changes: &mut FileChanges) -> bool {
        tokio::time::timeout(Duration::from_millis(400), changes.next()).await.is_err()
    }

    impl FileChanges {
        fn set_is_quiet(&mut self, instance: &str, interest: Interest) -> bool {
            self.set(instance, interest).is_empty()
        }
    }

    #[tokio::test]
    async fn a_directory_that_appeared_is_told_to_its_instance_whoever_finds_it() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("a/b");
        let mut changes = FileChanges::new().unwrap();
        assert_eq!(changes.set("x", interest(&[], std::slice::from_ref(&deep))), ["x".to_owned()].into());
        fs::create_dir_all(&deep).unwrap();
        // The event is still unread, and its watch is replaced by this.
        let both = changes.set("y", interest(&[], &[root.path().join("a")]));
        assert_eq!(both, ["x".to_owned(), "y".to_owned()].into());
    }

    fn interest(files: &[PathBuf], directories: &[PathBuf]) -> Interest {
        Interest::new(files.iter().cloned().collect(), directories.iter().cloned().collect())
    }

    #[tokio::test]
    async fn changes_are_noticed_and_reading_is_not() {
        let root = tempfile::tempdir().unwrap();
        let config = root.path().join("etc/sshd_config");
        fs::create_dir(root.path().join("etc")).unwrap();
        fs::write(&config, "a").unwrap();
        let mut changes = FileChanges::new().unwrap();
        assert!(!changes.set_is_quiet("sshd", interest(std::slice::from_ref(&config), &[])));
        assert!(changes.set_is_quiet("sshd", interest(std::slice::from_ref(&config), &[])));
        fs::read(&config).unwrap();
        fs::write(root.path().join("etc/other"), "x").unwrap();
        assert!(quiet(&mut changes).await);
        fs::write(&config, "b").unwrap();
        assert_eq!(noticed(&mut changes).await, ["sshd"]);
        // An editor writes another file and renames it.
        fs::write(root.path().join("etc/new"), "c").unwrap();
        fs::rename(root.path().join("etc/new"), &config).unwrap();
        assert_eq!(noticed(&mut changes).await, ["sshd"]);
        changes.remove("sshd");
        fs::write(&config, "d").unwrap();
        assert!(quiet(&mut changes).await);
        assert_eq!(changes.watches(), (0, 0));
    }

    #[tokio::test]
    async fn what_does_not_exist_yet_is_noticed_when_it_comes() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("a/b/c.conf");
        let mut changes = FileChanges::new().unwrap();
        changes.set("x", interest(std::slice::from_ref(&deep), &[]));
        fs::create_dir(root.path().join("a")).unwrap();
        assert_eq!(noticed(&mut changes).await, ["x"]);
        changes.set("x", interest(std::slice::from_ref(&deep), &[]));
        fs::create_dir(root.path().join("a/b")).unwrap();
        assert_eq!(noticed(&mut changes).await, ["x"]);
        changes.set("x", interest(std::slice::from_ref(&deep), &[]));
        fs::write(&deep, "1").unwrap();
        assert_eq!(noticed(&mut changes).await, ["x"]);
    }

    #[tokio::test]
    async fn a_directory_with_two_names_is_one_watch_for_both() {
        let root = tempfile::tempdir().unwrap();
        let (real, link) = (root.path().join("usr-bin"), root.path().join("bin"));
        fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink("usr-bin", &link).unwrap();
        let mut changes = FileChanges::new().unwrap();
        assert!(!changes.set_is_quiet("a", interest(&[], std::slice::from_ref(&link))));
        assert!(!changes.set_is_quiet("b", interest(&[real.join("sh")], &[])));
        assert!(
            changes.set_is_quiet("a", interest(&[], std::slice::from_ref(&link))),
            "nothing new to watch"
        );
        fs::write(real.join("sh"), "x").unwrap();
        assert_eq!(noticed(&mut changes).await, ["a", "b"]);
        changes.remove("b");
        fs::write(real.join("sh"), "y").unwrap();
        assert_eq!(noticed(&mut changes).await, ["a"]);
    }

    #[tokio::test]
    async fn kernel_settings_are_noticed() {
        // As in the collector: listed, and read through the directory. Reading alone must stay unnoticed.
        let directory = PathBuf::from("/proc/sys/net/ipv4/conf/lo");
        let Ok(text) = fs::read(directory.join("log_martians")) else { return };
        let mut changes = FileChanges::new().unwrap();
        changes.set("x", interest(&[], std::slice::from_ref(&directory)));
        fs::read(directory.join("log_martians")).unwrap();
        assert!(quiet(&mut changes).await);
        // Writing the value that is there already changes nothing but is a write.
        if fs::write(directory.join("log_martians"), text).is_ok() {
            assert_eq!(noticed(&mut changes).await, ["x"]);
        }
    }

    #[tokio::test]
    async fn a_replaced_directory_is_watched_again() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("pam.d");
        fs::create_dir(&directory).unwrap();
        let mut changes = FileChanges::new().unwrap();
        let of = || interest(&[], std::slice::from_ref(&directory));
        changes.set("pam", of());
        fs::rename(&directory, root.path().join("old")).unwrap();
        assert_eq!(noticed(&mut changes).await, ["pam"]);
        changes.set("pam", of());
        fs::create_dir(&directory).unwrap();
        assert_eq!(noticed(&mut changes).await, ["pam"]);
        changes.set("pam", of());
        fs::write(directory.join("login"), "x").unwrap();
        assert_eq!(noticed(&mut changes).await, ["pam"]);
    }
}
