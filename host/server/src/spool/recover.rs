//! Reads the spool at a start: which sessions are open, and where their packs lie.
//!
//! Between the last server's `spool/mod.rs` and this one's. Invariant: every frame that was ever
//! answered is found again; the only bytes that are dropped are those after the last whole frame of
//! the last segment, which were never acknowledged. A frame that is not whole, although later ones
//! say that it was durable, is an error. In the frames of the last sync, which no later one
//! mentions, damage looks like a torn end.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::frame::Decoded;
use super::{FOLDER, SegmentUse, Segments, Spool, frame, segment_name};
use crate::components::Directory;
use crate::error::Error;
use crate::session::{PackRange, SessionFacts};

/// A session that did not reach the log.
#[derive(Debug)]
pub(crate) struct RecoveredSession {
    pub(crate) facts: SessionFacts,
    pub(crate) packs: Vec<PackRange>,
    pub(crate) aborted: bool,
}

/// The contents of the spool.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    pub(crate) sessions: BTreeMap<String, RecoveredSession>,
    uses: BTreeMap<u64, SegmentUse>,
    /// The last segment and how much of it is whole, if that is not all.
    torn: Option<(u64, u64)>,
}

/// Reads all segments. Sessions that `is_over` are left out.
pub(crate) async fn recover(
    directory: &dyn Directory,
    is_over: &(dyn Fn(&SessionFacts) -> bool + Sync),
) -> Result<Recovered, Error> {
    let names = directory.list(FOLDER).await.map_err(|e| Error::disk(FOLDER, e))?;
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| segment_number(name)).collect();
    numbers.sort_unstable();
    let mut recovered = Recovered::default();
    for number in &numbers {
        let whole = recovered.read_segment(directory, *number, is_over).await?;
        if let Some(whole) = whole {
            if Some(number) != numbers.last() {
                return Err(damaged(&segment_name(*number), whole));
            }
            recovered.torn = Some((*number, whole));
        }
    }
    recovered.uses.values_mut().for_each(|segment_use| {
        let open = |id: &String| recovered.sessions.get(id).is_some_and(|s| !s.aborted);
        segment_use.open.retain(open);
    });
    Ok(recovered)
}

/// Why a file is no segment, and the remedy.
fn foreign(bytes: &[u8]) -> String {
    let (letters, version) = frame::MAGIC.split_at(frame::MAGIC.len() - 1);
    match bytes.strip_prefix(letters).and_then(<[u8]>::first) {
        Some(theirs) => format!(
            "it has version {} of the spool, and this server reads {}: start the server that wrote \
             it, and commit or abort its sessions; then this one begins a spool of its own",
            theirs.escape_ascii(),
            version.escape_ascii()
        ),
        None => "it is no segment of a spool".to_owned(),
    }
}

impl Recovered {
    /// Reads one segment; answers how much of it is whole, if that is not all.
    async fn read_segment(
        &mut self,
        directory: &dyn Directory,
        number: u64,
        is_over: &(dyn Fn(&SessionFacts) -> bool + Sync),
    ) -> Result<Option<u64>, Error> {
        let name = segment_name(number);
        let disk = |error| Error::disk(&name, error);
        let length = directory.length(&name).await.map_err(disk)?;
        let size = usize::try_from(length).map_err(|e| Error::disk(&name, e))?;
        let bytes = directory.read(&name, 0, size).await.map_err(disk)?;
        self.uses.entry(number).or_default();
        if bytes.len() < frame::MAGIC.len() {
            return Ok(Some(0));
        }
        if !bytes.starts_with(&frame::MAGIC) {
            return Err(Error::damaged(name, foreign(&bytes)));
        }
        let mut at = frame::MAGIC.len();
        while at < bytes.len() {
            let Some((decoded, next)) = frame::decode(&bytes, at) else {
                if frame::durable_behind(&bytes, at) > at as u64 {
                    return Err(damaged(&name, at as u64));
                }
                return Ok(Some(at as u64));
            };
            self.note(number, decoded, is_over);
            at = next;
        }
        Ok(None)
    }

    fn note(
        &mut self,
        segment: u64,
        decoded: Decoded,
        is_over: &(dyn Fn(&SessionFacts) -> bool + Sync),
    ) {
        let segment_use = self.uses.entry(segment).or_default();
        match decoded {
            Decoded::Created(facts) if !is_over(&facts) => {
                segment_use.open.insert(facts.id.clone());
                let id = facts.id.clone();
                let session = RecoveredSession { facts, packs: Vec::new(), aborted: false };
                self.sessions.entry(id).or_insert(session);
            }
            Decoded::Aborted(facts) if !is_over(&facts) => {
                segment_use.ended.insert(facts.id.clone(), facts.clone());
                let id = facts.id.clone();
                self.sessions
                    .insert(id, RecoveredSession { facts, packs: Vec::new(), aborted: true });
            }
            Decoded::Created(_) | Decoded::Aborted(_) => {}
            Decoded::Pack { session, bucket, records, body } => {
                if let Some(known) = self.sessions.get_mut(&session).filter(|s| !s.aborted) {
                    let offset = body.start as u64;
                    let length = u32::try_from(body.len()).expect("a frame's length fits 32 bits");
                    known.packs.push(PackRange { segment, offset, length, bucket, records });
                    segment_use.open.insert(session);
                }
            }
        }
    }

    /// Makes what was read durable, cuts what is torn, and deletes segments that nobody needs.
    pub(crate) async fn into_spool(
        self,
        directory: Arc<dyn Directory>,
        segment_bytes: u64,
    ) -> Result<Spool, Error> {
        if let Some((number, whole)) = self.torn {
            let name = segment_name(number);
            let cut = whole.max(frame::MAGIC.len() as u64);
            if whole == 0 {
                directory.remove(&name).await.map_err(|e| Error::disk(&name, e))?;
            } else {
                directory.truncate(&name, cut).await.map_err(|e| Error::disk(&name, e))?;
            }
        }
        let gone = self.torn.filter(|(_, whole)| *whole == 0).map(|(number, _)| number);
        if let Some(last) = self.uses.keys().next_back().filter(|last| Some(**last) != gone) {
            let name = segment_name(*last);
            directory.sync(&name).await.map_err(|e| Error::disk(&name, e))?;
        }
        let segments = Segments { uses: self.uses, ..Segments::default() };
        Ok(Spool::new(directory, segment_bytes, segments))
    }
}

fn damaged(name: &str, at: u64) -> Error {
    let message = format!("the record at byte {at} does not match its checksum");
    Error::damaged(String::from(name), message)
}

fn segment_number(name: &str) -> Option<u64> {
    name.strip_suffix(".packs")?.parse().ok()
}
