use super::*;
use proptest::prelude::*;

fn number16(order: Order, value: u16) -> [u8; 2] {
    if order == Order::Little { value.to_le_bytes() } else { value.to_be_bytes() }
}

fn number32(order: Order, value: u32) -> [u8; 4] {
    if order == Order::Little { value.to_le_bytes() } else { value.to_be_bytes() }
}

fn classic_file(order: Order, is_nano: bool, link_type: u32, frames: &[(u32, u32, &[u8], u32)]) -> Vec<u8> {
    let word = |value| number32(order, value);
    let magic = if is_nano { 0xa1b2_3c4d } else { 0xa1b2_c3d4 };
    let mut file = word(magic).to_vec();
    file.extend([number16(order, 2), number16(order, 4)].concat());
    file.extend([word(0), word(0), word(65535), word(link_type)].concat());
    for (seconds, fraction, bytes, wire_bytes) in frames {
        file.extend([word(*seconds), word(*fraction), word(bytes.len() as u32), word(*wire_bytes)].concat());
        file.extend(*bytes);
    }
    file
}

fn block(order: Order, kind: u32, content: &[u8]) -> Vec<u8> {
    let mut content = content.to_vec();
    content.resize(content.len().next_multiple_of(4), 0);
    let length = number32(order, content.len() as u32 + 12);
    [&number32(order, kind)[..], &length, &content, &length].concat()
}

fn section(order: Order) -> Vec<u8> {
    let version = [number16(order, 1), number16(order, 0)].concat();
    block(
        order,
        next_generation::SECTION,
        &[&number32(order, 0x1a2b_3c4d)[..], &version, &[0xff; 8]].concat(),
    )
}

fn interface(order: Order, link_type: u16, options: &[u8]) -> Vec<u8> {
    let head = [number16(order, link_type), number16(order, 0)].concat();
    block(order, 1, &[&head[..], &number32(order, 60), options].concat())
}

fn enhanced(order: Order, interface: u32, time: u64, bytes: &[u8], wire_bytes: u32) -> Vec<u8> {
    let word = |value| number32(order, value);
    let head = [
        word(interface),
        word((time >> 32) as u32),
        word(time as u32),
        word(bytes.len() as u32),
        word(wire_bytes),
    ];
    block(order, 6, &[&head.concat()[..], bytes].concat())
}

fn read(file: &[u8]) -> Result<Vec<Frame>, Unreadable> {
    Frames::open(file)?.collect()
}

fn why(file: &[u8]) -> String {
    read(file).map(|frames| panic!("{frames:?}")).unwrap_or_else(|why| why.to_string())
}

#[test]
fn classic_captures_of_all_kinds() {
    for order in [Order::Little, Order::Big] {
        for (is_nano, fraction) in [(false, 250), (true, 250_999)] {
            let file = classic_file(order, is_nano, 1, &[(7, fraction, b"abc", 3), (8, 0, b"de", 900)]);
            let frames = read(&file).unwrap();
            assert_eq!(
                frames,
                [
                    Frame { number: 1, microseconds: 7_000_250, bytes: b"abc".to_vec(), wire_bytes: 3 },
                    Frame { number: 2, microseconds: 8_000_000, bytes: b"de".to_vec(), wire_bytes: 900 },
                ]
            );
        }
    }
    assert!(read(&classic_file(Order::Big, false, 1, &[])).unwrap().is_empty());
}

#[test]
fn new_captures_of_all_kinds() {
    for order in [Order::Little, Order::Big] {
        let nanoseconds = [&number16(order, 9)[..], &number16(order, 1), &[9, 0, 0, 0]].concat();
        let named = [&number16(order, 2)[..], &number16(order, 5), b"eth0\0\0\0\0", &nanoseconds].concat();
        let simple = [&number32(order, 200)[..], &[7; 60]].concat();
        let file = [
            section(order),
            interface(order, 1, &[]),
            interface(order, 1, &named),
            block(order, 5, b"statistics"),
            enhanced(order, 0, 7_000_250, b"abcde", 5),
            enhanced(order, 1, 8_000_000_999, b"ab", 900),
            block(order, 3, &simple),
            section(order),
            interface(order, 113, &[]),
        ]
        .concat();
        let frames = read(&file).unwrap();
        assert_eq!(
            frames,
            [
                Frame { number: 1, microseconds: 7_000_250, bytes: b"abcde".to_vec(), wire_bytes: 5 },
                Frame { number: 2, microseconds: 8_000_000, bytes: b"ab".to_vec(), wire_bytes: 900 },
                Frame { number: 3, microseconds: 0, bytes: vec![7; 60], wire_bytes: 200 },
            ]
        );
        // The new section has interfaces of its own.
        let other = [file, enhanced(order, 0, 1, b"x", 1)].concat();
        assert!(why(&other).contains("link type 113"), "{}", why(&other));
    }
}

#[test]
fn binary_fractions_of_a_second() {
    let order = Order::Little;
    let units = [&number16(order, 9)[..], &number16(order, 1), &[0x80 | 10, 0, 0, 0]].concat();
    let file =
        [section(order), interface(order, 1, &units), enhanced(order, 0, 3 * 1024 + 512, b"x", 1)].concat();
    assert_eq!(read(&file).unwrap()[0].microseconds, 3_500_000);
}

#[test]
fn what_is_no_ethernet_capture_is_refused() {
    assert!(why(b"").contains("too short"));
    assert!(why(b"#!/bin/sh").contains("no capture"));
    let wifi = classic_file(Order::Little, false, 105, &[(0, 0, b"x", 1)]);
    assert!(why(&wifi).contains("link type 105"));
    let orphan = [section(Order::Big), enhanced(Order::Big, 0, 0, b"x", 1)].concat();
    assert!(why(&orphan).contains("interface 0"));
    let mut unordered = section(Order::Big);
    unordered[8] = 0;
    assert!(why(&unordered).contains("byte order"));
}

#[test]
fn frames_before_a_defect_are_told() {
    let whole = classic_file(Order::Little, false, 1, &[(1, 0, b"abc", 3), (2, 0, b"def", 3)]);
    for end in 43..whole.len() {
        let frames: Vec<_> = Frames::open(&whole[..end]).unwrap().collect();
        assert!(matches!(frames[0], Ok(Frame { number: 1, .. })), "{end}");
        let is_clean = end == 24 + 16 + 3;
        assert_eq!(frames.len(), if is_clean { 1 } else { 2 }, "{end}");
        assert!(
            frames
                .get(1)
                .is_none_or(|last| last.as_ref().is_err_and(|why| why.to_string().contains("frame 1")))
        );
    }
    let mut enormous = whole;
    enormous[24 + 19 + 8..24 + 19 + 12].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(why(&enormous).contains("4294967295 bytes"));
}

#[test]
fn of_a_frame_that_is_too_long_the_beginning_is_kept() {
    let long = vec![1; 100_000];
    let frames =
        read(&classic_file(Order::Little, false, 1, &[(1, 0, &long, 100_000), (2, 0, b"x", 1)])).unwrap();
    assert_eq!((frames[0].bytes.len(), frames[0].wire_bytes), (MAX_FRAME_BYTES + 1, 100_000));
    assert_eq!((frames[1].number, frames[1].bytes.as_slice()), (2, &b"x"[..]));
}

proptest! {
    #[test]
    fn any_bytes_are_survived(start in 0usize..6, bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let magic = [
            vec![],
            classic_file(Order::Little, false, 1, &[]),
            classic_file(Order::Big, true, 1, &[]),
            section(Order::Little),
            [section(Order::Big), interface(Order::Big, 1, &[])].concat(),
            [section(Order::Little), interface(Order::Little, 1, &[]), enhanced(Order::Little, 0, 9, b"abc", 3)].concat(),
        ];
        crate::link::any_capture(&[&magic[start][..], &bytes].concat());
    }

    #[test]
    fn a_flipped_bit_is_survived(at in 0usize..10_000, bit in 0u8..8, is_new in any::<bool>()) {
        let order = Order::Little;
        let mut file = if is_new {
            [section(order), interface(order, 1, &[0; 8]), enhanced(order, 0, 9, b"abcd", 4)].concat()
        } else {
            classic_file(order, false, 1, &[(1, 0, b"abc", 3), (2, 0, b"def", 3)])
        };
        let at = at % file.len();
        file[at] ^= 1 << bit;
        crate::link::any_capture(&file);
    }
}
