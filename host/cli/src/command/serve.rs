//! `serve`: the local server alone, for other processes to write to.
//!
//! Invariant: the endpoint is printed once the server answers, and Ctrl-C lets requests end that
//! were begun.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::json;

use crate::local;
use crate::report;
use crate::report::ReportForm;
use crate::signal::Stop;

/// Arguments of `serve`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Where tables are kept
    #[arg(long, value_name = "DIR", default_value = crate::command::run::DATA)]
    data: PathBuf,
    /// Where to listen; port 0 takes any free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// How to print the endpoint
    #[arg(long, value_enum, default_value_t)]
    report: ReportForm,
}

/// Serves until it is told to stop.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let mut stop = Stop::listen()?;
    let server = local::start(&arguments.data, Some(arguments.listen)).await?;
    let endpoint = server.endpoint();
    match arguments.report {
        ReportForm::Json => report::print_json(&json!({
            "endpoint": endpoint,
            "project": local::PROJECT,
            "data": arguments.data,
        }))?,
        ReportForm::Text => {
            println!(
                "serving {} at {endpoint}, project {}",
                arguments.data.display(),
                local::PROJECT
            );
            println!("stop with Ctrl-C");
        }
    }
    stop.requested().await;
    server.shutdown().await?;
    Ok(())
}
