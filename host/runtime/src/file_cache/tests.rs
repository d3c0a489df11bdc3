//! The promises of a file cache: what is read is what was appended, within the grant, and nothing
//! of it is left.

use std::io;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;

use super::*;
use crate::components::ScratchFile;

fn settings(directory: &Path, bytes: u64) -> CacheSettings {
    CacheSettings { directories: vec![directory.to_owned()], bytes }
}

async fn cache(directory: &Path, bytes: u64) -> FileCache {
    let components = Components::system();
    FileCache::open(&settings(directory, bytes), &components).await.expect("it takes files")
}

fn bytes(length: usize, salt: u8) -> Vec<u8> {
    (0..length).map(|at| (at / 7) as u8 ^ salt).collect()
}

fn done(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Done(_))
}

fn kind(outcome: Outcome) -> RefusalKind {
    match outcome {
        Outcome::Refused(refusal) => refusal.kind,
        other => panic!("{other:?}"),
    }
}

async fn piece(cache: &FileCache, segment: u64, offset: u64, length: u64) -> Vec<u8> {
    match cache.read(segment, offset, length).await {
        Outcome::Done(Answer::Bytes(bytes)) => bytes,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn any_piece_is_read_as_it_was_appended() {
    let directory = tempfile::tempdir().expect("a directory");
    let cache = cache(directory.path(), 1 << 20).await;
    let mut whole = Vec::new();
    for (at, length) in [1, 4095, 4096, 4097, 30_000, 10].into_iter().enumerate() {
        let appended = bytes(length, at as u8);
        assert!(done(&cache.append(3, appended.clone()).await));
        whole.extend(appended);
    }
    let length = whole.len();
    for (from, to) in
        [(0, 1), (0, length), (1, 4096), (4090, 4100), (8191, 12_290), (40_000, length)]
    {
        let read = piece(&cache, 3, from as u64, (to - from) as u64).await;
        assert!(read == whole[from..to], "{from} to {to}");
    }
    let ranges = [(9_000, 3_u64), (100, 5_000), (0, 0)];
    let ranges = ranges.map(|(offset, length)| cache.hold(3, offset, length).expect("it is there"));
    let expected = [&whole[9_000..9_003], &whole[100..5_100]].concat();
    assert!(read(&ranges, 9).await.expect("read") == expected, "in any order");
    assert_eq!(kind(cache.read(3, length as u64, 1).await), RefusalKind::Invalid);
}

#[tokio::test]
async fn appends_take_effect_in_the_order_of_their_calls() {
    let directory = tempfile::tempdir().expect("a directory");
    let cache = cache(directory.path(), 1 << 20).await;
    let first = cache.append(0, bytes(10, 1));
    let second = cache.append(0, bytes(10, 2));
    let (second, first) = tokio::join!(second, first);
    assert!(done(&first) && done(&second));
    assert_eq!(piece(&cache, 0, 0, 20).await, [bytes(10, 1), bytes(10, 2)].concat());
}

#[tokio::test]
async fn bytes_count_until_nobody_can_read_them() {
    let directory = tempfile::tempdir().expect("a directory");
    let cache = cache(directory.path(), 100).await;
    assert!(done(&cache.append(0, bytes(60, 0)).await));
    assert_eq!(kind(cache.append(1, bytes(41, 0)).await), RefusalKind::Full);
    let held = cache.hold(0, 10, 5).expect("it is there");
    cache.drop_segment(0);
    assert!(cache.hold(0, 0, 1).is_none());
    assert_eq!(cache.used(), 60);
    assert_eq!(read(&[held], 0).await, Ok(bytes(60, 0)[10..15].to_vec()));
    assert_eq!(cache.used(), 0);
    assert!(done(&cache.append(2, bytes(100, 0)).await));
}

#[tokio::test]
async fn a_segment_that_ended_takes_nothing_more() {
    let directory = tempfile::tempdir().expect("a directory");
    let cache = cache(directory.path(), 1 << 20).await;
    assert!(done(&cache.append(5, bytes(9, 0)).await));
    assert!(done(&cache.seal(5).await));
    assert_eq!(kind(cache.append(5, bytes(9, 0)).await), RefusalKind::Invalid);
    assert_eq!(piece(&cache, 5, 0, 9).await, bytes(9, 0), "it is read all the same");
    cache.drop_segment(5);
    assert_eq!(kind(cache.append(5, bytes(9, 0)).await), RefusalKind::Invalid);
    assert_eq!(kind(cache.append(4, bytes(9, 0)).await), RefusalKind::Invalid);
    assert_eq!(kind(cache.seal(5).await), RefusalKind::Invalid);
}

#[tokio::test]
async fn no_file_has_a_name_and_what_was_there_is_left_alone() {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("segment-0"), b"somebody's").expect("written");
    let cache = cache(directory.path(), 1 << 20).await;
    assert!(done(&cache.append(0, bytes(100_000, 0)).await));
    let names = || -> Vec<String> {
        let entries = std::fs::read_dir(directory.path()).expect("a directory");
        entries
            .map(|entry| entry.expect("listed").file_name().into_string().expect("text"))
            .collect()
    };
    assert_eq!(names(), ["segment-0"]);
    drop(cache);
    assert_eq!(std::fs::read(directory.path().join("segment-0")).expect("read"), b"somebody's");
}

#[tokio::test]
async fn a_directory_that_takes_no_file_is_named_with_the_remedy() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("file");
    std::fs::write(&file, b"").expect("written");
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(directory.path(), &link).expect("linked");
    for wrong in [file.clone(), link, file.join("below"), PathBuf::from("/proc/none")] {
        let opened = FileCache::open(&settings(&wrong, 1), &Components::system()).await;
        let error = opened.err().expect("it is refused").to_string();
        assert!(error.contains("sink.file-cached.tmp.dirs"), "{error}");
        assert!(error.contains(&wrong.display().to_string()), "{error}");
    }
    let made = directory.path().join("a/b");
    cache(&made, 1).await;
    assert!(made.is_dir(), "what is missing is made");
}

/// A disk whose only file is broken from outside.
#[derive(Default)]
struct Broken {
    bytes: Arc<Mutex<Vec<u8>>>,
    writes: Arc<AtomicUsize>,
    fails: Option<io::ErrorKind>,
}

impl Disk for Broken {
    fn read(&self, _: &Path) -> BoxFuture<'_, io::Result<Option<Vec<u8>>>> {
        Box::pin(async { Ok(None) })
    }

    fn replace(&self, _: &Path, _: Vec<u8>) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async { Ok(()) })
    }

    fn append(
        &self,
        _: &Path,
        _: Option<u64>,
    ) -> BoxFuture<'_, io::Result<Box<dyn crate::components::AppendFile>>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }

    fn lock(&self, _: &Path) -> BoxFuture<'_, io::Result<Option<Box<dyn Send + Sync>>>> {
        Box::pin(async { Ok(None) })
    }

    fn scratch(&self, _: &Path) -> BoxFuture<'_, io::Result<Arc<dyn ScratchFile>>> {
        let (bytes, writes) = (Arc::clone(&self.bytes), Arc::clone(&self.writes));
        let file = Self { bytes, writes, fails: self.fails };
        Box::pin(async move { Ok(Arc::new(file) as Arc<dyn ScratchFile>) })
    }
}

impl ScratchFile for Broken {
    /// Every other write fails, in the middle.
    fn write_at(&self, place: u64, bytes: Vec<u8>) -> BoxFuture<'static, io::Result<()>> {
        let fails = self.fails.filter(|_| self.writes.fetch_add(1, Ordering::Relaxed) % 2 == 1);
        let mut held = self.bytes.lock().expect("no holder panics");
        let length = if fails.is_some() { bytes.len() / 2 } else { bytes.len() };
        held.resize(place as usize, 0);
        held.extend_from_slice(&bytes[..length]);
        Box::pin(async move { fails.map_or(Ok(()), |kind| Err(kind.into())) })
    }

    fn read_at(&self, places: Vec<Range<u64>>) -> BoxFuture<'static, io::Result<Vec<u8>>> {
        let held = self.bytes.lock().expect("no holder panics");
        let of = |place: Range<u64>| held[place.start as usize..place.end as usize].to_vec();
        let read: Vec<u8> = places.into_iter().flat_map(of).collect();
        Box::pin(async move { Ok(read) })
    }
}

async fn broken(fails: Option<io::ErrorKind>) -> (FileCache, Arc<Mutex<Vec<u8>>>) {
    let disk = Broken { fails, ..Broken::default() };
    let bytes = Arc::clone(&disk.bytes);
    let components = Components { disk: Arc::new(disk), ..Components::system() };
    let cache = FileCache::open(&settings(Path::new("d"), 1 << 20), &components).await;
    (cache.expect("it takes files"), bytes)
}

#[tokio::test]
async fn a_write_that_failed_leaves_nothing_and_takes_no_room() {
    use io::ErrorKind::{Other, StorageFull};
    for (fails, refusal) in [(Other, RefusalKind::Transient), (StorageFull, RefusalKind::Full)] {
        let (cache, _) = broken(Some(fails)).await;
        assert!(done(&cache.append(0, bytes(5_000, 1)).await));
        assert_eq!(kind(cache.append(0, bytes(5_000, 2)).await), refusal);
        assert_eq!(cache.used(), 5_000);
        assert!(done(&cache.append(0, bytes(5_000, 3)).await));
        assert_eq!(piece(&cache, 0, 4_999, 5_001).await[1..], bytes(5_000, 3));
    }
}

#[tokio::test]
async fn a_changed_byte_and_a_moved_frame_are_never_taken_for_rows() {
    let (cache, file) = broken(None).await;
    assert!(done(&cache.append(0, bytes(20_000, 7)).await));
    let whole = file.lock().expect("no holder panics").clone();
    assert!(!whole.windows(64).any(|held| held == &bytes(20_000, 7)[..64]), "it is encrypted");
    for at in [0, 4095, 4100, whole.len() - 1] {
        file.lock().expect("no holder panics")[at] ^= 1;
        assert_eq!(kind(cache.read(0, 0, 20_000).await), RefusalKind::Invalid, "byte {at}");
        file.lock().expect("no holder panics")[at] ^= 1;
    }
    assert_eq!(piece(&cache, 0, 0, 20_000).await, bytes(20_000, 7));
    let frame = 4096 + 16;
    file.lock().expect("no holder panics").copy_within(frame..2 * frame, 0);
    assert_eq!(kind(cache.read(0, 0, 10).await), RefusalKind::Invalid);
    assert_eq!(piece(&cache, 0, 4096, 10).await, bytes(20_000, 7)[4096..4106]);
}
