//! The machine's own environment variables and programs.
//!
//! Beside the row's way: `keyring.rs` gets credentials here.
//! Invariant: what a program prints goes to who asked and nowhere else, and a program that is not
//! waited for any more is killed.

use std::io;
use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::components::parts::{BoxFuture, Surroundings};
use crate::components::system::blocking;

/// The process's own surroundings.
#[derive(Clone, Copy, Debug)]
pub struct SystemSurroundings;

impl Surroundings for SystemSurroundings {
    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn output_of(
        &self,
        command: &[String],
        bytes_max: usize,
    ) -> BoxFuture<'static, io::Result<Vec<u8>>> {
        let command = command.to_vec();
        Box::pin(async move {
            let (program, arguments) = command
                .split_first()
                .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no program"))?;
            let mut command = Command::new(program);
            // Its complaints go where those of this process go, and never into a message of ours.
            command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
            let start = move || Ok(Running(Arc::new(Mutex::new(command.spawn()?))));
            let running = blocking(start).await?;
            let program = Arc::clone(&running.0);
            blocking(move || output(&program, bytes_max)).await
        })
    }
}

/// A program that is killed when this is dropped; one that has ended is not there to be killed.
struct Running(Arc<Mutex<Child>>);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = locked(&self.0).kill();
    }
}

fn output(program: &Mutex<Child>, bytes_max: usize) -> io::Result<Vec<u8>> {
    let stdout = locked(program).stdout.take();
    let mut printed = Vec::new();
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    // Not under the lock: whoever kills the program must get in.
    stdout.into_iter().try_for_each(|pipe| pipe.take(limit).read_to_end(&mut printed).map(drop))?;
    let too_much = printed.len() > bytes_max;
    if too_much {
        locked(program).kill()?;
    }
    let status = end(program)?;
    match (too_much, status.success()) {
        (true, _) => Err(io::Error::other(format!("it printed more than {bytes_max} bytes"))),
        (false, true) => Ok(printed),
        (false, false) => Err(io::Error::other(format!("it ended with {status}"))),
    }
}

/// Waits for the end, which follows soon after that of the output, and leaves gaps in which the
/// program can be killed.
#[expect(clippy::disallowed_methods, reason = "a thread that waits for another program")]
fn end(program: &Mutex<Child>) -> io::Result<ExitStatus> {
    loop {
        if let Some(status) = locked(program).try_wait()? {
            return Ok(status);
        }
        std::thread::sleep(POLL);
    }
}

fn locked(program: &Mutex<Child>) -> MutexGuard<'_, Child> {
    program.lock().unwrap_or_else(PoisonError::into_inner)
}

const POLL: Duration = Duration::from_millis(5);

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    async fn shell(script: &str) -> io::Result<Vec<u8>> {
        let command = ["sh", "-c", script].map(String::from);
        SystemSurroundings.output_of(&command, 100).await
    }

    #[tokio::test]
    async fn a_program_answers_what_it_prints() {
        assert_eq!(shell("printf '%s' '{}'").await.expect("it prints"), b"{}");
    }

    #[tokio::test]
    async fn a_program_that_fails_or_talks_too_much_is_an_error() {
        let error = shell("printf secret; exit 3").await.expect_err("it fails").to_string();
        assert!(error.contains('3') && !error.contains("secret"), "{error}");
        let error = shell("while :; do printf 'secret '; done").await.expect_err("endless");
        assert_eq!(error.to_string(), "it printed more than 100 bytes");
        let missing = [String::from("/no/such/program")];
        SystemSurroundings.output_of(&missing, 100).await.expect_err("there is none");
    }

    #[tokio::test]
    async fn a_program_is_killed_when_nobody_waits_any_more() {
        let directory = tempfile::tempdir().expect("a directory");
        let told = directory.path().join("told");
        let script = format!("echo $$ > {0}.new; mv {0}.new {0}; exec sleep 1000", told.display());
        let running = tokio::spawn(async move { shell(&script).await });
        while !told.exists() {
            tokio::task::yield_now().await;
        }
        running.abort();
        let _ = running.await;
        let pid = std::fs::read_to_string(&told).expect("its process id");
        let alive = |pid: &str| {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
            // A dead one that nobody has asked for yet is a zombie.
            stat.is_ok_and(|stat| !stat.contains(") Z"))
        };
        while alive(&pid) {
            tokio::task::yield_now().await;
        }
    }
}
