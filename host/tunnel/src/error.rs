//! Errors of this client: the next step, the knowledge about the request, and the cause.
//!
//! Every public call returns one. Invariant: no secret is in a message, and foreign text in it is
//! cut and cannot move a terminal's cursor.

use std::error::Error as StdError;
use std::fmt;

use upsert_sink_format::error::{Error, ErrorKind};
use upsert_sink_format::id::Millis;
use upsert_sink_format::tunnel::{Outcome, Refusal, RefusalKind};

use crate::components::TransportError;

/// The result of every call of this client.
pub type Result<T> = std::result::Result<T, TunnelError>;

/// A call that is not known to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TunnelError {
    /// The caller's next step.
    pub kind: ErrorKind,
    /// The table, session or setting it is about; may be empty.
    pub at: String,
    /// The failure and its remedy, in words.
    pub message: String,
    cause: Box<Cause>,
}

/// The knowledge about a request that is not done.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotDone {
    /// The request certainly had no effect: the service refused it by a code of its own, or nothing
    /// was sent.
    Refused(Refusal),
    /// The request may have been carried out, or may yet be.
    InDoubt(String),
    /// A setting, an argument or the table breaks a rule; nothing was sent for it.
    Unusable(String),
    /// The service carried the request out, and its answer cannot be read.
    Garbled(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Cause {
    not_done: NotDone,
    source: Option<TransportError>,
}

impl TunnelError {
    /// The knowledge about the request.
    pub fn not_done(&self) -> &NotDone {
        &self.cause.not_done
    }

    /// The refusal, if the request certainly had no effect.
    pub fn refusal(&self) -> Option<&Refusal> {
        match &self.cause.not_done {
            NotDone::Refused(refusal) => Some(refusal),
            NotDone::InDoubt(_) | NotDone::Unusable(_) | NotDone::Garbled(_) => None,
        }
    }

    /// Whether the request may have been carried out. Only the same request may follow it: the same
    /// pack again, the same commit, or a question for the session's status.
    pub fn is_in_doubt(&self) -> bool {
        matches!(self.cause.not_done, NotDone::InDoubt(_))
    }

    pub(crate) fn refused(refusal: Refusal) -> Self {
        let (kind, remedy) = match refusal.kind {
            RefusalKind::NotSent => {
                (ErrorKind::Retry, "is the endpoint right, and the service up?")
            }
            RefusalKind::SlowDown => (ErrorKind::SlowDown, "try again later"),
            RefusalKind::Transient => (ErrorKind::Retry, "try again"),
            RefusalKind::Denied => (ErrorKind::Denied, "check `accessId` and its permissions"),
            RefusalKind::Full
            | RefusalKind::Invalid
            | RefusalKind::Moved
            | RefusalKind::NoSuchPartition
            | RefusalKind::NoSuchSession => (ErrorKind::InvalidConfig, "correct it"),
        };
        let code = match refusal.code.as_str() {
            "" => String::new(),
            code => format!("{code}: "),
        };
        let message = format!("{code}{}; {remedy}", refusal.message);
        Self::new(kind, message, NotDone::Refused(refusal))
    }

    pub(crate) fn in_doubt(why: impl Into<String>) -> Self {
        let why = why.into();
        let message = format!("the service gave no clear answer: {why}; try again");
        Self::new(ErrorKind::Retry, message, NotDone::InDoubt(why))
    }

    pub(crate) fn unusable(message: impl Into<String>) -> Self {
        let message = message.into();
        Self::new(ErrorKind::InvalidConfig, message.clone(), NotDone::Unusable(message))
    }

    pub(crate) fn garbled(message: impl Into<String>) -> Self {
        let message = message.into();
        Self::new(ErrorKind::Corrupt, message.clone(), NotDone::Garbled(message))
    }

    pub(crate) fn at(self, at: impl Into<String>) -> Self {
        Self { at: at.into(), ..self }
    }

    pub(crate) fn caused_by(mut self, source: TransportError) -> Self {
        self.cause.source = Some(source);
        self
    }

    fn new(kind: ErrorKind, message: String, not_done: NotDone) -> Self {
        let cause = Box::new(Cause { not_done, source: None });
        Self { kind, at: String::new(), message, cause }
    }
}

impl fmt::Display for TunnelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at.as_str() {
            "" => f.write_str(&self.message),
            at => write!(f, "{at}: {}", self.message),
        }
    }
}

impl StdError for TunnelError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.cause.source.as_ref().map(|source| source as &(dyn StdError + 'static))
    }
}

impl From<TunnelError> for Error {
    fn from(error: TunnelError) -> Self {
        Self::new(error.kind, error.at, error.message)
    }
}

/// The outcome of the attempt: what breaks a rule, or was answered in a garbled way, is told as a
/// refusal or as a doubt.
impl From<TunnelError> for Outcome {
    fn from(error: TunnelError) -> Self {
        match error.cause.not_done {
            NotDone::Refused(refusal) => Self::Refused(refusal),
            NotDone::InDoubt(why) | NotDone::Garbled(why) => Self::InDoubt(why),
            NotDone::Unusable(why) => Self::Refused(refusal(RefusalKind::Invalid, why)),
        }
    }
}

/// A refusal of the client's own, without a code of the service.
pub(crate) fn refusal(kind: RefusalKind, message: impl Into<String>) -> Refusal {
    Refusal {
        kind,
        code: String::new(),
        message: message.into(),
        request_id: String::new(),
        retry_after: Millis(0),
    }
}

/// Foreign text, cut and safe to print: no control characters, no escapes of terminals.
pub fn escape(text: &str, characters_max: usize) -> String {
    let mut escaped = String::with_capacity(text.len().min(characters_max));
    for (index, character) in text.chars().enumerate() {
        if index == characters_max {
            escaped.push('…');
            break;
        }
        if character.is_control() {
            escaped.extend(character.escape_default());
        } else {
            escaped.push(character);
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_cannot_move_the_cursor() {
        assert_eq!(escape("a\u{1b}[2Jb\r\n", 100), "a\\u{1b}[2Jb\\r\\n");
    }

    #[test]
    fn long_foreign_text_is_cut() {
        assert_eq!(escape("abcdef", 3), "abc…");
    }

    #[test]
    fn a_doubt_keeps_its_cause_and_is_no_refusal() {
        let lost = TransportError { sent: true, message: String::from("reset") };
        let error = TunnelError::in_doubt("reset").caused_by(lost.clone()).at("p.t");
        assert!(error.is_in_doubt() && error.refusal().is_none());
        let source = error.source().and_then(|source| source.downcast_ref::<TransportError>());
        assert_eq!(source, Some(&lost));
        let said = "p.t: the service gave no clear answer: reset; try again";
        assert_eq!(error.to_string(), said);
        assert_eq!(Error::from(error.clone()).to_string(), said);
        assert_eq!(Outcome::from(error), Outcome::InDoubt(String::from("reset")));
    }
}
