//! `$name` in one object.

use serde_json::Value;

/// The whole name as a top-level key, else as a path whose steps try the longest key first: file names with dots are
/// keys at every level. A step is `key` or `key[n]`; a negative n counts from the end. Null is not found.
pub(crate) fn lookup<'a>(object: &'a Value, name: &str) -> Option<&'a Value> {
    if let Some(found) = step(object, name) {
        return Some(found);
    }
    let mut end = name.len();
    while let Some(dot) = name[..end].rfind('.') {
        // Every place in the data is reached by one sequence of steps only, so trying shorter keys when a longer one
        // leads nowhere costs at most one visit of each place.
        let (left, rest) = (&name[..dot], &name[dot + 1..]);
        if let Some(found) = step(object, left).and_then(|value| lookup(value, rest)) {
            return Some(found);
        }
        end = dot;
    }
    None
}

fn step<'a>(object: &'a Value, key: &str) -> Option<&'a Value> {
    let map = object.as_object()?;
    if let Some(found) = map.get(key) {
        return (!found.is_null()).then_some(found);
    }
    let (bare, indexes) = key.split_at(key.find('[')?);
    let mut value = map.get(bare)?;
    for index in indexes.strip_suffix(']')?.split(']') {
        let index: i64 = index.strip_prefix('[')?.trim().parse().ok()?;
        let list = value.as_array()?;
        let length = i64::try_from(list.len()).ok()?;
        let position = if index < 0 { length.checked_add(index)? } else { index };
        value = list.get(usize::try_from(position).ok()?)?;
    }
    (!value.is_null()).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn longest_keys_come_first_at_every_level() {
        let data =
            json!({"a.b": {"c.d": 1}, "a": {"b": {"c.d": 2, "e": 3}}, "l": [[1, 2], {"x.y": 4}], "n[0]": 5});
        assert_eq!(lookup(&data, "a.b.c.d"), Some(&json!(1)));
        assert_eq!(lookup(&data, "a.b.e"), Some(&json!(3)), "the longer key leads nowhere");
        assert_eq!(lookup(&data, "l[0][-1]"), Some(&json!(2)));
        assert_eq!(lookup(&data, "l[1].x.y"), Some(&json!(4)));
        assert_eq!(lookup(&data, "n[0]"), Some(&json!(5)));
        for absent in
            ["", ".", "l[2]", "l[-3]", "l[x]", "l[", "l]", "l[1", "a.", "a[0]", "l[9999999999999999999999]"]
        {
            assert_eq!(lookup(&data, absent), None, "{absent}");
        }
    }
}
