//! The machine's own file system.
//!
//! Chosen by `ServerComponents::system`. Invariant: a name is durable once `sync` returns: the
//! file's bytes, the folder's entry for it, and the entries of the folders above, up to the served
//! directory.

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use futures::future::BoxFuture;
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;

use super::{Access, Directories, Directory};

pub(super) struct SystemDirectories;

impl Directories for SystemDirectories {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn Directory>> {
        let lock = match access {
            Access::Read => None,
            Access::Serve => Some(lock(path)?),
        };
        let root = path.canonicalize()?;
        let objects = LocalFileSystem::new_with_prefix(&root).map_err(io::Error::other)?;
        Ok(Arc::new(SystemDirectory {
            files: Arc::new(OpenFiles {
                root,
                growing: Mutex::default(),
                rooted: Mutex::default(),
            }),
            objects: Arc::new(objects),
            _lock: lock,
        }))
    }
}

/// Takes the directory for this process; the operating system gives it back when the process ends,
/// however it ends.
fn lock(path: &Path) -> io::Result<File> {
    std::fs::create_dir_all(path)?;
    let file =
        OpenOptions::new().create(true).truncate(false).write(true).open(path.join("lock"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

struct SystemDirectory {
    files: Arc<OpenFiles>,
    objects: Arc<LocalFileSystem>,
    _lock: Option<File>,
}

impl SystemDirectory {
    /// Runs a blocking call apart from the runtime's workers; a dropped future does not cut it
    /// short.
    fn blocking<T: Send + 'static>(
        &self,
        name: &str,
        call: impl FnOnce(&OpenFiles, &str) -> io::Result<T> + Send + 'static,
    ) -> BoxFuture<'_, io::Result<T>> {
        let files = Arc::clone(&self.files);
        let name = name.to_owned();
        Box::pin(async move {
            tokio::task::spawn_blocking(move || call(&files, &name))
                .await
                .map_err(io::Error::other)?
        })
    }
}

impl Directory for SystemDirectory {
    fn objects(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.objects) as Arc<dyn ObjectStore>
    }

    fn append(&self, name: &str, bytes: Bytes) -> BoxFuture<'_, io::Result<u64>> {
        self.blocking(name, move |files, name| files.append(name, &bytes))
    }

    fn read(&self, name: &str, offset: u64, length: usize) -> BoxFuture<'_, io::Result<Bytes>> {
        self.blocking(name, move |files, name| {
            let mut bytes = vec![0; length];
            File::open(files.root.join(name))?.read_exact_at(&mut bytes, offset)?;
            Ok(Bytes::from(bytes))
        })
    }

    fn length(&self, name: &str) -> BoxFuture<'_, io::Result<u64>> {
        self.blocking(name, |files, name| Ok(files.root.join(name).metadata()?.len()))
    }

    fn list(&self, folder: &str) -> BoxFuture<'_, io::Result<Vec<String>>> {
        self.blocking(folder, |files, folder| files.list(folder))
    }

    fn truncate(&self, name: &str, length: u64) -> BoxFuture<'_, io::Result<()>> {
        self.blocking(name, move |files, name| {
            OpenOptions::new().write(true).open(files.root.join(name))?.set_len(length)?;
            files.grown(name, Some(length));
            Ok(())
        })
    }

    fn sync(&self, name: &str) -> BoxFuture<'_, io::Result<()>> {
        self.blocking(name, |files, name| files.sync(name))
    }

    fn remove(&self, name: &str) -> BoxFuture<'_, io::Result<()>> {
        self.blocking(name, |files, name| {
            files.grown(name, None);
            match std::fs::remove_file(files.root.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            }
        })
    }

    fn discard_unfinished(&self, folder: &str) -> BoxFuture<'_, io::Result<()>> {
        self.blocking(folder, |files, folder| discard_unfinished(&files.root.join(folder)))
    }
}

fn discard_unfinished(folder: &Path) -> io::Result<()> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            discard_unfinished(&entry.path())?;
        } else if entry.file_name().to_str().is_some_and(is_unfinished) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// `object_store` writes a file under its name, `#` and a number, and renames it when it is whole.
fn is_unfinished(name: &str) -> bool {
    let number = name.rsplit_once('#').map(|(_, number)| number);
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

/// The files that are being appended to, each with its length.
struct OpenFiles {
    root: PathBuf,
    growing: Mutex<HashMap<String, (File, u64)>>,
    /// Folders whose own names are durable.
    rooted: Mutex<HashSet<PathBuf>>,
}

impl OpenFiles {
    fn append(&self, name: &str, bytes: &[u8]) -> io::Result<u64> {
        // One append at a time: the offset that is answered must be the one that was written to.
        let mut growing = self.growing.lock().expect("no append panics");
        if !growing.contains_key(name) {
            let path = self.root.join(name);
            std::fs::create_dir_all(path.parent().unwrap_or(&self.root))?;
            let file = OpenOptions::new().create(true).append(true).open(path)?;
            let length = file.metadata()?.len();
            growing.insert(name.to_owned(), (file, length));
        }
        let (file, length) = growing.get_mut(name).expect("it was just inserted");
        file.write_all(bytes)?;
        let offset = *length;
        *length += bytes.len() as u64;
        Ok(offset)
    }

    /// Takes note of a new length, or that the file has ended.
    fn grown(&self, name: &str, length: Option<u64>) {
        let mut growing = self.growing.lock().expect("no append panics");
        match (length, growing.get_mut(name)) {
            (Some(length), Some(file)) => file.1 = length,
            _ => drop(growing.remove(name)),
        }
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let entries = match std::fs::read_dir(self.root.join(folder)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut names = Vec::new();
        for entry in entries {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        let path = self.root.join(name);
        File::open(&path)?.sync_all()?;
        let folder = path.parent().unwrap_or(&self.root);
        File::open(folder)?.sync_all()?;
        if self.rooted().contains(folder) {
            return Ok(());
        }
        // The folders above only have to be synced once: they learn of no new name after that.
        for above in folder.ancestors().skip(1).take_while(|at| at.starts_with(&self.root)) {
            File::open(above)?.sync_all()?;
        }
        self.rooted().insert(folder.to_owned());
        Ok(())
    }

    fn rooted(&self) -> MutexGuard<'_, HashSet<PathBuf>> {
        self.rooted.lock().expect("no holder panics")
    }
}

/// Runs a future to its end on a thread and runtime of its own, for callers that cannot wait
/// otherwise.
#[expect(clippy::disallowed_methods, reason = "threads are started here")]
pub(crate) fn run_apart<T: Send + 'static>(
    future: impl Future<Output = T> + Send + 'static,
) -> io::Result<T> {
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(runtime.block_on(future))
    });
    thread.join().map_err(|_| io::Error::other("the reading thread panicked"))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_only_begun_is_discarded_and_nothing_else() {
        let dir = tempfile::tempdir().expect("a directory");
        let folder = dir.path().join("data/t/day=a");
        std::fs::create_dir_all(&folder).expect("created");
        for name in ["s.parquet", "s.parquet#1", "s#", "s#x", "t.parquet#23"] {
            std::fs::write(folder.join(name), "x").expect("written");
        }
        std::fs::write(dir.path().join("notes#1"), "x").expect("written");
        let directory = SystemDirectories.open(dir.path(), Access::Serve).expect("opened");
        directory.discard_unfinished("data").await.expect("discarded");
        directory.discard_unfinished("nothing").await.expect("there is none");
        let left = directory.list("data/t/day=a").await.expect("listed");
        assert_eq!(left, ["s#", "s#x", "s.parquet"]);
        assert!(dir.path().join("notes#1").exists(), "it is of another folder");
    }
}
