//! A settings file that is refused is an event about the CMA, and so is that it was mended.

use super::Context;
use super::events::about_system;
use super::verdict::CMA_NAME;
use model::EventType;
use serde_json::json;
use store::{Result, Transaction};

/// Keeps why the file was refused last, so that it is told once, and that it was mended also after a restart.
const SETTING: &str = "configuration refused";
const REASON: &str = "configuration";

/// The file was read: `refused` is why the old settings stay.
pub fn read(tx: &mut dyn Transaction, context: &mut Context<'_>, refused: Option<&str>) -> Result<()> {
    let before = tx.setting(SETTING)?.unwrap_or_default();
    let now = refused.unwrap_or_default();
    if before == now {
        return Ok(());
    }
    tx.set_setting(SETTING, now)?;
    let (kind, text) = match refused {
        Some(reason) => (EventType::Warn, format!("the CMA keeps its old settings: {reason}")),
        None => (EventType::Unwarn, "the settings of the CMA were read again without an error".to_owned()),
    };
    let object = json!({"nodetype": "SystemNode", "designation": CMA_NAME, "status": "up", "reason": REASON, "domain": ""});
    let event = about_system(context, kind, object, json!({"reason": REASON, "text": text}));
    context.emit(tx, event)
}
