//! A world in words: how it is told, and how it is asked for.
//!
//! Read by `simulate` and for the kept list of seeds, written when a seed fails. Invariant: what
//! was written is read as the same world.

use std::fmt::Write;

use anyhow::{Context, Result, bail, ensure};

use super::faults::Fault;
use super::subject::Subject;
use super::world::Plan;

impl Plan {
    /// Reads a world, `--seed 7 --without lost,late`; answers it with the words that it does not
    /// know.
    ///
    /// # Errors
    /// The word that is wrong, and what may stand there.
    pub fn read(words: impl IntoIterator<Item = String>) -> Result<(Self, Vec<String>)> {
        let (mut seed, mut changes, mut without) = (None, None, Vec::new());
        let (mut subject, mut rest) = (Subject::Component, Vec::new());
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} needs a value"));
            match word.as_str() {
                "--seed" => seed = Some(number(&value()?)?),
                "--changes" => changes = Some(number(&value()?)?),
                "--subject" => subject = Subject::named(&value()?)?,
                "--without" => without = faults(&value()?)?,
                _ => rest.push(word),
            }
        }
        let seed = seed.context("--seed is missing; say which world, as in --seed 1")?;
        let mut plan = Self::of(seed, subject);
        without.iter().for_each(|fault| plan.faults.set(*fault, 0));
        if let Some(changes) = changes {
            ensure!(changes > 0, "--changes 0: a world has at least one");
            plan.changes = changes;
        }
        Ok((plan, rest))
    }

    /// How to run it again.
    pub fn command(&self) -> String {
        let drawn = Self::of(self.seed, self.subject);
        let mut command = format!("simulate --seed {}", self.seed);
        if self.changes != drawn.changes {
            write!(command, " --changes {}", self.changes).expect("a string takes all");
        }
        let gone = drawn.faults.present().into_iter().filter(|f| self.faults.rate(*f) == 0);
        let gone: Vec<&str> = gone.map(Fault::name).collect();
        if !gone.is_empty() {
            write!(command, " --without {}", gone.join(",")).expect("a string takes all");
        }
        if self.subject == Subject::Native {
            command += " --subject native";
        }
        command
    }
}

impl Subject {
    fn named(name: &str) -> Result<Self> {
        match name {
            "component" => Ok(Self::Component),
            "native" => Ok(Self::Native),
            other => bail!("--subject {other}: it is component or native"),
        }
    }
}

/// A number, decimal or after `0x`.
///
/// # Errors
/// That it is none.
pub fn number(text: &str) -> Result<u64> {
    let digits = text.strip_prefix("0x");
    let parsed = digits.map_or_else(|| text.parse(), |digits| u64::from_str_radix(digits, 16));
    parsed.with_context(|| format!("{text:?} is no number; write 17 or 0x11"))
}

fn faults(names: &str) -> Result<Vec<Fault>> {
    let named = |name: &str| {
        let all: Vec<&str> = Fault::all().map(Fault::name).collect();
        Fault::named(name)
            .with_context(|| format!("--without {name}: one or more of {}", all.join(",")))
    };
    names.split(',').map(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_as_the_same_world() {
        let mut plan = Plan::of(41, Subject::Native);
        plan.faults.present().into_iter().take(3).for_each(|fault| plan.faults.set(fault, 0));
        plan.changes = 123;
        let command = plan.command();
        let (read, rest) = Plan::read(command.split(' ').map(str::to_owned)).expect("it is read");
        assert_eq!(read.command(), command);
        assert_eq!((read.faults, read.changes), (plan.faults, plan.changes));
        assert_eq!(rest, ["simulate"]);
    }

    #[test]
    fn what_is_wrong_is_told_with_the_remedy() {
        let refused = |words: &str| {
            let read = Plan::read(words.split(' ').map(str::to_owned));
            format!("{:#}", read.map(|_| ()).expect_err(words))
        };
        assert!(refused("--changes 7").contains("--seed 1"));
        assert!(refused("--seed x").contains("0x11"));
        assert!(refused("--seed 1 --without rain").contains("lost,"));
        assert!(refused("--seed 1 --subject wasm").contains("native"));
        assert!(refused("--seed 1 --changes 0").contains("at least one"));
        assert!(refused("--seed").contains("needs a value"));
    }
}
