//! The table as it is: its partitions, read through download sessions, each row in its place.
//!
//! Between `host/tunnel` and `sums.rs` with `compare.rs`. Invariant: every partition that the
//! catalog lists is read whole or the command fails; a range that was refused, or whose answer is
//! in doubt, is read again from its beginning, a limited number of times; memory holds the rows of
//! a few answers.

use std::time::Duration;

use anyhow::Context;
use futures::{StreamExt, TryStreamExt};
use upsert_sink::{Components, ErrorKind};
use upsert_sink_format::record::Value;
use upsert_sink_format::schema::ColumnType;
use upsert_sink_format::tunnel::RefusalKind;
use upsert_sink_tunnel::{DownloadReader, DownloadedRow, Table, TableDownload, TunnelError};

use super::changes::Partitions;
use super::codec::{BucketPlace, RowCodec, RowKey};
use super::sums::{BucketSum, Sums};

/// The table at the Tunnel.
pub(super) struct TableReader<'a> {
    pub(super) table: &'a Table,
    pub(super) codec: &'a RowCodec,
    pub(super) components: &'a Components,
    /// The bytes that one answer should have.
    pub(super) answer_bytes: usize,
}

/// A partition that is being read.
pub(super) struct PartitionRows<'a> {
    reader: DownloadReader,
    /// For each of the table's columns, its place among the download's.
    columns: Vec<usize>,
    number: u32,
    of: &'a TableReader<'a>,
}

impl<'a> TableReader<'a> {
    /// The sums of these partitions, some of them at once.
    pub(super) async fn sums(
        &self,
        listed: &[u32],
        partitions: &Partitions,
        sums: &mut Sums,
    ) -> anyhow::Result<()> {
        let reads = listed.iter().map(|number| async move {
            let name = partitions.name(*number);
            let of_partition = self.sums_of(*number, name).await;
            of_partition.map(|sums| (*number, sums)).with_context(|| shown(name))
        });
        let mut reads = futures::stream::iter(reads).buffer_unordered(PARTITIONS_AT_ONCE);
        while let Some((number, of_partition)) = reads.try_next().await? {
            sums.insert(number, of_partition)?;
        }
        Ok(())
    }

    /// The sums of one partition. A download that the service has forgotten begins anew.
    async fn sums_of(&self, number: u32, name: &str) -> anyhow::Result<Vec<BucketSum>> {
        for _ in 1..DOWNLOADS_MAX {
            match self.try_sums(number, name).await {
                Err(error) if is_forgotten(&error) => {}
                done => return done,
            }
        }
        self.try_sums(number, name).await
    }

    async fn try_sums(&self, number: u32, name: &str) -> anyhow::Result<Vec<BucketSum>> {
        let mut sums = vec![BucketSum::default(); self.codec.schema.buckets as usize];
        let mut rows = self.begin(number, name).await?;
        while let Some(batch) = rows.next().await? {
            for (key, row) in batch {
                sums[BucketPlace::of(&key).bucket as usize].add(&row);
            }
        }
        Ok(sums)
    }

    /// Begins to read a partition.
    pub(super) async fn begin(
        &'a self,
        number: u32,
        name: &str,
    ) -> anyhow::Result<PartitionRows<'a>> {
        let mut attempts = ReadAttempts::new(self.components);
        let download = loop {
            match self.table.download(name).await {
                Ok(download) => break download,
                Err(error) => attempts.again(error).await?,
            }
        };
        let columns = self.columns_of(&download)?;
        let reader = download.reader(self.answer_bytes);
        Ok(PartitionRows { reader, columns, number, of: self })
    }

    /// Where the table's columns are among those of a download.
    fn columns_of(&self, download: &TableDownload) -> anyhow::Result<Vec<usize>> {
        let names: Vec<&str> = download.columns().iter().map(|one| one.name.as_str()).collect();
        let places = self.codec.schema.columns.iter().map(|column| {
            let place = names.iter().position(|name| name.eq_ignore_ascii_case(&column.name));
            let place = place.filter(|at| same(&download.types()[*at], &column.column_type));
            place.with_context(|| {
                format!(
                    "the table's column {} {} is none of those that are downloaded: the table was \
                     altered; verify again",
                    column.name, column.column_type
                )
            })
        });
        places.collect()
    }
}

impl PartitionRows<'_> {
    /// The next rows, each with its key; none at the end.
    pub(super) async fn next(&mut self) -> anyhow::Result<Option<Vec<(RowKey, Box<[u8]>)>>> {
        let mut attempts = ReadAttempts::new(self.of.components);
        let rows = loop {
            match self.reader.next().await {
                Ok(rows) => break rows,
                Err(error) => attempts.again(error).await?,
            }
        };
        let Some(rows) = rows else { return Ok(None) };
        rows.into_iter().map(|row| self.placed(row)).collect::<anyhow::Result<_>>().map(Some)
    }

    fn placed(&self, mut row: DownloadedRow) -> anyhow::Result<(RowKey, Box<[u8]>)> {
        let take = |at: &usize| row.get_mut(*at).and_then(Option::take);
        let values: Vec<Option<Value>> = self.columns.iter().map(take).collect();
        let key = self.of.codec.key(self.number, &values)?;
        Ok((key, self.of.codec.row(values)))
    }
}

/// The attempts at one request.
struct ReadAttempts<'a> {
    components: &'a Components,
    made: u32,
}

impl<'a> ReadAttempts<'a> {
    fn new(components: &'a Components) -> Self {
        Self { components, made: 1 }
    }

    /// Waits before the next attempt, if another one may help.
    ///
    /// Errors: the failure itself if it may not, or too many attempts were made.
    async fn again(&mut self, error: TunnelError) -> anyhow::Result<()> {
        let may_help =
            matches!(error.kind, ErrorKind::Retry | ErrorKind::SlowDown | ErrorKind::Corrupt);
        if !may_help || self.made == ATTEMPTS_MAX {
            return Err(error.into());
        }
        let asked = error.refusal().map_or(0, |refusal| refusal.retry_after.0);
        let pause = FIRST_PAUSE * 2_u32.pow(self.made - 1);
        tracing::info!(attempt = self.made, %error, "reading again");
        self.made += 1;
        self.components.clock.sleep(pause.max(Duration::from_millis(asked))).await;
        Ok(())
    }
}

fn is_forgotten(error: &anyhow::Error) -> bool {
    let refusal = error.downcast_ref::<TunnelError>().and_then(TunnelError::refusal);
    refusal.is_some_and(|refusal| refusal.kind == RefusalKind::NoSuchSession)
}

/// Whether a download writes a column as the catalog does. The names of a struct's fields are not
/// part of its values.
fn same(downloaded: &ColumnType, described: &ColumnType) -> bool {
    match (downloaded, described) {
        (ColumnType::Array(a), ColumnType::Array(b)) => same(a, b),
        (ColumnType::Map(key, value), ColumnType::Map(to_key, to_value)) => {
            same(key, to_key) && same(value, to_value)
        }
        (ColumnType::Struct(a), ColumnType::Struct(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|((_, a), (_, b))| same(a, b))
        }
        (a, b) => a == b,
    }
}

/// A partition, for messages.
pub(super) fn shown(partition: &str) -> String {
    match partition {
        "" => String::from("the table"),
        partition => format!("partition {partition}"),
    }
}

/// Partitions that are read at once.
pub(super) const PARTITIONS_AT_ONCE: usize = 4;
/// Downloads of one partition that are begun, at most.
const DOWNLOADS_MAX: u32 = 3;
/// Attempts at one request, at most.
const ATTEMPTS_MAX: u32 = 6;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
