//! How much one connection may have under way, so that a worker never has to refuse a single client.
//!
//! Two currencies, texts and kibibytes of text, each with a share that bulk work cannot spend: an
//! interactive text finds credit however long the array beside it is.

use std::sync::Arc;

use embed_protocol::{IN_FLIGHT_MAX, Priority, TEXT_BYTES_MAX};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Most text, in KiB, that one connection has under way: half of what a worker queues in all, and
/// room for the longest text.
const TEXT_KIB_MAX: usize = 4096;

/// The share of bulk work in [`IN_FLIGHT_MAX`]: enough to fill a worker's batches several times over.
const BULK_TEXTS_MAX: usize = 1024;

/// The share of bulk work in [`TEXT_KIB_MAX`].
const BULK_KIB_MAX: usize = 2048;

// The longest text fits the smallest share, and bulk work never has all.
const _: () = {
    assert!(TEXT_BYTES_MAX.div_ceil(1024) <= BULK_KIB_MAX);
    assert!(BULK_KIB_MAX < TEXT_KIB_MAX && BULK_TEXTS_MAX < IN_FLIGHT_MAX);
};

/// The credit of one connection.
#[derive(Debug)]
pub(crate) struct Credit {
    all: Purse,
    bulk: Purse,
}

/// Credit in both currencies.
#[derive(Debug)]
struct Purse {
    texts: Arc<Semaphore>,
    kib: Arc<Semaphore>,
}

/// Credit spent on one text; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Spent {
    _permits: Vec<OwnedSemaphorePermit>,
}

impl Default for Credit {
    fn default() -> Self {
        Self {
            all: Purse::new(IN_FLIGHT_MAX, TEXT_KIB_MAX),
            bulk: Purse::new(BULK_TEXTS_MAX, BULK_KIB_MAX),
        }
    }
}

impl Credit {
    /// Waits until a text of `bytes` bytes may be sent. First come, first served within a lane.
    ///
    /// `None` once [`Credit::close`] was called.
    pub(crate) async fn spend(&self, priority: Priority, bytes: usize) -> Option<Spent> {
        let mut permits = Vec::with_capacity(4);
        if priority == Priority::Bulk {
            self.bulk.spend(bytes, &mut permits).await?;
        }
        self.all.spend(bytes, &mut permits).await?;
        Some(Spent { _permits: permits })
    }

    /// Wakes everybody who waits: the connection is gone.
    pub(crate) fn close(&self) {
        for purse in [&self.all, &self.bulk] {
            purse.texts.close();
            purse.kib.close();
        }
    }
}

impl Purse {
    fn new(texts: usize, kib: usize) -> Self {
        Self { texts: Arc::new(Semaphore::new(texts)), kib: Arc::new(Semaphore::new(kib)) }
    }

    async fn spend(&self, bytes: usize, permits: &mut Vec<OwnedSemaphorePermit>) -> Option<()> {
        permits.push(Arc::clone(&self.texts).acquire_owned().await.ok()?);
        // A text is at most 1 MiB, so this neither overflows nor asks for more than there is.
        let kib = u32::try_from(bytes.div_ceil(1024).max(1)).ok()?;
        permits.push(Arc::clone(&self.kib).acquire_many_owned(kib).await.ok()?);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn bulk_work_leaves_credit_for_interactive_texts() {
        let credit = Credit::default();
        let mut spent = Vec::new();
        while let Some(Some(one)) = credit.spend(Priority::Bulk, 10).now_or_never() {
            spent.push(one);
        }
        assert_eq!(spent.len(), BULK_TEXTS_MAX);
        assert!(credit.spend(Priority::Interactive, 10).now_or_never().is_some());
        spent.pop();
        assert!(credit.spend(Priority::Bulk, 10).now_or_never().is_some(), "it was given back");
    }

    #[test]
    fn bytes_count_as_well_as_texts() {
        let credit = Credit::default();
        let mut spent = Vec::new();
        while let Some(Some(one)) =
            credit.spend(Priority::Interactive, TEXT_BYTES_MAX).now_or_never()
        {
            spent.push(one);
        }
        assert_eq!(spent.len(), TEXT_KIB_MAX * 1024 / TEXT_BYTES_MAX);
    }

    #[test]
    fn nobody_waits_for_a_connection_that_is_gone() {
        let credit = Credit::default();
        credit.close();
        assert!(matches!(credit.spend(Priority::Bulk, 1).now_or_never(), Some(None)));
    }
}
