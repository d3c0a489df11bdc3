//! A client as a process: one command a line in, one answer a line out.
//!
//! Invariant: what a client refuses and what it dies of are told apart.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use upsert_sink_tests::talk::Talker;

/// One of the clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    PyOdps,
    Java,
    Jdbc,
}

/// A client that runs.
pub(crate) struct Client {
    kind: Kind,
    talker: Talker,
}

/// A client's report of a command that failed.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The class of the exception.
    pub(crate) kind: String,
    /// The service's code, where the client knows it.
    pub(crate) code: String,
    /// Its message.
    pub(crate) message: String,
}

impl Kind {
    /// How it is started. `tests/run` makes it and tells where it is.
    fn command(self) -> Result<Command> {
        let (variable, program) = match self {
            Self::PyOdps => ("CLIENTS_PYTHON", None),
            Self::Java => ("CLIENTS_JAVA", Some("sdk")),
            Self::Jdbc => ("CLIENTS_JAVA", Some("jdbc")),
        };
        let found = std::env::var_os(variable)
            .with_context(|| format!("{variable} is not set: run `bash tests/run clients`"))?;
        let Some(module) = program else {
            let mut command = Command::new(found);
            command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/pyodps/client.py"));
            return Ok(command);
        };
        let built = Path::new(&found).join(module);
        let mut command = Command::new("java");
        let classes = format!("{0}/classes:{0}/lib/*", built.display());
        // Small machines run two of them at once.
        command.args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
        command.args(["-Duser.timezone=UTC", "-cp", &classes, "Client"]);
        Ok(command)
    }
}

impl Client {
    /// Starts a client of the project `local` at this endpoint.
    pub(crate) fn start(kind: Kind, endpoint: &str, directory: &Path) -> Result<Self> {
        let mut command = kind.command()?;
        command.args([endpoint, "local"]);
        let talker = Talker::start(format!("{kind:?}"), command, directory)?;
        Ok(Self { kind, talker })
    }

    /// Which one it is.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// Carries out a command that is to succeed.
    pub(crate) fn call(&mut self, what: &str, arguments: Value) -> Result<Value> {
        match self.attempt(what, arguments)? {
            Ok(answer) => Ok(answer),
            Err(failure) => bail!("{:?} {what}: {failure:#?}", self.kind),
        }
    }

    /// Carries out a command that is to fail.
    pub(crate) fn refused(&mut self, what: &str, arguments: Value) -> Result<Failure> {
        match self.attempt(what, arguments)? {
            Ok(answer) => bail!("{:?} {what} was to fail: {answer}", self.kind),
            Err(failure) => Ok(failure),
        }
    }

    fn attempt(&mut self, what: &str, arguments: Value) -> Result<Result<Value, Failure>> {
        let mut command = arguments;
        command["do"] = json!(what);
        let line = self.talker.say(what, &command.to_string())?;
        let answer: Value = serde_json::from_str(&line)
            .with_context(|| format!("{:?} {what}: no JSON: {line}", self.kind))?;
        let text = |name: &str| answer["error"][name].as_str().unwrap_or_default().to_owned();
        Ok(match answer.get("error") {
            Some(_) => {
                Err(Failure { kind: text("kind"), code: text("code"), message: text("message") })
            }
            None => Ok(answer),
        })
    }
}
