//! Compiled code that is kept for a user, so that only the first start of a version compiles.
//!
//! Asked by `plugin.rs` before it compiles. The engine cannot tell code that it has compiled from
//! code that somebody made up, and would run both outside of the sandbox: so this is the one file
//! with an `unsafe` call. Invariant: only bytes are loaded that this user alone could have written,
//! in a file whose digest they have, for this component and this engine; whatever is wrong with
//! them, the component is compiled anew.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::{fs, io};

use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

/// A directory of compiled code that only its owner may write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompiledCode {
    directory: PathBuf,
}

impl CompiledCode {
    /// Within a directory of this user, which is made if it is missing. One that others may write
    /// is not used, and neither is a link.
    pub fn within(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    /// The compiled form of a component with this digest, if it was kept.
    pub(crate) fn load(&self, engine: &Engine, digest: &str) -> Option<Component> {
        let path = self.path(engine, digest);
        match read(&self.directory, &path) {
            Ok(compiled) => {
                // SAFETY: the bytes are those that `keep` wrote: their digest stands before them,
                // and the file and its directory belong to this user, and nobody else may write
                // them. The engine checks its version and its settings itself.
                #[allow(unsafe_code, reason = "wasmtime cannot know who wrote compiled code")]
                let loaded = unsafe { Component::deserialize(engine, compiled) };
                let warn = |error| tracing::warn!(%error, "kept code does not load: compiling");
                loaded.map_err(warn).ok()
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                let path = path.display();
                tracing::warn!(%error, %path, "kept code is not used: compiling");
                None
            }
        }
    }

    /// Keeps the compiled form of a component with this digest. That it cannot is no failure.
    pub(crate) fn keep(&self, engine: &Engine, digest: &str, component: &Component) {
        let kept = component.serialize().map_err(io::Error::other).and_then(|compiled| {
            prepare(&self.directory)?;
            write(&self.directory, &self.path(engine, digest), &compiled)?;
            forget_oldest(&self.directory)
        });
        if let Err(error) = kept {
            let directory = self.directory.display();
            tracing::warn!(%error, %directory, "compiled code is not kept");
        }
    }

    /// One file for each component, engine version, target and settings.
    fn path(&self, engine: &Engine, digest: &str) -> PathBuf {
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let digest = digest.get(..32).unwrap_or(digest);
        self.directory.join(format!("{digest}-{:016x}{ENDING}", hasher.finish()))
    }
}

/// Makes the directory, for this user alone.
fn prepare(directory: &Path) -> io::Result<()> {
    owner::make(directory)?;
    check(&fs::symlink_metadata(directory)?, fs::Metadata::is_dir)
}

/// The compiled code of a file that is what it must be.
fn read(directory: &Path, path: &Path) -> io::Result<Vec<u8>> {
    check(&fs::symlink_metadata(directory)?, fs::Metadata::is_dir)?;
    let mut file = owner::open(path)?;
    check(&file.metadata()?, fs::Metadata::is_file)?;
    let (mut head, mut compiled) = ([0; HEAD.len() + DIGEST_BYTES], Vec::new());
    file.read_exact(&mut head)?;
    file.take(COMPILED_BYTES_MAX).read_to_end(&mut compiled)?;
    let (magic, digest) = head.split_at(HEAD.len());
    if magic != HEAD || digest != Sha256::digest(&compiled).as_slice() {
        return Err(wrong("it was damaged"));
    }
    Ok(compiled)
}

/// Puts the file there as a whole, or not at all.
fn write(directory: &Path, path: &Path, compiled: &[u8]) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(HEAD)?;
    file.write_all(&Sha256::digest(compiled))?;
    file.write_all(compiled)?;
    file.persist(path).map(drop).map_err(io::Error::from)
}

/// Versions come and go: the oldest are removed.
fn forget_oldest(directory: &Path) -> io::Result<()> {
    let mut kept = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().ends_with(ENDING) {
            kept.push((entry.metadata()?.modified()?, entry.path()));
        }
    }
    kept.sort();
    let left = kept.len().saturating_sub(KEPT_MOST);
    // Another process may have removed it.
    kept.iter().take(left).for_each(|(_, path)| fs::remove_file(path).unwrap_or_default());
    Ok(())
}

fn check(found: &fs::Metadata, is_kind: fn(&fs::Metadata) -> bool) -> io::Result<()> {
    if !is_kind(found) {
        return Err(wrong("it is of another kind, or a link"));
    }
    owner::check(found)
}

/// Who may write a file, as this system knows it.
#[cfg(unix)]
mod owner {
    use std::fs::{DirBuilder, File, Metadata, OpenOptions};
    use std::io;
    use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
    use std::path::Path;

    use super::wrong;

    pub(super) fn make(directory: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)
    }

    pub(super) fn open(path: &Path) -> io::Result<File> {
        let no_link = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
        OpenOptions::new().read(true).custom_flags(no_link).open(path)
    }

    pub(super) fn check(found: &Metadata) -> io::Result<()> {
        if found.uid() != rustix::process::geteuid().as_raw() {
            return Err(wrong("it belongs to another user"));
        }
        if found.mode() & 0o022 != 0 {
            return Err(wrong("others may write it"));
        }
        Ok(())
    }
}

/// Nothing is kept where nobody can be told from another.
#[cfg(not(unix))]
mod owner {
    use std::fs::{File, Metadata};
    use std::io;
    use std::path::Path;

    pub(super) fn make(_: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn open(_: &Path) -> io::Result<File> {
        Err(io::ErrorKind::NotFound.into())
    }

    pub(super) fn check(_: &Metadata) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

fn wrong(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

const HEAD: &[u8] = b"upsert-sink code 1\n";
const DIGEST_BYTES: usize = 32;
const ENDING: &str = ".compiled";
const COMPILED_BYTES_MAX: u64 = 64 << 20;
/// Versions and settings that are kept.
const KEPT_MOST: usize = 8;

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;
    use crate::plugin::Plugin;
    use crate::sandbox;

    const DIGEST: &str = "0123456789abcdef0123456789abcdef-and-more";

    /// A small component, kept in a directory of its own.
    fn kept() -> (tempfile::TempDir, Engine, CompiledCode) {
        let parent = tempfile::tempdir().expect("a directory");
        let engine = sandbox::engine().expect("an engine");
        let component = Component::new(&engine, b"\0asm\x0d\0\x01\0").expect("an empty one");
        let code = CompiledCode::within(parent.path().join("code"));
        assert!(code.load(&engine, DIGEST).is_none(), "nothing is there yet");
        code.keep(&engine, DIGEST, &component);
        assert!(code.load(&engine, DIGEST).is_some(), "it was kept");
        (parent, engine, code)
    }

    #[test]
    fn what_was_kept_is_loaded_for_the_same_component_alone() {
        let (_parent, engine, code) = kept();
        assert!(code.load(&engine, "fedcba9876543210fedcba9876543210").is_none());
        let mode = fs::metadata(&code.directory).expect("it is there").mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn a_file_that_was_changed_cut_or_replaced_by_a_link_is_not_used() {
        let (_parent, engine, code) = kept();
        let path = code.path(&engine, DIGEST);
        let whole = fs::read(&path).expect("it is there");
        for at in [0, HEAD.len(), HEAD.len() + DIGEST_BYTES, whole.len() - 1] {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            fs::write(&path, changed).expect("written");
            assert!(code.load(&engine, DIGEST).is_none(), "byte {at}");
        }
        for length in [0, 10, whole.len() - 1] {
            fs::write(&path, &whole[..length]).expect("written");
            assert!(code.load(&engine, DIGEST).is_none(), "{length} bytes");
        }
        let elsewhere = code.directory.join("elsewhere");
        fs::write(&elsewhere, &whole).expect("written");
        fs::remove_file(&path).expect("removed");
        symlink(&elsewhere, &path).expect("linked");
        assert!(code.load(&engine, DIGEST).is_none(), "a link");
    }

    #[test]
    fn what_others_may_write_is_not_used() {
        let (_parent, engine, code) = kept();
        let path = code.path(&engine, DIGEST);
        let set = |path: &Path, mode: u32| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it is ours");
        };
        for (place, open, closed) in [(&path, 0o620, 0o600), (&code.directory, 0o702, 0o700)] {
            set(place, open);
            assert!(code.load(&engine, DIGEST).is_none(), "{place:?}");
            set(place, closed);
            assert!(code.load(&engine, DIGEST).is_some(), "{place:?}");
        }
    }

    #[test]
    fn the_oldest_versions_are_forgotten() {
        let (_parent, engine, code) = kept();
        let component = Component::new(&engine, b"\0asm\x0d\0\x01\0").expect("an empty one");
        (0..2 * KEPT_MOST).for_each(|n| code.keep(&engine, &format!("{n:032x}"), &component));
        let left = fs::read_dir(&code.directory).expect("it is there").count();
        assert_eq!(left, KEPT_MOST);
        assert!(code.load(&engine, &format!("{:032x}", 2 * KEPT_MOST - 1)).is_some());
    }

    #[test]
    fn a_plugin_is_the_same_compiled_or_kept() {
        let parent = tempfile::tempdir().expect("a directory");
        let code = CompiledCode::within(parent.path().join("code"));
        let compiled = Plugin::embedded_with(&code).expect("it compiles");
        let files = || fs::read_dir(parent.path().join("code")).expect("it is there").count();
        assert_eq!(files(), 1);
        let loaded = Plugin::embedded_with(&code).expect("it loads");
        assert_eq!((files(), loaded.inspect()), (1, compiled.inspect()));
        let options = |plugin: &Plugin| plugin.options().expect("it answers");
        assert_eq!(options(&loaded), options(&compiled));
    }
}
