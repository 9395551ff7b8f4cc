//! Which CMA keys hosts trust.

use super::*;
use model::message::{CmaKey, CmaKeys};
use site::host_row;
use store::HostKeysRow;

pub fn what_hosts_trust_is_kept_and_goes_with_them(store: &mut dyn Store) {
    let row = |name: &str, numbers: &[u32]| HostKeysRow {
        designation: host(name),
        trusted: Some(CmaKeys::unsigned(
            numbers.iter().map(|n| CmaKey { number: *n, key: [*n as u8; 32] }).collect(),
        )),
        answered: None,
        is_warned: false,
        since: at(100),
    };
    let silent = HostKeysRow { trusted: None, ..row("web2", &[]) };
    commit(store, |t| {
        t.put_host(&host_row("web1", "up", ""))?;
        t.put_host(&host_row("web2", "up", ""))?;
        assert_eq!(t.host_keys(&host("web1"))?, None);
        t.put_host_keys(&row("web1", &[0, 1]))?;
        t.put_host_keys(&silent)
    });
    let answered = HostKeysRow {
        answered: Some(DocumentHash([7; 32])),
        is_warned: true,
        since: at(200),
        ..row("web1", &[1, 99_999])
    };
    commit(store, |t| {
        assert_eq!(t.host_keys(&host("web1"))?, Some(row("web1", &[0, 1])));
        t.put_host_keys(&answered)
    });
    let all = |store: &dyn Store| store.reader().unwrap().all_host_keys().unwrap();
    assert_eq!(all(store), [answered, silent.clone()]);
    commit(store, |t| t.remove_host(&host("web1"), at(300)));
    assert_eq!(all(store), [silent], "a host that comes again begins anew");
}
