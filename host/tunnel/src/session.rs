//! One upsert session, as whoever writes it holds it.
//!
//! Above `table/mod.rs`, whose calls it makes. Invariant: it holds nothing that the service does
//! not know; dropping it neither commits nor aborts.

use upsert_sink_format::tunnel::{SessionInfo, SessionRef, SessionStatus};

use crate::error::Result;
use crate::pack::Pack;
use crate::rows::PackBuilder;
use crate::table::Table;

/// An upsert session of one partition.
pub struct Session {
    table: Table,
    reference: SessionRef,
    info: SessionInfo,
}

impl Session {
    pub(crate) fn new(table: Table, reference: SessionRef, info: SessionInfo) -> Self {
        Self { table, reference, info }
    }

    /// The name of the session, for whoever goes on with it elsewhere.
    pub fn reference(&self) -> &SessionRef {
        &self.reference
    }

    /// The session as the service described it when this was made.
    pub fn info(&self) -> &SessionInfo {
        &self.info
    }

    /// The same, for a caller that keeps the reference itself.
    pub fn into_info(self) -> SessionInfo {
        self.info
    }

    /// Begins packs of rows for this session.
    ///
    /// # Errors
    /// `InvalidConfig` if the session has a hash function or a type of column that is not known
    /// here.
    pub fn packs(&self) -> Result<PackBuilder> {
        PackBuilder::new(&self.info)
    }

    /// Writes rows of one bucket.
    ///
    /// # Errors
    /// As [`Table::put_pack`].
    pub async fn put_pack(&self, pack: &Pack) -> Result<()> {
        self.table.put_pack(&self.reference, pack.bucket, pack.records, &pack.body).await
    }

    /// Commits: all acknowledged rows become visible together.
    ///
    /// # Errors
    /// As [`Table::commit`].
    pub async fn commit(&self) -> Result<SessionStatus> {
        self.table.commit(&self.reference).await.map(|info| info.status)
    }

    /// Aborts: no row becomes visible.
    ///
    /// # Errors
    /// As [`Table::abort`].
    pub async fn abort(&self) -> Result<()> {
        self.table.abort(&self.reference).await
    }

    /// Asks for the status.
    ///
    /// # Errors
    /// As [`Table::status`].
    pub async fn status(&self) -> Result<SessionStatus> {
        self.table.status(&self.reference).await.map(|info| info.status)
    }
}
