//! Disks that are full: of the server, of the job, and of both in one process.
//!
//! Each is a small file system in memory, where this machine lets the suite mount one; else it
//! says why not. Invariant: the disk is filled to the last block at a known point, and freed again.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::crash::job::Attempt;
use crate::crash::site::Site;
use crate::crash::tally::seed;

const EVENTS: u64 = 60_000;
const RATE: u64 = 20_000;
const DISK_MB: u32 = 48;

/// A small disk.
struct Disk(TempDir);

impl Disk {
    /// Mounts one; none, with the reason printed, where that is not allowed.
    fn mount() -> Result<Option<Self>> {
        let directory = tempfile::tempdir()?;
        let size = format!("size={DISK_MB}m");
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(directory.path())
            .output();
        match mount {
            Ok(output) if output.status.success() => return Ok(Some(Self(directory))),
            Ok(output) => {
                let reason = String::from_utf8_lossy(&output.stderr).into_owned();
                println!("NOT TRIED: this machine mounts no disk: {}", reason.trim());
            }
            Err(error) => println!("NOT TRIED: this machine mounts no disk: {error}"),
        }
        Ok(None)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Leaves no block free.
    fn fill(&self) -> Result<()> {
        let mut ballast = File::create(self.path().join("ballast"))?;
        let block = [1; 4096];
        while ballast.write_all(&block).is_ok() {}
        Ok(())
    }

    /// Space is back.
    fn free(&self) -> Result<()> {
        Ok(fs::remove_file(self.path().join("ballast"))?)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // It goes with the machine at the latest.
        let _unmounted = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

/// Fills the disk under a job that has committed, and answers what it says when it gives up.
fn fill_under(mut attempt: Attempt, disk: &Disk) -> Result<String> {
    ensure!(attempt.until(|watch| watch.committed >= 2)?, "the input is too short");
    disk.fill()?;
    let ended = attempt.end()?;
    let words = ended.stderr.lines().last().unwrap_or_default().to_owned();
    println!("{words}");
    ensure!(!ended.status.success(), "it ended well on a full disk");
    ensure!(words.starts_with("error: ") && words.contains("No space left"), "{}", ended.stderr);
    ensure!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    Ok(words)
}

#[test]
fn a_job_whose_own_disk_is_full_says_so_and_goes_on_when_space_is_back() -> Result<()> {
    let Some(disk) = Disk::mount()? else { return Ok(()) };
    let mut site = Site::new(seed("full disk of a job")?.u64(..), EVENTS, RATE)?;
    site.state = disk.path().join("state");
    let words = fill_under(site.run()?, &disk)?;
    ensure!(words.contains("free some space, then"), "{words}");
    disk.free()?;
    site.run()?.finish()?;
    site.check()?;
    Ok(())
}

#[test]
fn an_embedded_server_whose_disk_is_full_loses_nothing() -> Result<()> {
    let Some(disk) = Disk::mount()? else { return Ok(()) };
    let mut site = Site::new(seed("full disk of an embedded server")?.u64(..), EVENTS, RATE)?;
    site.data = disk.path().join("data");
    fill_under(site.run()?, &disk)?;
    disk.free()?;
    site.run()?.finish()?;
    site.check()?;
    Ok(())
}

#[test]
fn a_server_whose_disk_was_full_serves_on_and_has_lost_nothing() -> Result<()> {
    let Some(disk) = Disk::mount()? else { return Ok(()) };
    let mut site = Site::new(seed("full disk of a server")?.u64(..), EVENTS, RATE)?;
    site.data = disk.path().join("data");
    let (mut server, address) = site.serve()?;
    site.create_table(address)?;
    site.point_at(address, "2")?;
    fill_under(site.run()?, &disk)?;
    disk.free()?;
    let mut ended = site.run()?.end()?;
    if !ended.status.success() {
        // It could not know which bytes are durable, and said what to do about that.
        println!("{}", ended.stderr.lines().last().unwrap_or_default());
        ensure!(ended.stderr.contains("restart the server"), "{}", ended.stderr);
        server.kill()?;
        let address;
        (server, address) = site.serve()?;
        site.point_at(address, "2")?;
        ended = site.run()?.end()?;
    }
    ensure!(ended.status.success(), "{}", ended.stderr);
    serde_json::from_str::<serde_json::Value>(&ended.stdout).context("a report")?;
    site.check()?;
    server.kill()?;
    Ok(())
}
