//! This version and the one before understand each other: its bytes are read here, and ours by its shapes.

mod shapes;

use model::liveness::{Ask, Heard, Session, Watch};
use model::message::*;
use model::{DocumentHash, Timestamp};

/// Written by the version before; to be read for ever, or until it is no longer supported.
const FROM_NANOPROBE: [(&str, &str); 6] = [
    (
        "register",
        "8201818c01647765623150090909090909090909090909090909096f6e616e6f70726f626520302e312e301b0006608b015f3000241907c05820\
         cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd81826a5f696e69745f737368645820ababababababababababab\
         ababababababababababababababababababababab50040404040404040404040404040404041a0001117081816465746830",
    ),
    (
        "register without anything optional",
        "8201818901647765623150090909090909090909090909090909096f6e616e6f70726f626520302e312e301b0006608b015f3000241907c0f680",
    ),
    (
        "report",
        "82028187076a5f696e69745f737368645820abababababababababababababababababababababababababababababababab43010203010203",
    ),
    (
        "report of an instance that is gone",
        "82028187076a5f696e69745f737368645820ababababababababababababababababababababababababababababababababf6010203",
    ),
    ("goodbye", "820381816a484253485554444f574e"),
    ("heard", "820481820380"),
];

const FROM_CMA: [(&str, &str); 12] = [
    ("welcome", "8201818506816a5f696e69745f7373686481627b7d0809"),
    ("protocol", "8202818201626e6f"),
    ("designation", "8202818202626e6f"),
    ("key mismatch", "8202818203626e6f"),
    ("busy", "8202818204626e6f"),
    ("malformed", "8202818205626e6f"),
    ("ack", "8203818219012c8182026172"),
    ("farewell", "820480"),
    ("configure", "82058181627b7d"),
    ("watch", "8206818704051903e81905781902bc0680"),
    ("ask", "820781820506"),
    ("listen", "82088181816465746830"),
];

fn bytes(hex: &str) -> Vec<u8> {
    let pair = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(pair).collect()
}

fn register() -> Register {
    Register {
        protocol: 1,
        designation: "web1".into(),
        incarnation: Incarnation([9; 16]),
        software: "nanoprobe 0.1.0".into(),
        clock: Timestamp(1_795_000_000_000_000),
        started: Timestamp(-5),
        port: 1984,
        config: Some(DocumentHash([0xcd; 32])),
        documents: vec![KnownDocument { instance: "_init_sshd".into(), hash: DocumentHash([0xab; 32]) }],
        session: Some(Session([4; 16])),
        watch: Some(70_000),
        listen: Some(Listen { interfaces: vec!["eth0".into()] }),
        token: None,
        machine: None,
        cma_keys: None,
    }
}

#[test]
fn what_its_nanoprobe_says_is_read() {
    let bare =
        Register { config: None, documents: vec![], session: None, watch: None, listen: None, ..register() };
    let report = Report {
        sequence: 7,
        instance: "_init_sshd".into(),
        hash: DocumentHash([0xab; 32]),
        body: Some(vec![1, 2, 3].into()),
        changed_after: Timestamp(1),
        seen: Timestamp(2),
        superseded: 3,
    };
    let expected = [
        ToCma::Register(register()),
        ToCma::Register(bare),
        ToCma::Report(report.clone()),
        ToCma::Report(Report { body: None, ..report }),
        ToCma::Goodbye(Goodbye { reason: "HBSHUTDOWN".into() }),
        ToCma::Heard(Heard { generation: 3, observations: vec![] }),
    ];
    for ((name, hex), expected) in FROM_NANOPROBE.into_iter().zip(expected) {
        assert_eq!(decode::<ToCma>(&bytes(hex)).unwrap(), expected, "{name}");
    }
}

#[test]
fn what_its_cma_says_is_read() {
    let refused = |reason| FromCma::Refused(Refused { reason, text: "no".into() });
    let configure = Configure { json: "{}".into() };
    let watch = Watch {
        generation: 4,
        own_number: 5,
        interval_milliseconds: 1000,
        suspect_milliseconds: 1400,
        probe_milliseconds: 700,
        probes: 6,
        partners: vec![],
    };
    let expected = [
        FromCma::Welcome(Welcome {
            last_sequence: 6,
            wanted: vec!["_init_sshd".into()],
            configure: Some(configure.clone()),
            clock: Timestamp(8),
            started: Timestamp(9),
        }),
        refused(RefusedReason::Protocol),
        refused(RefusedReason::Designation),
        refused(RefusedReason::KeyMismatch),
        refused(RefusedReason::Busy),
        refused(RefusedReason::Malformed),
        FromCma::Ack(Ack { sequence: 300, rejected: vec![Rejection { sequence: 2, reason: "r".into() }] }),
        FromCma::Farewell,
        FromCma::Configure(configure),
        FromCma::Watch(watch),
        FromCma::Ask(Ask { question: 5, about: 6 }),
        FromCma::Listen(Listen { interfaces: vec!["eth0".into()] }),
    ];
    for ((name, hex), expected) in FROM_CMA.into_iter().zip(expected) {
        assert_eq!(decode::<FromCma>(&bytes(hex)).unwrap(), expected, "{name}");
    }
}

/// What is frozen here is what that version wrote: else the tests below would prove nothing.
#[test]
fn the_frozen_shapes_are_those_of_its_bytes() {
    for (name, hex) in FROM_NANOPROBE {
        let message: shapes::ToCma = decode(&bytes(hex)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(encode(&message), bytes(hex), "{name}");
    }
    for (name, hex) in FROM_CMA {
        let message: shapes::FromCma = decode(&bytes(hex)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(encode(&message), bytes(hex), "{name}");
    }
}

#[test]
fn its_cma_reads_a_registration_of_ours() {
    let ours = Register {
        token: Some("assim-0123".into()),
        machine: Some(Machine {
            installation: Some(MachineMark([1; 16])),
            hardware: None,
            boot: Some(MachineMark([3; 16])),
        }),
        cma_keys: Some(CmaKeys::unsigned(vec![CmaKey { number: 1, key: [7; 32] }])),
        ..register()
    };
    let shapes::ToCma::Register(read) = decode(&encode(&ToCma::Register(ours))).unwrap() else { panic!() };
    let shapes::ToCma::Register(before) = decode(&bytes(FROM_NANOPROBE[0].1)).unwrap() else { panic!() };
    assert_eq!(read, before, "what it does not know is skipped");
}

#[test]
fn its_nanoprobe_reads_all_that_is_meant_for_it() {
    for (name, hex) in FROM_CMA {
        let ours: FromCma = decode(&bytes(hex)).unwrap();
        assert!(decode::<shapes::FromCma>(&encode(&ours)).is_ok(), "{name}");
    }
    // Why these are for a nanoprobe that tells its machine only.
    for reason in [RefusedReason::Pending, RefusedReason::Token, RefusedReason::Revoked] {
        let refused = FromCma::Refused(Refused { reason, text: "no".into() });
        assert!(decode::<shapes::FromCma>(&encode(&refused)).is_err(), "{reason:?}");
    }
    let keys = FromCma::Keys(CmaKeys::default());
    assert!(decode::<shapes::FromCma>(&encode(&keys)).is_err());
}
