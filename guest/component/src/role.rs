//! The one machine that this instance holds.
//!
//! Invariant: `open` fills the role once; a call for a role that is not open is the host's bug.

use std::cell::RefCell;

use upsert_sink_core::bucket::Router;
use upsert_sink_core::committer::Committer;
use upsert_sink_core::coordinator::Coordinator;
use upsert_sink_core::writer::Writer;
use upsert_sink_format::error::Error;

pub(crate) enum Role {
    Committer(Box<Committer>),
    Coordinator(Box<Coordinator>),
    Router(Box<Router>),
    Writer(Box<Writer>),
}

thread_local! {
    static ROLE: RefCell<Option<Role>> = const { RefCell::new(None) };
}

pub(crate) fn begin(role: Role) -> Result<(), Error> {
    match ROLE.replace(Some(role)) {
        None => Ok(()),
        Some(_) => Err(Error::bug("host", "an instance holds one role: open each in its own")),
    }
}

macro_rules! access {
    ($name:ident, $variant:ident) => {
        pub(crate) fn $name<T>(
            call: impl FnOnce(&mut $variant) -> Result<T, Error>,
        ) -> Result<T, Error> {
            ROLE.with_borrow_mut(|role| match role {
                Some(Role::$variant(machine)) => call(machine),
                _ => Err(Error::bug("host", concat!("this instance holds no ", stringify!($name)))),
            })
        }
    };
}

access!(committer, Committer);
access!(coordinator, Coordinator);
access!(router, Router);
access!(writer, Writer);
