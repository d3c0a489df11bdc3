//! The failures that end a command early, each with its exit code.
//!
//! Every other file returns `anyhow::Error`; `main.rs` asks here which code that is. Invariant: a
//! script can tell the causes apart by the code alone: the world failed (1), what was asked
//! is wrong (2), the result is wrong (3), the service is not what the sink takes it for (4).

use std::fmt;
use std::process::ExitCode;

use upsert_sink::{ErrorKind, TunnelError};

/// The user's input cannot be used: arguments, a job file, an input file or a row.
#[derive(Debug)]
pub(crate) struct BadInput(pub(crate) String);

impl fmt::Display for BadInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadInput {}

/// The table is not what the feed says, or a replay not what was recorded.
#[derive(Debug)]
pub(crate) struct Differs(pub(crate) String);

impl fmt::Display for Differs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Differs {}

/// The service is not what the sink takes it for, or a job is too much for it.
#[derive(Debug)]
pub(crate) struct Unsound(pub(crate) String);

impl fmt::Display for Unsound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unsound {}

/// An error that says what is wrong with the input, where, and what to do.
pub(crate) fn bad_input(message: impl Into<String>) -> anyhow::Error {
    anyhow::Error::new(BadInput(message.into()))
}

/// The exit code of an error: 4 for a service that is not as assumed, 3 for a difference, 2 for
/// wrong input, 1 for everything else.
pub(crate) fn exit_code(error: &anyhow::Error) -> u8 {
    for cause in error.chain() {
        if cause.is::<Unsound>() {
            return 4;
        }
        if cause.is::<Differs>() {
            return 3;
        }
        if cause.is::<BadInput>() {
            return 2;
        }
        let of_the_sink = cause.downcast_ref::<upsert_sink::Error>().map(|error| error.kind);
        let of_the_client = cause.downcast_ref::<TunnelError>().map(|error| error.kind);
        if let Some(kind) = of_the_sink.or(of_the_client) {
            return match kind {
                ErrorKind::InvalidConfig | ErrorKind::InvalidRow => 2,
                _ => 1,
            };
        }
    }
    1
}

/// Prints the error on standard error, its causes after it, and answers its code.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {error:#}");
    ExitCode::from(exit_code(error))
}

/// The documentation of the exit codes, for `--help`.
pub(crate) const EXIT_CODES: &str = "Exit codes:
  0  done
  1  failed while running: a directory, an address, the service (run again to continue)
  2  wrong arguments, job file, option, input row or recording
  3  the table differs from the independent fold of the feed (demo, run --verify, verify);
     replay: a call from the recorded one
  4  doctor: the service does not keep what the sink relies on; plan: the job will not hold";

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn a_cause_below_a_context_still_decides_the_code() {
        let error = Err::<(), _>(bad_input("x")).context("job a.toml").expect_err("is an error");
        assert_eq!(exit_code(&error), 2);
        assert_eq!(exit_code(&anyhow::Error::new(Differs(String::from("x")))), 3);
        assert_eq!(exit_code(&anyhow::anyhow!("x")), 1);
    }
}
