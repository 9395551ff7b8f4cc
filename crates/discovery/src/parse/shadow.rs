//! What may be told of a password field and of the dates beside it, see shadow(5) and crypt(5). The field itself
//! never leaves this file.

use super::users::{LINE_BYTES, MAX_BYTES, is_name};
use super::{Errors, integer, lines};

/// What a password field lets people do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nothing is asked: whoever knows the name is in.
    Empty,
    /// Begins with `!` or `*`: no password fits. Keys and other ways in are not touched by that.
    Locked,
    /// A hash.
    Set,
    /// A lone `x`: the field of /etc/passwd and /etc/group that points to the shadow file.
    Elsewhere,
    /// Anything else, which no password fits.
    Unusable,
}

impl State {
    pub fn of(field: &str) -> State {
        match field {
            "" => State::Empty,
            "x" => State::Elsewhere,
            _ if field.starts_with(['!', '*']) => State::Locked,
            _ if algorithm(field).is_some() => State::Set,
            _ => State::Unusable,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            State::Empty => "empty",
            State::Locked => "locked",
            State::Set => "set",
            State::Elsewhere => "x",
            State::Unusable => "unusable",
        }
    }
}

/// The algorithm of a hash, also of one behind the `!` of a locked account.
pub fn algorithm(field: &str) -> Option<&'static str> {
    let hash = field.trim_start_matches('!');
    if let Some(rest) = hash.strip_prefix('$') {
        let method = rest.split(['$', ',']).next().unwrap_or(rest);
        return match method {
            "1" => Some("md5"),
            "2" | "2a" | "2b" | "2x" | "2y" => Some("bcrypt"),
            "3" => Some("nt"),
            "5" => Some("sha256"),
            "6" => Some("sha512"),
            "7" => Some("scrypt"),
            "y" => Some("yescrypt"),
            "gy" => Some("gost-yescrypt"),
            "md5" => Some("sunmd5"),
            "sha1" => Some("sha1"),
            _ => None,
        };
    }
    let is_salted = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'/');
    match (hash.len(), hash.strip_prefix('_')) {
        (13, None) if is_salted(hash) => Some("des"),
        (20, Some(rest)) if is_salted(rest) => Some("bsdi"),
        _ => None,
    }
}

/// One line of shadow(5) without its secret. Days count from 1970-01-01.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shadow {
    pub name: String,
    pub state: State,
    pub algorithm: Option<&'static str>,
    pub last_change: Option<i64>,
    pub min_days: Option<i64>,
    pub max_days: Option<i64>,
    pub warn_days: Option<i64>,
    pub inactive_days: Option<i64>,
    pub expire: Option<i64>,
}

/// The entries of a shadow(5) text, and how many lines hand over to NIS. No error shows any part of a line.
pub fn parse(text: &str, file: &str, errors: &mut Errors) -> (Vec<Shadow>, usize) {
    let mut found = Vec::new();
    let mut nis = 0;
    let mut bytes = 0;
    for (number, line) in lines(text, file, errors) {
        if line.starts_with('#') {
            continue;
        }
        if line.starts_with(['+', '-']) {
            nis += 1;
            continue;
        }
        let fields: Vec<&str> = line.splitn(10, ':').collect();
        if !(2..=9).contains(&fields.len()) || !is_name(fields[0]) {
            errors.at(file, number, "not a name, a password and 7 numbers");
            continue;
        }
        bytes += fields[0].len() + LINE_BYTES;
        if bytes > MAX_BYTES {
            errors.at(file, number, "too many accounts, the rest is left out");
            break;
        }
        let mut wrong = false;
        let mut days = |index: usize| {
            let text = fields.get(index).map_or("", |field| field.trim());
            let value = integer(text).filter(|days| (-1..=1_000_000).contains(days));
            wrong |= value.is_none() && !text.is_empty();
            value
        };
        found.push(Shadow {
            name: fields[0].to_owned(),
            state: State::of(fields[1]),
            algorithm: algorithm(fields[1]),
            last_change: days(2),
            min_days: days(3),
            max_days: days(4),
            warn_days: days(5),
            inactive_days: days(6),
            expire: days(7),
        });
        if wrong {
            errors.at(file, number, "a number of days that is none");
        }
    }
    (found, nis)
}

/// `2026-12-31` for a number of days since 1970-01-01 (proleptic Gregorian calendar).
pub fn date(days: i64) -> String {
    // Eras of 400 years that begin on 1 March, so that the leap day comes last.
    let shifted = days + 719_468;
    let (era, day) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day_of_month:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_told_apart() {
        for (field, state, hash) in [
            ("", State::Empty, None),
            ("*", State::Locked, None),
            ("!!", State::Locked, None),
            ("!*", State::Locked, None),
            ("!$6$s$h", State::Locked, Some("sha512")),
            ("x", State::Elsewhere, None),
            ("$y$j9T$s$h", State::Set, Some("yescrypt")),
            ("$6$rounds=5000$s$h", State::Set, Some("sha512")),
            ("$5$s$h", State::Set, Some("sha256")),
            ("$1$s$h", State::Set, Some("md5")),
            ("$2b$12$x", State::Set, Some("bcrypt")),
            ("abcdefghijk./", State::Set, Some("des")),
            ("_abcdefghijk./abcdef", State::Set, Some("bsdi")),
            ("NP", State::Unusable, None),
            ("$99$x", State::Unusable, None),
        ] {
            assert_eq!((State::of(field), algorithm(field)), (state, hash), "{field}");
        }
    }

    #[test]
    fn entries() {
        let mut errors = Errors::default();
        let text =
            "root:$y$j9T$s$h:19000:0:99999:7:::\nann:!:19001:1:365:7:30:20000:\n+::::::::\nbad\nb:*:x:::::\n";
        let (found, nis) = parse(text, "f", &mut errors);
        assert_eq!((found.len(), nis), (3, 1));
        let ann = &found[1];
        assert_eq!(
            (ann.last_change, ann.min_days, ann.inactive_days, ann.expire),
            (Some(19001), Some(1), Some(30), Some(20000))
        );
        assert_eq!(
            errors.into_list(),
            ["f line 4: not a name, a password and 7 numbers", "f line 5: a number of days that is none"]
        );
    }

    #[test]
    fn dates() {
        for (days, text) in [
            (0, "1970-01-01"),
            (19_000, "2022-01-08"),
            (11_016, "2000-02-29"),
            (-1, "1969-12-31"),
            (20_088, "2024-12-31"),
        ] {
            assert_eq!(date(days), text);
        }
    }
}
