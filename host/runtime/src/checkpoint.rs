//! A checkpoint, as an engine stores it of a sink: the writers' states, whose they are, and a
//! checksum.
//!
//! Made by `Sink::checkpoint`, handed back to the builder's `restore`. Invariant: the bytes are
//! versioned; damaged bytes and those of a newer version are refused, never guessed.

use upsert_sink_format::sealed::{Kind, Opener, Sealer};

use crate::error::{Error, Result};

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
        let mut sealer = Sealer::new(Kind::Checkpoint);
        sealer.u64(self.id).u64(self.start).text(&self.identity);
        let state = |sealer: &mut Sealer, state: &Vec<u8>| {
            sealer.bytes(state);
        };
        sealer.list(&self.states, state).seal()
    }

    /// Reads what was stored.
    ///
    /// # Errors
    /// `Corrupt` for damaged bytes; `InvalidConfig` for those of another version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        if bytes.starts_with(MAGIC_OF_0_1) {
            let message = "the checkpoint was written by version 0.1 of upsert-sink; restore it \
                           with that, or begin anew from an older position of the input";
            return Err(Error::config("checkpoint", message));
        }
        let mut opener = Opener::open(Kind::Checkpoint, bytes)?;
        let id = opener.u64()?;
        let start = opener.u64()?;
        let identity = opener.text()?;
        let states = opener.list(|opener| opener.bytes().map(<[u8]>::to_vec))?;
        opener.finish()?;
        Ok(Self { id, identity, start, states })
    }

    /// The states that fall to writer `index` of `parallelism`: its own, or its share after a
    /// change of parallelism.
    pub(crate) fn states_for(&self, index: u32, parallelism: u32) -> Vec<Vec<u8>> {
        let (index, step) = (index as usize, parallelism as usize);
        self.states.iter().skip(index).step_by(step).cloned().collect()
    }
}

/// How checkpoints of 0.1 begin.
const MAGIC_OF_0_1: &[u8; 4] = b"USCK";

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
        newer[5] = 9;
        let error = Checkpoint::from_bytes(&newer).expect_err("it is refused");
        assert!(error.message.contains("version 9"), "{error}");
    }

    #[test]
    fn a_checkpoint_of_0_1_is_refused_with_its_version_and_the_remedy() {
        let error = Checkpoint::from_bytes(b"USCK\x01\0 and more").expect_err("it is older");
        assert_eq!(error.kind, crate::ErrorKind::InvalidConfig);
        assert!(
            error.message.contains("version 0.1 of upsert-sink; restore it with that"),
            "{error}"
        );
    }

    #[test]
    fn states_are_dealt_out_when_the_parallelism_changes() {
        let states = checkpoint().states_for(0, 2);
        assert_eq!(states, [vec![0], Vec::new()]);
        assert_eq!(checkpoint().states_for(1, 3), [vec![1, 1]]);
        assert!(checkpoint().states_for(3, 4).is_empty());
    }
}
