//! Rules, domains or points changed: every current document is judged again, in small steps between other work.

use crate::commit::{Done, Work, Writer};
use crate::knowledge::SharedKnowledge;
use crate::readers::Readers;
use model::Designation;
use std::sync::Arc;
use std::time::Duration;
use store::StoreError;
use tokio::sync::watch;

/// Documents per request: few enough that reports need not wait long behind one.
const STEP_DOCUMENTS: usize = 10;
/// How long one step may wait for its commit.
const STEP_TIMEOUT: Duration = Duration::from_secs(600);
/// Pause before another try when the store did not answer.
const RETRY_AFTER: Duration = Duration::from_secs(30);
/// The setting that names the knowledge that all current results come from.
pub const SETTING: &str = "knowledge last evaluated";

/// Follows the knowledge and brings all results up to date whenever it differs from what they were made with.
pub async fn run(
    writer: Writer,
    readers: Arc<Readers>,
    knowledge: SharedKnowledge,
    mut stop: watch::Receiver<bool>,
    evaluated: Option<String>,
) {
    let mut evaluated = evaluated.unwrap_or_default();
    let mut changed = knowledge.changes();
    loop {
        changed.borrow_and_update();
        let fingerprint = knowledge.get().fingerprint.clone();
        let mut failed = false;
        if fingerprint != evaluated {
            match everything(&writer, &readers, &knowledge, &fingerprint).await {
                Ok(true) => {
                    tracing::info!("all documents are judged by the present rules");
                    evaluated = fingerprint;
                }
                // Changed again meanwhile: begin anew.
                Ok(false) => continue,
                Err(reason) => {
                    tracing::warn!(%reason, "documents could not be judged again; trying later");
                    failed = true;
                }
            }
        }
        tokio::select! {
            result = changed.changed() => if result.is_err() { return },
            _ = stop.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(RETRY_AFTER), if failed => {}
        }
    }
}

/// What the current results were made with, as the last run recorded it.
pub fn last_evaluated(tx: &mut dyn store::Transaction) -> Result<Option<String>, StoreError> {
    tx.setting(SETTING)
}

/// `false` when the knowledge changed on the way.
async fn everything(
    writer: &Writer,
    readers: &Arc<Readers>,
    knowledge: &SharedKnowledge,
    fingerprint: &str,
) -> Result<bool, String> {
    let hosts = readers.read(|reader| reader.hosts()).await.map_err(|error| error.to_string())?;
    for host in hosts {
        let name = host.designation.clone();
        let rows = readers
            .read(move |reader| reader.documents_at(&name, None))
            .await
            .map_err(|error| error.to_string())?;
        let mut documents: Vec<(Designation, String)> =
            rows.into_iter().map(|row| (host.designation.clone(), row.instance)).collect();
        if documents.is_empty() {
            // Its domain may be another all the same.
            documents.push((host.designation.clone(), String::new()));
        }
        for step in documents.chunks(STEP_DOCUMENTS) {
            if knowledge.get().fingerprint != fingerprint {
                return Ok(false);
            }
            commit(writer, Work::Reevaluate(step.to_vec())).await?;
        }
    }
    commit(writer, Work::Setting { name: SETTING.into(), value: fingerprint.to_owned() }).await?;
    Ok(true)
}

/// Judges all current documents of one host anew.
///
/// # Errors
/// Why it could not be done.
pub async fn host(writer: &Writer, readers: &Arc<Readers>, host: &Designation) -> Result<(), String> {
    let name = host.clone();
    let rows = readers.read(move |reader| reader.documents_at(&name, None)).await;
    let documents: Vec<(Designation, String)> = rows
        .map_err(|error| error.to_string())?
        .into_iter()
        .map(|row| (host.clone(), row.instance))
        .collect();
    for step in documents.chunks(STEP_DOCUMENTS) {
        commit(writer, Work::Reevaluate(step.to_vec())).await?;
    }
    Ok(())
}

async fn commit(writer: &Writer, work: Work) -> Result<(), String> {
    match writer.ask(work, STEP_TIMEOUT).await {
        Ok(Done::Failed(reason)) => Err(reason),
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}
