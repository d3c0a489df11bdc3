//! A stack that is deep enough for any query that is allowed, whoever polls it and however its
//! planner was compiled.
//!
//! Around the planning and the rows of `select.rs`: DataFusion goes down a query's tree by calls,
//! and unoptimised calls need several times the stack. Invariant: no part of DataFusion that goes
//! down a tree is polled outside of it.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};

/// A future or a stream that is polled on a stack of its own.
pub(super) struct OnDeepStack<T>(pub(super) T);

impl<T> Future for OnDeepStack<BoxFuture<'_, T>> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        stacker::grow(STACK_BYTES, || self.0.poll_unpin(context))
    }
}

impl<T> futures::Stream for OnDeepStack<BoxStream<'_, T>> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        stacker::grow(STACK_BYTES, || self.0.poll_next_unpin(context))
    }
}

/// Only what is used of it takes memory.
const STACK_BYTES: usize = 64 << 20;
