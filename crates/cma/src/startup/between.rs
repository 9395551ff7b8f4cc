//! Between two lives of the CMA: a database is exchanged and its tables are changed, which may take minutes. Who tells the CMA to
//! stop is heard meanwhile, and the service manager is told that we are not dead.

use daemon::service;
use daemon::signals::{Signal, Signals};
use std::future::pending;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use store::sqlite::Stop;

/// Does `work` on a thread of its own; the question that it is given is answered with yes once somebody wants us to stop. Returns
/// what comes of it, and whether somebody does.
///
/// # Errors
/// The system gives no event loop, or the work broke off.
pub fn heard<T: Send + 'static>(
    signals: &mut Signals,
    work: impl FnOnce(&Stop) -> T + Send + 'static,
) -> io::Result<(T, bool)> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build()?;
    let wanted = Arc::new(AtomicBool::new(false));
    let asked = wanted.clone();
    let stop: Stop = Arc::new(move || asked.load(Ordering::SeqCst));
    let done = runtime.block_on(async {
        let mut working = tokio::task::spawn_blocking(move || work(&stop));
        let mut alive = service::watchdog_interval().map(tokio::time::interval);
        loop {
            tokio::select! {
                done = &mut working => return done,
                signal = signals.next() => if signal == Signal::Terminate {
                    tracing::info!("told to stop while the database is exchanged: that ends first, or is left to the next start");
                    service::stopping();
                    wanted.store(true, Ordering::SeqCst);
                },
                // The watchdog is there for what waits for ever; this ends.
                () = tick(&mut alive) => service::alive(),
            }
        }
    });
    Ok((done.map_err(io::Error::other)?, wanted.load(Ordering::SeqCst)))
}

async fn tick(interval: &mut Option<tokio::time::Interval>) {
    match interval {
        Some(interval) => drop(interval.tick().await),
        None => pending().await,
    }
}
