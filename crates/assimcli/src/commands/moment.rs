//! Times as people type them.

use crate::Failure;
use model::Timestamp;
use std::time::Duration;

/// What another clock may be ahead of this one.
const AHEAD: Duration = Duration::from_secs(600);

/// The time given for an option: absolute, or `15m` before `now`.
pub fn read(option: &str, text: &str, now: Timestamp) -> Result<Timestamp, Failure> {
    let time = parse(text, now).ok_or_else(|| {
        Failure::new(format!("{option} {text:?} is no time"))
            .hint("Write 2026-11-23, \"2026-11-23 14:00\", or 15m for fifteen minutes ago.")
    })?;
    if time > now.plus(AHEAD) {
        return Err(Failure::new(format!("{option} {text:?} is in the future"))
            .hint(format!("It is {} now, by this machine's clock.", now.to_local_text())));
    }
    Ok(time)
}

/// `90s`, `15m`, `2h`, `7d` in seconds.
pub fn seconds(text: &str) -> Option<i64> {
    let unit = match text.as_bytes().last()? {
        b's' => 1,
        b'm' => 60,
        b'h' => 3600,
        b'd' => 86_400,
        _ => return None,
    };
    let number: i64 = text[..text.len() - 1].parse().ok().filter(|n| *n >= 0)?;
    number.checked_mul(unit)
}

fn parse(text: &str, now: Timestamp) -> Option<Timestamp> {
    if !text.ends_with(['s', 'm', 'h', 'd']) {
        return Timestamp::parse(text);
    }
    Some(Timestamp(now.0.checked_sub(seconds(text)?.checked_mul(1_000_000)?)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let now = Timestamp(10_000_000_000);
        assert_eq!(parse("15m", now), Some(Timestamp(10_000_000_000 - 900_000_000)));
        assert_eq!(parse("1970-01-01T00:00:01Z", now), Some(Timestamp(1_000_000)));
        for bad in ["", "m", "-5m", "soon", "99999999999999999999d", "é"] {
            assert_eq!(parse(bad, now), None, "{bad}");
        }
        assert!(read("--at", "soon", now).unwrap_err().message.contains("--at \"soon\""));
        let later = |seconds| now.plus(Duration::from_secs(seconds)).to_utc_text();
        assert!(read("--at", &later(601), now).unwrap_err().message.contains("in the future"));
        assert_eq!(read("--at", &later(60), now).unwrap(), now.plus(Duration::from_secs(60)));
    }

    #[test]
    fn lengths() {
        assert_eq!((seconds("90s"), seconds("2h"), seconds("7d")), (Some(90), Some(7200), Some(604_800)));
        for bad in ["", "h", "2", "-1h", "9223372036854775807d", "2026-11-23"] {
            assert_eq!(seconds(bad), None, "{bad}");
        }
    }
}
