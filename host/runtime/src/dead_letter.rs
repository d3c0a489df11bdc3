//! The file of refused rows: lines of JSON, as the guest wrote them.
//!
//! Written by `writer.rs`. Invariant: durable when `append` returns; opened only when the first row
//! is refused.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::Mutex;

use crate::components::{AppendFile, Disk};
use crate::error;
use crate::error::Result;

/// Shared by the writers of one sink.
pub(crate) struct DeadLetters {
    path: PathBuf,
    disk: Arc<dyn Disk>,
    file: Mutex<Option<Box<dyn AppendFile>>>,
}

impl DeadLetters {
    pub(crate) fn new(path: PathBuf, disk: Arc<dyn Disk>) -> Self {
        Self { path, disk, file: Mutex::new(None) }
    }

    /// Appends whole lines.
    pub(crate) async fn append(&self, lines: Vec<u8>) -> Result<()> {
        let failed = |error| error::disk(&self.path, &error);
        let mut file = self.file.lock().await;
        if file.is_none() {
            *file = Some(self.disk.append(&self.path, None).await.map_err(failed)?);
            tracing::warn!(path = %self.path.display(), "the first row was refused");
        }
        match file.as_mut() {
            Some(file) => file.append(lines).await.map_err(failed),
            None => Ok(()),
        }
    }
}
