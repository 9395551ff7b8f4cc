//! Where a device stands, as LLDP-MED tells it: coordinates (RFC 3825) or a postal address (RFC 4776).

use super::super::text;
use super::Bytes;
use serde_json::{Map, Value, json};

/// RFC 4776 3.4: names of the elements by their type.
const ELEMENTS: &[(u8, &str)] = &[
    (0, "language"),
    (1, "state"),
    (2, "county"),
    (3, "city"),
    (4, "city_division"),
    (5, "block"),
    (6, "street_group"),
    (16, "leading_street_direction"),
    (17, "trailing_street_suffix"),
    (18, "street_suffix"),
    (19, "house_number"),
    (20, "house_number_suffix"),
    (21, "landmark"),
    (22, "additional"),
    (23, "name"),
    (24, "postal_code"),
    (25, "building"),
    (26, "unit"),
    (27, "floor"),
    (28, "room"),
    (29, "place_type"),
    (30, "postal_community"),
    (31, "post_office_box"),
    (32, "additional_code"),
    (33, "seat"),
    (34, "street"),
    (35, "street_section"),
    (36, "street_branch"),
    (37, "street_sub_branch"),
    (38, "street_name_pre_modifier"),
    (39, "street_name_post_modifier"),
    (128, "script"),
];

/// Sixteen bytes: latitude and longitude in degrees, altitude in metres or floors, each with the number of its bits that
/// count, and the datum.
pub fn coordinates(mut bytes: Bytes<'_>) -> Option<Value> {
    let all = u128::from_be_bytes(bytes.array()?);
    // The highest bit is number 0, as in the RFC's drawing.
    let field = |from: u32, bits: u32| (all >> (128 - from - bits)) & ((1 << bits) - 1);
    let signed = |from: u32, bits: u32, fraction: u32| {
        let value = field(from, bits) as i64;
        let value = if value >> (bits - 1) & 1 == 1 { value - (1 << bits) } else { value };
        // Fewer than 53 bits: exact.
        value as f64 / (1u64 << fraction) as f64
    };
    // Nine digits tell any value of 25 bits behind the point apart.
    let rounded = |value: f64| (value * 1e9).round() / 1e9;
    let datum = match field(120, 8) {
        1 => "WGS84".to_owned(),
        2 => "NAD83/NAVD88".to_owned(),
        3 => "NAD83/MLLW".to_owned(),
        other => other.to_string(),
    };
    let mut told = json!({
        "latitude_degrees": rounded(signed(6, 34, 25)),
        "latitude_resolution_bits": field(0, 6) as u64,
        "longitude_degrees": rounded(signed(46, 34, 25)),
        "longitude_resolution_bits": field(40, 6) as u64,
        "altitude_resolution_bits": field(84, 6) as u64,
        "datum": datum,
    });
    match field(80, 4) {
        1 => told["altitude_metres"] = rounded(signed(90, 30, 8)).into(),
        2 => told["altitude_floors"] = rounded(signed(90, 30, 8)).into(),
        _ => {}
    }
    Some(told)
}

/// What it is the address of, the country, and elements; of a repeated element all values, one a line.
pub fn address(mut bytes: Bytes<'_>) -> Option<Value> {
    let length = usize::from(bytes.u8()?);
    let mut bytes = Bytes(bytes.take(length)?);
    let mut fields = Map::new();
    let what = match bytes.u8()? {
        0 => "DHCP server".to_owned(),
        1 => "network element".to_owned(),
        2 => "client".to_owned(),
        other => other.to_string(),
    };
    fields.insert("what".into(), what.into());
    fields.insert("country".into(), text::identity(bytes.take(2)?).into());
    while !bytes.is_empty() {
        let (kind, length) = (bytes.u8()?, usize::from(bytes.u8()?));
        let value = text::identity(bytes.take(length)?);
        let known = ELEMENTS.iter().find(|(number, _)| *number == kind);
        let name = known.map_or_else(|| format!("element_{kind}"), |(_, name)| (*name).to_owned());
        let value = match fields.get(&name).and_then(Value::as_str) {
            Some(before) => format!("{before}\n{value}"),
            None => value,
        };
        fields.insert(name, value.into());
    }
    Some(Value::Object(fields))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each value with the number of its bits, the first one highest.
    fn packed(fields: &[(i128, u32)]) -> [u8; 16] {
        let mut all = 0u128;
        for (value, bits) in fields {
            all = all << bits | (*value as u128 & ((1 << bits) - 1));
        }
        all.to_be_bytes()
    }

    #[test]
    fn coordinates_on_both_sides_of_zero() {
        let fixed = |degrees: f64| (degrees * 33_554_432.0).round() as i128;
        for (latitude, longitude, altitude) in [(48.20835, 16.3725, 171.5), (-33.8568, -70.65, -3.25)] {
            let bytes = packed(&[
                (20, 6),
                (fixed(latitude), 34),
                (18, 6),
                (fixed(longitude), 34),
                (1, 4),
                (9, 6),
                ((altitude * 256.0) as i128, 30),
                (1, 8),
            ]);
            let told = coordinates(Bytes(&bytes)).unwrap();
            let near = |name: &str, wanted: f64| (told[name].as_f64().unwrap() - wanted).abs() < 1e-7;
            assert!(near("latitude_degrees", latitude) && near("longitude_degrees", longitude), "{told}");
            assert!(near("altitude_metres", altitude) && told["datum"] == "WGS84", "{told}");
            assert_eq!(
                (&told["latitude_resolution_bits"], &told["longitude_resolution_bits"]),
                (&20.into(), &18.into())
            );
            assert!((0..16).all(|end| coordinates(Bytes(&bytes[..end])).is_none()));
        }
        let floors = packed(&[(0, 80), (2, 4), (0, 6), (4 * 256, 30), (9, 8)]);
        let told = coordinates(Bytes(&floors)).unwrap();
        assert_eq!((&told["altitude_floors"], &told["datum"]), (&4.0.into(), &"9".into()));
    }

    #[test]
    fn a_civic_address_is_read_and_its_lengths_are_checked() {
        let mut inside = vec![2, b'D', b'E'];
        for (kind, value) in [(3u8, "Berlin"), (34, "Unter den Linden"), (200, "x"), (3, "Mitte")] {
            inside.extend([kind, value.len() as u8]);
            inside.extend(value.bytes());
        }
        let whole = [&[inside.len() as u8][..], &inside].concat();
        let told = address(Bytes(&whole)).unwrap();
        assert_eq!(
            told,
            json!({"what": "client", "country": "DE", "city": "Berlin\nMitte", "street": "Unter den Linden",
                "element_200": "x"})
        );
        assert!((0..whole.len()).all(|end| address(Bytes(&whole[..end])).is_none()));
    }
}
