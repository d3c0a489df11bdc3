//! The command line: a stream engine of one process around the sink, and windows onto its parts.
//!
//! Rows start here: `command/run.rs` → `source/` → `engine.rs` → the `upsert_sink` library. This
//! file parses arguments and picks the command. Invariant: the exit code says what kind of failure
//! it was, and there is no other way out.

mod command;
mod engine;
mod failure;
mod fold;
mod freshness;
#[cfg(test)]
mod fuzz;
mod job;
mod ledger;
mod local;
mod plugin;
mod progress;
mod report;
mod signal;
mod sink;
mod source;
mod state;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Keeps MaxCompute Delta tables up to date from a stream of changes.
#[derive(Debug, Parser)]
#[command(name = "upsert-sink", version, after_help = failure::EXIT_CODES)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the sample feed of flights through everything, and checks the result
    Demo(command::demo::DemoArguments),
    /// Runs a job: from files or standard input into a table, exactly once
    Run(command::run::RunArguments),
    /// Says before the first row whether a job will hold, and what to set if not
    Plan(command::plan::PlanArguments),
    /// Compares a job's table with its source, up to the last committed checkpoint
    Verify(command::verify::VerifyArguments),
    /// Runs the local server alone
    Serve(command::serve::ServeArguments),
    /// Asks the tables of a data directory, also while a server runs on it (feature `query`)
    Query(command::query::QueryArguments),
    /// Lists sessions that are not committed yet
    Sessions(command::sessions::SessionsArguments),
    /// Shows the last checkpoints of a job, where their time went, and what to set
    Status(command::status::StatusArguments),
    /// Lists every option of the sink, with its type, default and meaning
    Options(command::options::OptionsArguments),
    /// Tells what the plugin is: its hash, size, imports and exports
    Inspect(command::inspect::InspectArguments),
    /// Runs a recorded sink again, offline, and compares what every call comes to
    Replay(command::replay::ReplayArguments),
    /// Looks whether a service is what the sink takes it for, on a table of its own
    Doctor(command::doctor::DoctorArguments),
}

fn main() -> ExitCode {
    let arguments = CommandLine::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_env("UPSERT_SINK_LOG");
    tracing_subscriber::fmt()
        .with_env_filter(filter.unwrap_or_else(|_| "warn".into()))
        .with_writer(std::io::stderr)
        .without_time()
        .with_target(false)
        .init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failure::report(&error.into()),
    };
    let done = runtime.block_on(dispatch(arguments.command));
    // A thread that waits for standard input would keep the process alive.
    runtime.shutdown_background();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure::report(&error),
    }
}

async fn dispatch(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Demo(arguments) => command::demo::run(arguments).await,
        Command::Run(arguments) => command::run::run(arguments).await,
        Command::Plan(arguments) => command::plan::run(arguments).await,
        Command::Verify(arguments) => command::verify::run(arguments).await,
        Command::Serve(arguments) => command::serve::run(arguments).await,
        Command::Query(arguments) => command::query::run(arguments).await,
        Command::Sessions(arguments) => command::sessions::run(arguments).await,
        Command::Status(arguments) => command::status::run(&arguments),
        Command::Options(arguments) => command::options::run(&arguments),
        Command::Inspect(arguments) => command::inspect::run(&arguments),
        Command::Replay(arguments) => command::replay::run(&arguments),
        Command::Doctor(arguments) => command::doctor::run(arguments).await,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        CommandLine::command().debug_assert();
    }
}
