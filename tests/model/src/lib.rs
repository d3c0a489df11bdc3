//! A model check of design §5 over the machines of `guest/core` as they are: nothing of them is
//! modelled again.
//!
//! Two writers, a coordinator and a committer stand in a world of their own: an engine (`engine`),
//! a Tunnel that behaves as badly as it may (`tunnel`), a host with its journal, a network and time
//! (`world`). Every choice is an action (`action`), carried out in one step (`step`), after which
//! the promises are looked at (`promise`). A `rule` can be switched off around the machines, and an
//! assumption about the service can be broken; both are parts of the `Plan`, with the bounds.
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
