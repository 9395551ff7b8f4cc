//! The suite that any [`Store`] must pass. A test file gives a factory and calls [`run`].
//!
//! Nothing here knows SQLite; what is particular to one implementation (files, permissions, damage) is tested in
//! the file of that implementation.

pub mod network;
pub mod site;

mod claims;
mod deliveries;
mod enrolment;
mod graph;
mod groups;
mod history;
mod host_keys;
mod isolation;
mod names;
mod statements;
mod views;
mod walk;

use model::{Designation, DocumentHash, Timestamp};
use serde_json::{Value, json};
use store::{DocumentRow, Result, RuleResultRow, SqlLimits, Store, Table, Transaction};

/// Makes an empty store.
pub type Factory<'f> = &'f dyn Fn() -> Box<dyn Store>;

type Part = fn(&mut dyn Store);

/// Runs every part, each on a store of its own, and says which one is running.
pub fn run(factory: Factory<'_>) {
    let parts: &[(&str, Part)] = &[
        ("hosts round trip", history::hosts_round_trip),
        ("CMA keys of hosts", host_keys::what_hosts_trust_is_kept_and_goes_with_them),
        ("members of rings", history::members_of_rings_are_kept),
        ("documents have periods", history::documents_have_periods),
        ("a clock set back", history::a_clock_set_back_keeps_periods_in_order),
        ("equal documents", history::equal_documents_start_no_period_and_are_stored_once),
        ("a wrong hash", history::a_wrong_hash_is_refused),
        ("rule results have periods", history::rule_results_have_periods),
        ("facts at past times", history::facts_at_past_times),
        ("a removed host", history::a_removed_host_keeps_its_history),
        ("savepoints", isolation::a_failed_savepoint_undoes_only_itself),
        ("drop without commit", isolation::dropping_without_commit_leaves_nothing),
        ("readers", isolation::a_reader_sees_only_what_is_committed),
        ("readers meanwhile", isolation::readers_work_while_the_writer_writes),
        ("cursors and settings", isolation::cursors_and_settings),
        ("outbox", deliveries::the_outbox_keeps_order_and_retries),
        ("giving up", deliveries::given_up_deliveries_are_kept),
        ("events", deliveries::events_are_listed_in_pages),
        ("package updates", graph::an_update_writes_only_the_difference),
        ("shared nodes", graph::shared_nodes_live_as_long_as_somebody_says_so),
        ("properties", graph::the_newest_claim_wins_and_other_properties_stay),
        ("edges of a node", graph::edges_of_a_node_tell_who_says_so),
        ("services", graph::services_are_told_with_who_uses_them),
        ("claims that end", claims::what_is_no_longer_said_goes),
        ("order of claims", claims::the_newest_claim_counts_whatever_came_last),
        ("what the key says", claims::what_the_key_says_stays_with_the_node),
        ("claims about hosts", claims::a_host_is_what_its_instances_say),
        ("sources of edges", claims::nodes_that_edges_only_start_at),
        ("a removed host's neighbours", claims::a_removed_host_leaves_what_others_say),
        ("networks", claims::one_address_in_two_networks),
        ("undone claims", claims::an_undone_claim_leaves_nothing),
        ("a node described twice", claims::one_document_says_one_thing),
        ("names of addresses", names::addresses_are_looked_up_again_and_forgotten),
        ("tags", enrolment::tags_belong_to_hosts),
        ("tokens", enrolment::a_token_counts_each_key_once),
        ("keys that wait or are revoked", enrolment::keys_wait_and_are_revoked),
        ("groups", groups::membership_is_replaced_and_keeps_since),
        ("loose edges", graph::an_edge_from_nowhere_is_refused),
        ("nodes of the graph", walk::nodes_are_found_by_number_key_and_kind),
        ("edges of the graph", walk::edges_are_read_in_both_directions_and_by_kind),
        ("many nodes of the graph", walk::more_nodes_than_one_statement_takes),
        ("views of links", views::links_lead_from_host_to_host),
        ("views of neighbours", views::neighbours_are_told_with_whose_they_are),
        ("views of containers", views::containers_belong_to_their_host),
        ("hosts that speak LLDP", views::a_host_that_speaks_lldp_is_no_other_device),
        ("when facts were true", views::facts_are_as_old_as_what_their_host_says),
        ("views", statements::every_view_answers_with_its_documented_columns),
        ("parameters", statements::parameters_are_bound_by_name),
        ("guards", statements::nothing_but_reading_is_possible),
        ("limits", statements::hostile_statements_are_stopped),
    ];
    for (name, part) in parts {
        println!("{name}");
        part(&mut *factory());
    }
}

pub fn host(name: &str) -> Designation {
    Designation::new(name).unwrap()
}

/// Small times, so that a failing test reads well.
pub fn at(micros: i64) -> Timestamp {
    Timestamp(micros)
}

/// Runs `work` in a transaction of its own and commits it.
pub fn commit(store: &mut dyn Store, work: impl FnOnce(&mut dyn Transaction) -> Result<()>) {
    let mut transaction = store.begin().unwrap();
    work(&mut *transaction).unwrap();
    transaction.commit().unwrap();
}

/// A document of `instance` with this `data`, current from `since` on.
pub fn document(instance: &str, data: Value, since: i64) -> (DocumentRow, String) {
    let body = json!({"data": data, "discovertype": instance, "instance": instance}).to_string();
    let row = DocumentRow {
        instance: instance.into(),
        discovertype: instance.trim_start_matches("_init_").into(),
        hash: DocumentHash::of(body.as_bytes()),
        changed_after: at(since - 2),
        seen: at(since - 1),
        since: at(since),
        until: None,
    };
    (row, body)
}

pub fn put(store: &mut dyn Store, name: &str, instance: &str, data: Value, since: i64) -> DocumentRow {
    let (row, body) = document(instance, data, since);
    commit(store, |t| t.put_document(&host(name), &row, &body));
    row
}

pub fn result(rule_id: &str, status: &str, score: f64, since: i64) -> RuleResultRow {
    RuleResultRow {
        rule_id: rule_id.into(),
        status: status.into(),
        category: "security".into(),
        severity: "medium".into(),
        score,
        values: json!({"$x": since}),
        note: String::new(),
        since: at(since),
        until: None,
    }
}

pub const LIMITS: SqlLimits = SqlLimits { rows: 1000, milliseconds: 5_000, bytes: 4_000_000 };

pub fn sql(store: &dyn Store, statement: &str) -> Table {
    store.reader().unwrap().sql(statement, &[], LIMITS).unwrap_or_else(|e| panic!("{statement}: {e}"))
}

/// First cell of the answer.
pub fn cell(store: &dyn Store, statement: &str) -> Value {
    sql(store, statement).rows[0][0].clone()
}
