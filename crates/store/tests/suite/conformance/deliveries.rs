//! Events and what becomes of their alerts.

use super::*;
use site::event;

pub fn the_outbox_keeps_order_and_retries(store: &mut dyn Store) {
    commit(store, |t| {
        let first = t.append_event(&event("e1", "web1", 10), &["scripts", "syslog"])?;
        let second = t.append_event(&event("e2", "web1", 5), &["syslog"])?;
        assert!(first < second, "the order is that of the commits, not of the clock");
        t.append_event(&event("e3", "web2", 20), &[])?;
        Ok(())
    });
    let mut reader = store.reader().unwrap();
    let rows = reader.outbox(10).unwrap();
    let order: Vec<_> = rows.iter().map(|r| (r.event.eventid.as_str(), r.channel.as_str())).collect();
    assert_eq!(order, [("e1", "scripts"), ("e1", "syslog"), ("e2", "syslog")]);
    assert_eq!(rows[0].event, event("e1", "web1", 10));
    assert_eq!((rows[0].attempts, rows[0].due), (0, at(10)));
    assert_eq!(reader.outbox(2).unwrap().len(), 2);
    let mut retried = rows[0].clone();
    retried.attempts = 3;
    retried.due = at(99);
    retried.progress = vec!["10-mail".into()];
    commit(store, |t| {
        t.retry_delivery(&retried)?;
        t.finish_delivery(rows[1].sequence, "syslog", at(30), None)
    });
    assert_eq!(reader.outbox(10).unwrap(), [retried.clone(), rows[2].clone()]);
    assert_eq!(reader.health().unwrap().0, 2);
    assert!(reader.health().unwrap().1 > 0);
    let states = sql(store, "SELECT eventid, channel, state FROM alerts ORDER BY eventid, channel").rows;
    assert_eq!(
        json!(states),
        json!([["e1", "scripts", "waiting"], ["e1", "syslog", "delivered"], ["e2", "syslog", "waiting"]])
    );
    let mut transaction = store.begin().unwrap();
    assert!(transaction.append_event(&event("e1", "web1", 10), &[]).is_err(), "an event id is used once");
}

pub fn given_up_deliveries_are_kept(store: &mut dyn Store) {
    let mut sequence = 0;
    commit(store, |t| {
        sequence = t.append_event(&event("e1", "web1", 10), &["mail"])?;
        t.finish_delivery(sequence, "mail", at(50), Some("no route"))
    });
    commit(store, |t| {
        t.finish_delivery(sequence, "mail", at(60), None)?;
        t.finish_delivery(sequence + 7, "mail", at(60), Some("no such row"))
    });
    let mut reader = store.reader().unwrap();
    let failed = reader.failed_deliveries(at(50)).unwrap();
    assert_eq!(failed, [(event("e1", "web1", 10), "mail".to_owned(), "no route".to_owned())]);
    assert_eq!(reader.failed_deliveries(at(51)).unwrap(), vec![]);
    assert_eq!(reader.outbox(10).unwrap(), vec![]);
}

pub fn events_are_listed_in_pages(store: &mut dyn Store) {
    commit(store, |t| {
        for n in 1..=25 {
            t.append_event(&event(&format!("e{n}"), "web1", n * 10), &[])?;
        }
        Ok(())
    });
    let mut reader = store.reader().unwrap();
    let mut seen = vec![];
    let mut after = 0;
    loop {
        let page = reader.events(after, at(0), 10).unwrap();
        let Some((last, _)) = page.last() else { break };
        assert!(*last > after && page.len() <= 10);
        after = *last;
        seen.extend(page.into_iter().map(|(_, event)| event.eventid));
    }
    assert_eq!(seen, (1..=25).map(|n| format!("e{n}")).collect::<Vec<_>>());
    let late = reader.events(0, at(240), 10).unwrap();
    assert_eq!(late.iter().map(|(_, e)| e.eventid.as_str()).collect::<Vec<_>>(), ["e24", "e25"]);
    assert_eq!(reader.events(0, at(251), 10).unwrap(), vec![]);
    let after_first = reader.events(late[0].0, at(0), 10).unwrap();
    assert_eq!(after_first.len(), 1);
}
