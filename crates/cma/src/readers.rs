//! Reading the store from event loops: a few connections that only see what is committed, used off the loop.

use std::sync::{Arc, Mutex};
use store::{Reader, Result, SqlLimits, Store, StoreError};
use tokio::sync::Semaphore;

/// Sequence of the newest event, 0 when there is none.
pub fn newest_event(reader: &mut dyn Reader) -> Result<i64> {
    let limits = SqlLimits { rows: 1, milliseconds: 60_000, bytes: 1024 };
    let table = reader.sql("SELECT max(sequence) FROM events", &[], limits)?;
    Ok(table.rows.first().and_then(|row| row.first()).and_then(serde_json::Value::as_i64).unwrap_or(0))
}

/// A small pool of read-only connections.
pub struct Readers {
    free: Mutex<Vec<Box<dyn Reader>>>,
    permits: Arc<Semaphore>,
}

impl Readers {
    /// Opens `count` connections.
    pub fn open(store: &dyn Store, count: usize) -> Result<Self> {
        let free = (0..count.max(1)).map(|_| store.reader()).collect::<Result<Vec<_>>>()?;
        Ok(Self { permits: Arc::new(Semaphore::new(free.len())), free: Mutex::new(free) })
    }

    /// Runs `work` with a connection on a thread for blocking work.
    pub async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&mut dyn Reader) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let gone = || StoreError::Sql("no connection to the database is left; restart the CMA".into());
        let permit = self.permits.clone().acquire_owned().await.map_err(|_| gone())?;
        let mut reader = self.lock().pop().ok_or_else(gone)?;
        let pool = self.clone();
        let result = tokio::task::spawn_blocking(move || {
            let result = work(reader.as_mut());
            pool.lock().push(reader);
            // Not before the connection is back, even when nobody waits for the answer any more.
            drop(permit);
            result
        })
        .await;
        result.unwrap_or_else(|error| Err(StoreError::Sql(format!("a query broke off: {error}"))))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Box<dyn Reader>>> {
        self.free.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
