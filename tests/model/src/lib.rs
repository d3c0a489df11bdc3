//! A model check of design §5 over the machines of `guest/core` as they are: nothing of them is
//! modelled again.
//!
//! Two writers, a coordinator and a committer stand in a world of their own: an engine (`engine`),
//! a Tunnel that behaves as badly as it may (`tunnel`), a host with its journal, a network and time
//! (`world`). Every choice is an action (`action`), carried out in one step (`step`), after which
//! the promises are looked at (`promise`). A `rule` can be switched off around the machines, and an
//! assumption about the service can be broken; both are parts of the `Plan`, with the bounds.
//!
//! Some things are taken together, so that there are fewer states: a request that was put off is
//! repeated at once, for it may be under way as long as it likes; messages between the machines
//! arrive at once, unless the plan has `letters`; an append to the journal is answered before
//! anything else happens but a crash, which may find it durable or not, unless the plan has
//! `slow_appends`; time stands still, unless hours pass, which is an action.
//! Rows are upserts of one partition. Left to the simulation: deletes, moved rows and more
//! partitions, a coordinator that fails alone, limits and back-pressure.
//!
//! Invariant: a state of the world is all that decides what may follow, and no more; of a machine,
//! that is what its `Debug` shows.

#![forbid(unsafe_code)]

mod action;
mod check;
mod engine;
mod machine;
mod message;
mod plan;
mod promise;
mod restart;
mod rule;
mod step;
mod task;
mod tunnel;
mod world;

pub use action::Action;
pub use check::{Report, check};
pub use message::Op;
pub use plan::{Assumption, Bounds, Order, Plan, Rule};
pub use promise::{PROMISES, Promise};
pub use restart::{From, Shape};
pub use world::{Model, Owner, World};
