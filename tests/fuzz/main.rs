//! Fuzz bodies: every reader of foreign bytes, over a kept corpus and what a seeded mutator makes
//! of it.
//!
//! One body a file; the corpus of each is a folder of `corpus`. Beyond "no panic" every body holds
//! its own promises: what is read means the same when it is written and read again, a refusal says
//! what and where, memory stays in proportion to the input. `tests/support/fuzz` says how a body is
//! run longer, and how a failure is run again. Bodies run beside each other, one thread each.

mod batch;
mod ddl;
mod journal;
mod pack;
mod pack_writer;
mod request;
mod response;
mod state;

use anyhow::{Result, ensure};
use upsert_sink_tests::fuzz::over_corpus;

/// The memory that a body may hold at once: so much, and so many bytes for each byte of its input.
#[derive(Clone, Copy, Debug)]
struct Memory {
    fixed: u64,
    per_byte: u64,
}

impl Memory {
    /// Reads `input`, and fails if more was held at any moment.
    fn bounds<T>(self, input: &[u8], read: impl FnOnce() -> T) -> Result<T> {
        let mut found = None;
        let used = allocation_counter::measure(|| found = Some(read()));
        let allowed = self.fixed + self.per_byte * input.len() as u64;
        let (held, length) = (used.bytes_max, input.len());
        ensure!(held <= allowed, "{held} bytes were held for {length}; {allowed} are allowed");
        Ok(found.expect("it was just read"))
    }
}

#[test]
fn any_pack_is_read_as_it_was_meant_or_refused_with_its_place() -> Result<()> {
    over_corpus(1, "pack", &[], &pack::body)
}

#[test]
fn any_batch_is_read_as_it_was_built_or_refused_with_its_place() -> Result<()> {
    over_corpus(1, "batch", &["USRB\x01\x00\x01\x00"], &batch::body)
}

#[test]
fn any_response_has_one_verdict_and_nothing_unsafe_is_kept_of_it() -> Result<()> {
    over_corpus(1, "response", response::WORDS, &response::body)
}

#[test]
fn any_ddl_is_understood_whole_or_refused_in_words() -> Result<()> {
    over_corpus(1, "ddl", ddl::WORDS, &ddl::body)
}

#[test]
fn any_request_is_answered_and_what_was_acknowledged_survives() -> Result<()> {
    over_corpus(1, "request", request::WORDS, &request::body)
}

#[test]
fn any_state_is_what_was_written_or_refused() -> Result<()> {
    over_corpus(3, "state", &["USST"], &state::body)
}

#[test]
fn any_journal_is_a_beginning_of_what_was_written_or_refused() -> Result<()> {
    over_corpus(3, "journal", journal::WORDS, &journal::body)
}
