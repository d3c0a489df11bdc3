//! Fuzzing on stable Rust: a kept corpus, a seeded mutator, and rounds that can be run again.
//!
//! A suite gives a body, which is a function of bytes that fails if a promise is broken, and a
//! folder of small files to begin with. A body returns the shape of its outcome: an input with a
//! new shape is kept for the rest of its round, which leads deeper than chance does.
//! Invariant: a round is a function of its seed and the corpus; a failure prints the seed and the
//! input.
//!
//! `FUZZ_SECONDS` says for how long (2 without it), `FUZZ_START` with which seed the rounds begin,
//! `FUZZ_SEED` runs the one round of that seed, whole.

mod corpus;
mod mutator;

use std::collections::BTreeSet;
use std::env;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use fastrand::Rng;

use crate::clock::Stopwatch;
use crate::feed::top;

/// A promise about every input: fails if it is broken, or tells the shape of what it saw.
pub type Body<'a> = &'a dyn Fn(&[u8]) -> Result<String>;

/// One body's corpus and words.
#[derive(Clone, Debug)]
pub struct Fuzz {
    name: &'static str,
    corpus: PathBuf,
    words: &'static [&'static str],
    share: u32,
}

/// The counts of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Inputs that were tried.
    pub cases: u64,
    /// Different shapes among them, at most in one round.
    pub shapes: usize,
}

/// Runs a body over the corpus of its name that is kept in `tests/fuzz`. It has the time of one of
/// `parts` bodies that read parts of one thing.
///
/// # Errors
/// As of [`Fuzz::run`]; and if there was next to nothing to try.
pub fn over_corpus(
    parts: u32,
    name: &'static str,
    words: &'static [&'static str],
    body: Body<'_>,
) -> Result<()> {
    let corpus = top().join("tests/fuzz/corpus").join(name);
    let seen = Fuzz::new(name, corpus).words(words).share(parts).run(body)?;
    ensure!(seen.cases > 1, "only {} inputs were tried", seen.cases);
    Ok(())
}

impl Fuzz {
    /// A body called `name`, with its corpus in this folder.
    pub fn new(name: &'static str, corpus: impl Into<PathBuf>) -> Self {
        Self { name, corpus: corpus.into(), words: &[], share: 1 }
    }

    /// Words of the body's language, which are put into inputs whole.
    pub fn words(mut self, words: &'static [&'static str]) -> Self {
        self.words = words;
        self
    }

    /// Gives the body only a part of the time of one: where several bodies read parts of one thing.
    pub fn share(mut self, bodies: u32) -> Self {
        self.share = bodies;
        self
    }

    /// Tries the corpus as it is, then rounds of changes to it until the time is over.
    ///
    /// # Errors
    /// The first input that breaks the promise, as text for the corpus, with the seed of its round.
    pub fn run(&self, body: Body<'_>) -> Result<Seen> {
        let inputs = corpus::read(&self.corpus)?;
        let mut seen = Seen::default();
        for (file, input) in &inputs {
            let tried = attempt(input, body);
            tried.with_context(|| format!("fuzz body `{}`, {}", self.name, file.display()))?;
            seen.cases += 1;
        }
        let inputs: Vec<Vec<u8>> = inputs.into_iter().map(|(_, input)| input).collect();
        if let Some(seed) = number("FUZZ_SEED")? {
            seen.add(self.round(seed, &inputs, None, body)?);
            return Ok(seen);
        }
        let until = Until {
            began: Stopwatch::start(),
            span: Duration::from_secs(number("FUZZ_SECONDS")?.unwrap_or(SECONDS)) / self.share,
        };
        let start = number("FUZZ_START")?.unwrap_or(START);
        let mut round = 0;
        while !until.is_over() {
            seen.add(self.round(start.wrapping_add(round), &inputs, Some(&until), body)?);
            round += 1;
        }
        let (name, Seen { cases, shapes }) = (self.name, seen);
        println!("fuzz {name}: {cases} inputs, {shapes} shapes, {round} rounds from {start:#x}");
        Ok(seen)
    }

    /// One round: the same inputs in the same order for the same seed, unless it is cut short.
    fn round(
        &self,
        seed: u64,
        corpus: &[Vec<u8>],
        until: Option<&Until>,
        body: Body<'_>,
    ) -> Result<Seen> {
        let mut rng = Rng::with_seed(seed);
        let mut pool = corpus.to_vec();
        let mut shapes = BTreeSet::new();
        for case in 0..CASES {
            if until.is_some_and(Until::is_over) {
                return Ok(Seen { cases: case, shapes: shapes.len() });
            }
            let (one, other) = (rng.usize(..pool.len()), rng.usize(..pool.len()));
            let input = mutator::mutate(&mut rng, &pool[one], &pool[other], self.words);
            let shape = attempt(&input, body).map_err(|error| self.found(seed, &input, &error))?;
            if shapes.insert(digest(&shape)) && pool.len() < POOL_MAX {
                pool.push(input);
            }
        }
        Ok(Seen { cases: CASES, shapes: shapes.len() })
    }

    fn found(&self, seed: u64, input: &[u8], error: &anyhow::Error) -> anyhow::Error {
        let name = self.name;
        anyhow!(
            "fuzz body `{name}`: {error:#}\nagain: FUZZ_SEED={seed:#x} bash tests/run fuzz {name}\n\
             the input, as a file for {}:\n{}",
            self.corpus.display(),
            corpus::text(input)
        )
    }
}

impl Seen {
    fn add(&mut self, round: Self) {
        self.cases += round.cases;
        self.shapes = self.shapes.max(round.shapes);
    }
}

struct Until {
    began: Stopwatch,
    span: Duration,
}

impl Until {
    fn is_over(&self) -> bool {
        self.began.elapsed() >= self.span
    }
}

/// Tries one input; a panic of the body is a broken promise too.
fn attempt(input: &[u8], body: Body<'_>) -> Result<String> {
    match catch_unwind(AssertUnwindSafe(|| body(input))) {
        Ok(tried) => tried,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            bail!("it panicked: {}", text.unwrap_or("without a message"))
        }
    }
}

/// The shape of a message: its letters, without what differs from input to input.
pub fn shape(message: &str) -> String {
    let letters = message.chars().filter(|c| c.is_ascii_alphabetic() || *c == ' ');
    letters.take(SHAPE_CHARACTERS_MAX).collect()
}

fn digest(shape: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    shape.hash(&mut hasher);
    hasher.finish()
}

fn number(variable: &str) -> Result<Option<u64>> {
    let Ok(text) = env::var(variable) else { return Ok(None) };
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    let parsed = parsed.with_context(|| format!("{variable}={text}: it must be a number"))?;
    ensure!(variable != "FUZZ_SECONDS" || parsed <= SECONDS_MAX, "{variable}={text}: too long");
    Ok(Some(parsed))
}

/// How long a body runs unless it is told: long enough to run the corpus and look a little further.
const SECONDS: u64 = 2;
const SECONDS_MAX: u64 = 7 * 86_400;
const START: u64 = 0xF022;
/// Inputs of a round. Few enough that a failing round is run again at once.
const CASES: u64 = 10_000;
/// Inputs that a round keeps.
const POOL_MAX: usize = 2_000;
const SHAPE_CHARACTERS_MAX: usize = 120;

#[cfg(test)]
mod tests {
    use super::*;

    fn fuzz(inputs: &[&str]) -> (tempfile::TempDir, Fuzz) {
        let dir = tempfile::tempdir().expect("a directory");
        for (number, input) in inputs.iter().enumerate() {
            std::fs::write(dir.path().join(format!("{number}.txt")), input).expect("written");
        }
        let fuzz = Fuzz::new("sample", dir.path());
        (dir, fuzz)
    }

    /// A fault three steps deep: each step shows another shape, so that none is lost again.
    fn planted(input: &[u8]) -> Result<String> {
        let depth = input.iter().zip(b"BUG").take_while(|(a, b)| a == b).count();
        ensure!(depth < 3, "found");
        Ok(depth.to_string())
    }

    #[test]
    fn a_planted_fault_is_found_and_found_again_by_its_seed() {
        let (_dir, fuzz) = fuzz(&["aaaa"]);
        let corpus = [b"aaaa".to_vec()];
        let run = |seed| fuzz.round(seed, &corpus, None, &planted).map_err(|e| e.to_string());
        let found = (0..50).find_map(|seed| run(seed).err().map(|message| (seed, message)));
        let (seed, message) = found.expect("fifty rounds of ten thousand inputs find it");
        assert!(message.contains(&format!("FUZZ_SEED={seed:#x}")), "{message}");
        assert_eq!(run(seed).err(), Some(message));
    }

    #[test]
    fn a_panic_is_told_with_its_input() {
        let (_dir, fuzz) = fuzz(&["x"]);
        let body = |_: &[u8]| -> Result<String> { panic!("planted") };
        let message = format!("{:#}", fuzz.run(&body).expect_err("it panics"));
        assert!(message.contains("0.txt") && message.contains("planted"), "{message}");
    }

    #[test]
    fn a_corpus_that_is_not_there_is_an_error() {
        let missing = Fuzz::new("sample", "no/such/folder");
        assert!(missing.run(&|_| Ok(String::new())).is_err());
    }
}
