//! What an engine stores of a sink at a checkpoint: the writers' states, whose they are, and a
//! checksum.
//!
//! Made by `Sink::checkpoint`, handed back to the builder's `restore`. Invariant: the bytes are
//! versioned; damaged bytes and those of a newer version are refused, never guessed.

use crate::error::Error;
use crate::error::Result;

/// A completed barrier. Opaque to engines: they keep [`Checkpoint::to_bytes`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The engine's number of it.
    pub id: u64,
    /// The identity of the sink, as its journal holds it.
    pub(crate) identity: String,
    /// The start of the sink that made it.
    pub(crate) start: u64,
    /// One for each writer, in their order.
    pub(crate) states: Vec<Vec<u8>>,
}

impl Checkpoint {
    /// Bytes to store.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend(self.id.to_le_bytes());
        bytes.extend(self.start.to_le_bytes());
        put(&mut bytes, self.identity.as_bytes());
        bytes.extend(length(self.states.len()));
        for state in &self.states {
            put(&mut bytes, state);
        }
        let checksum = crc32c::crc32c(&bytes);
        bytes.extend(checksum.to_le_bytes());
        bytes
    }

    /// Reads what was stored.
    ///
    /// # Errors
    /// `Corrupt` for damaged bytes; `InvalidConfig` for those of a newer version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let version = bytes.strip_prefix(MAGIC).and_then(|rest| rest.first_chunk::<2>());
        match version.map(|version| u16::from_le_bytes(*version)) {
            None => return Err(damaged("it does not begin like one")),
            Some(VERSION) => {}
            Some(version) => {
                let message = format!(
                    "the checkpoint has version {version}, this host reads {VERSION}; \
                     use the host that wrote it, or a newer one"
                );
                return Err(Error::config("checkpoint", message));
            }
        }
        let (content, checksum) = bytes.split_last_chunk::<4>().ok_or(damaged("it is cut"))?;
        if crc32c::crc32c(content) != u32::from_le_bytes(*checksum) {
            return Err(damaged("it does not match its checksum"));
        }
        Self::read(&content[MAGIC.len() + 2..]).ok_or(damaged("its lengths do not add up"))
    }

    fn read(mut rest: &[u8]) -> Option<Self> {
        let id = u64::from_le_bytes(*take(&mut rest, 8)?.first_chunk()?);
        let start = u64::from_le_bytes(*take(&mut rest, 8)?.first_chunk()?);
        let identity = String::from_utf8(take_list(&mut rest)?.to_vec()).ok()?;
        let mut states = Vec::new();
        for _ in 0..take_length(&mut rest)? {
            states.push(take_list(&mut rest)?.to_vec());
        }
        rest.is_empty().then_some(Self { id, identity, start, states })
    }

    /// The states that fall to writer `index` of `parallelism`: its own, or its share after a
    /// change of parallelism.
    pub(crate) fn states_for(&self, index: u32, parallelism: u32) -> Vec<Vec<u8>> {
        let (index, step) = (index as usize, parallelism as usize);
        self.states.iter().skip(index).step_by(step).cloned().collect()
    }
}

fn put(bytes: &mut Vec<u8>, list: &[u8]) {
    bytes.extend(length(list.len()));
    bytes.extend(list);
}

fn length(length: usize) -> [u8; 4] {
    u32::try_from(length).expect("a state is far below 4 GiB").to_le_bytes()
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, after) = rest.split_at_checked(count)?;
    *rest = after;
    Some(taken)
}

fn take_length(rest: &mut &[u8]) -> Option<usize> {
    usize::try_from(u32::from_le_bytes(*take(rest, 4)?.first_chunk()?)).ok()
}

fn take_list<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let count = take_length(rest)?;
    take(rest, count)
}

fn damaged(why: &str) -> Error {
    let message = format!("the checkpoint is damaged: {why}; restore an older one");
    Error::corrupt("checkpoint", message)
}

const MAGIC: &[u8; 4] = b"USCK";
const VERSION: u16 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint() -> Checkpoint {
        let states = vec![vec![0], vec![1, 1], Vec::new()];
        Checkpoint { id: 7, identity: String::from("abc"), start: 2, states }
    }

    #[test]
    fn what_is_stored_is_read_again() {
        assert_eq!(Checkpoint::from_bytes(&checkpoint().to_bytes()), Ok(checkpoint()));
    }

    #[test]
    fn any_damaged_byte_is_noticed() {
        let whole = checkpoint().to_bytes();
        for index in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[index] ^= 1;
            assert!(Checkpoint::from_bytes(&damaged).is_err(), "byte {index}");
            assert!(Checkpoint::from_bytes(&whole[..index]).is_err(), "cut at {index}");
        }
    }

    #[test]
    fn a_newer_version_is_refused_by_its_number() {
        let mut newer = checkpoint().to_bytes();
        newer[4] = 9;
        let error = Checkpoint::from_bytes(&newer).expect_err("it is refused");
        assert!(error.message.contains("version 9"), "{error}");
    }

    #[test]
    fn states_are_dealt_out_when_the_parallelism_changes() {
        let states = checkpoint().states_for(0, 2);
        assert_eq!(states, [vec![0], Vec::new()]);
        assert_eq!(checkpoint().states_for(1, 3), [vec![1, 1]]);
        assert!(checkpoint().states_for(3, 4).is_empty());
    }
}
