//! File modes and umasks: octal text as discoveries deliver it (`0644`), or a number that already has the bits.

use super::super::operand::{integer, truth};
use super::{Check, Function, example};
use serde_json::Value;

/// Permissions, set-id and sticky bits; the file type above them does not matter.
const MODE_BITS: u32 = 0o7777;

pub(super) const FUNCTIONS: &[Function] = &[
    Function {
        name: "MODE_LE",
        minimum_arguments: 2,
        maximum_arguments: Some(2),
        summary: "the mode has no bit that the octal mode given lacks",
        examples: &[
            example("MODE_LE($/etc/shadow.octal, 0640)", r#"{"/etc/shadow": {"octal": "0600"}}"#, "true"),
            example("MODE_LE($/etc/shadow.octal, 0640)", r#"{"/etc/shadow": {"octal": "0604"}}"#, "false"),
        ],
        check: Check::OctalMode(1),
        run: |call| truth(mode(call.argument(0)?)? & !mode(call.argument(1)?)? == 0),
    },
    Function {
        name: "MODE_EQ",
        minimum_arguments: 2,
        maximum_arguments: Some(2),
        summary: "the mode is exactly the octal mode given",
        examples: &[
            example("MODE_EQ($m, 01777)", r#"{"m": "1777"}"#, "true"),
            example("MODE_EQ($m, 01777)", r#"{"m": 511}"#, "false"),
        ],
        check: Check::OctalMode(1),
        run: |call| truth(mode(call.argument(0)?)? == mode(call.argument(1)?)?),
    },
    Function {
        name: "UMASK_GE",
        minimum_arguments: 2,
        maximum_arguments: Some(2),
        summary: "the umask has every bit of the octal umask given",
        examples: &[
            example("UMASK_GE($UMASK, 027)", r#"{"UMASK": 63}"#, "true"),
            example("UMASK_GE($UMASK, 027)", r#"{"UMASK": "022"}"#, "false"),
        ],
        check: Check::OctalMode(1),
        run: |call| truth(mode(call.argument(1)?)? & !mode(call.argument(0)?)? == 0),
    },
];

fn mode(value: &Value) -> Option<u32> {
    let bits = match value {
        Value::String(text) => {
            let text = text.trim();
            let octal =
                (1..=7).contains(&text.len()) && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
            u32::from_str_radix(text, 8).ok().filter(|_| octal)?
        }
        number => u32::try_from(integer(number)?).ok()?,
    };
    Some(bits & MODE_BITS)
}
