//! A client as a process: one command a line in, one answer a line out.
//!
//! Invariant: no client outlives the value that stands for it, and one that dies is told with its
//! last words.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

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
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
    errors: std::path::PathBuf,
}

/// What a client said of a command that failed.
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
        let errors = directory.join(format!("{kind:?}.errors"));
        let mut child = kind
            .command()?
            .args([endpoint, "local"])
            .current_dir(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&errors)?)
            .spawn()
            .with_context(|| format!("{kind:?} cannot be started"))?;
        let commands = child.stdin.take().context("standard input is a pipe")?;
        let answers = BufReader::new(child.stdout.take().context("standard output is a pipe")?);
        Ok(Self { kind, child, commands, answers, errors })
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
        let sent = writeln!(self.commands, "{command}").and_then(|()| self.commands.flush());
        let mut line = String::new();
        if sent.is_err() || self.answers.read_line(&mut line)? == 0 {
            let words = std::fs::read_to_string(&self.errors).unwrap_or_default();
            bail!("{:?} ended at {what}: {words}", self.kind);
        }
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

impl Drop for Client {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}
