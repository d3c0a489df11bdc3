//! The wish to stop: Ctrl-C and SIGTERM.
//!
//! `engine.rs` and `command/serve.rs` wait for it. Invariant: the first signal asks for a clean
//! stop, the second ends the process at once.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// The exit code of a process that was told twice.
const KILLED: i32 = 130;

/// Tells whether the process was asked to stop.
#[derive(Clone, Debug)]
pub(crate) struct Stop {
    asked: watch::Receiver<bool>,
}

impl Stop {
    /// Listens to the signals from now on.
    pub(crate) fn listen() -> anyhow::Result<Self> {
        let (sender, asked) = watch::channel(false);
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::spawn(async move {
            let mut next = async || {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
            };
            next().await;
            // Nobody waits any more: the process is ending anyway.
            let _ = sender.send(true);
            next().await;
            std::process::exit(KILLED);
        });
        Ok(Self { asked })
    }

    /// Ends when the process was asked to stop.
    pub(crate) async fn requested(&mut self) {
        if self.asked.wait_for(|asked| *asked).await.is_err() {
            // Nobody can ask any more.
            std::future::pending::<()>().await;
        }
    }
}
