//! The types of medium attachment units (RFC 3636, RFC 4836 and IANA-MAU-MIB, `dot3MauType`): what a link runs at.

/// One type: the name of its medium in IEEE 802.3, and what it means.
pub struct Mau {
    number: u16,
    /// 0 where it depends on the line.
    pub speed_mbits: u32,
    direction: u8,
    pub media: &'static str,
}

impl Mau {
    /// `full`, `half`, or nothing where the type leaves it open.
    pub fn duplex(&self) -> Option<&'static str> {
        match self.direction {
            FULL => Some("full"),
            HALF => Some("half"),
            _ => None,
        }
    }
}

const UNKNOWN: u8 = 0;
const HALF: u8 = 1;
const FULL: u8 = 2;

pub fn of(number: u16) -> Option<&'static Mau> {
    TYPES.binary_search_by_key(&number, |mau| mau.number).ok().and_then(|at| TYPES.get(at))
}

const fn mau(number: u16, speed_mbits: u32, direction: u8, media: &'static str) -> Mau {
    Mau { number, speed_mbits, direction, media }
}

/// In order of number.
static TYPES: &[Mau] = &[
    mau(1, 10, UNKNOWN, "AUI"),
    mau(2, 10, UNKNOWN, "10BASE5"),
    mau(3, 10, UNKNOWN, "FOIRL"),
    mau(4, 10, UNKNOWN, "10BASE2"),
    mau(5, 10, UNKNOWN, "10BASE-T"),
    mau(6, 10, UNKNOWN, "10BASE-FP"),
    mau(7, 10, UNKNOWN, "10BASE-FB"),
    mau(8, 10, UNKNOWN, "10BASE-FL"),
    mau(9, 10, UNKNOWN, "10BROAD36"),
    mau(10, 10, HALF, "10BASE-T"),
    mau(11, 10, FULL, "10BASE-T"),
    mau(12, 10, HALF, "10BASE-FL"),
    mau(13, 10, FULL, "10BASE-FL"),
    mau(14, 100, UNKNOWN, "100BASE-T4"),
    mau(15, 100, HALF, "100BASE-TX"),
    mau(16, 100, FULL, "100BASE-TX"),
    mau(17, 100, HALF, "100BASE-FX"),
    mau(18, 100, FULL, "100BASE-FX"),
    mau(19, 100, HALF, "100BASE-T2"),
    mau(20, 100, FULL, "100BASE-T2"),
    mau(21, 1000, HALF, "1000BASE-X"),
    mau(22, 1000, FULL, "1000BASE-X"),
    mau(23, 1000, HALF, "1000BASE-LX"),
    mau(24, 1000, FULL, "1000BASE-LX"),
    mau(25, 1000, HALF, "1000BASE-SX"),
    mau(26, 1000, FULL, "1000BASE-SX"),
    mau(27, 1000, HALF, "1000BASE-CX"),
    mau(28, 1000, FULL, "1000BASE-CX"),
    mau(29, 1000, HALF, "1000BASE-T"),
    mau(30, 1000, FULL, "1000BASE-T"),
    mau(31, 10_000, FULL, "10GBASE-X"),
    mau(32, 10_000, FULL, "10GBASE-LX4"),
    mau(33, 10_000, FULL, "10GBASE-R"),
    mau(34, 10_000, FULL, "10GBASE-ER"),
    mau(35, 10_000, FULL, "10GBASE-LR"),
    mau(36, 10_000, FULL, "10GBASE-SR"),
    mau(37, 10_000, FULL, "10GBASE-W"),
    mau(38, 10_000, FULL, "10GBASE-EW"),
    mau(39, 10_000, FULL, "10GBASE-LW"),
    mau(40, 10_000, FULL, "10GBASE-SW"),
    mau(41, 10_000, FULL, "10GBASE-CX4"),
    mau(42, 0, UNKNOWN, "2BASE-TL"),
    mau(43, 0, UNKNOWN, "10PASS-TS"),
    mau(44, 100, FULL, "100BASE-BX10-D"),
    mau(45, 100, FULL, "100BASE-BX10-U"),
    mau(46, 100, FULL, "100BASE-LX10"),
    mau(47, 1000, FULL, "1000BASE-BX10-D"),
    mau(48, 1000, FULL, "1000BASE-BX10-U"),
    mau(49, 1000, FULL, "1000BASE-LX10"),
    mau(50, 1000, FULL, "1000BASE-PX10-D"),
    mau(51, 1000, FULL, "1000BASE-PX10-U"),
    mau(52, 1000, FULL, "1000BASE-PX20-D"),
    mau(53, 1000, FULL, "1000BASE-PX20-U"),
    mau(54, 10_000, FULL, "10GBASE-T"),
    mau(55, 10_000, FULL, "10GBASE-LRM"),
    mau(56, 1000, FULL, "1000BASE-KX"),
    mau(57, 10_000, FULL, "10GBASE-KX4"),
    mau(58, 10_000, FULL, "10GBASE-KR"),
    mau(59, 10_000, FULL, "10/1GBASE-PRX-D1"),
    mau(60, 10_000, FULL, "10/1GBASE-PRX-D2"),
    mau(61, 10_000, FULL, "10/1GBASE-PRX-D3"),
    mau(62, 10_000, FULL, "10/1GBASE-PRX-U1"),
    mau(63, 10_000, FULL, "10/1GBASE-PRX-U2"),
    mau(64, 10_000, FULL, "10/1GBASE-PRX-U3"),
    mau(65, 10_000, FULL, "10GBASE-PR-D1"),
    mau(66, 10_000, FULL, "10GBASE-PR-D2"),
    mau(67, 10_000, FULL, "10GBASE-PR-D3"),
    mau(68, 10_000, FULL, "10GBASE-PR-U1"),
    mau(69, 10_000, FULL, "10GBASE-PR-U3"),
    mau(70, 40_000, FULL, "40GBASE-KR4"),
    mau(71, 40_000, FULL, "40GBASE-CR4"),
    mau(72, 40_000, FULL, "40GBASE-SR4"),
    mau(73, 40_000, FULL, "40GBASE-FR"),
    mau(74, 40_000, FULL, "40GBASE-LR4"),
    mau(75, 100_000, FULL, "100GBASE-CR10"),
    mau(76, 100_000, FULL, "100GBASE-SR10"),
    mau(77, 100_000, FULL, "100GBASE-LR4"),
    mau(78, 100_000, FULL, "100GBASE-ER4"),
    mau(79, 1000, FULL, "1000BASE-T1"),
    mau(80, 1000, FULL, "1000BASE-PX30-D"),
    mau(81, 1000, FULL, "1000BASE-PX30-U"),
    mau(82, 1000, FULL, "1000BASE-PX40-D"),
    mau(83, 1000, FULL, "1000BASE-PX40-U"),
    mau(84, 10_000, FULL, "10/1GBASE-PRX-D4"),
    mau(85, 10_000, FULL, "10/1GBASE-PRX-U4"),
    mau(86, 10_000, FULL, "10GBASE-PR-D4"),
    mau(87, 10_000, FULL, "10GBASE-PR-U4"),
    mau(88, 25_000, FULL, "25GBASE-CR"),
    mau(89, 25_000, FULL, "25GBASE-CR-S"),
    mau(90, 25_000, FULL, "25GBASE-KR"),
    mau(91, 25_000, FULL, "25GBASE-KR-S"),
    mau(92, 25_000, FULL, "25GBASE-R"),
    mau(93, 25_000, FULL, "25GBASE-SR"),
    mau(94, 25_000, FULL, "25GBASE-T"),
    mau(95, 40_000, FULL, "40GBASE-ER4"),
    mau(96, 40_000, FULL, "40GBASE-R"),
    mau(97, 40_000, FULL, "40GBASE-T"),
    mau(98, 100_000, FULL, "100GBASE-CR4"),
    mau(99, 100_000, FULL, "100GBASE-KR4"),
    mau(100, 100_000, FULL, "100GBASE-KP4"),
    mau(101, 100_000, FULL, "100GBASE-R"),
    mau(102, 100_000, FULL, "100GBASE-SR4"),
    mau(103, 2500, FULL, "2.5GBASE-T"),
    mau(104, 5000, FULL, "5GBASE-T"),
    mau(105, 100, FULL, "100BASE-T1"),
    mau(109, 2500, FULL, "2.5GBASE-KX"),
    mau(110, 2500, FULL, "2.5GBASE-X"),
    mau(111, 5000, FULL, "5GBASE-KR"),
    mau(114, 25_000, FULL, "25GBASE-LR"),
    mau(115, 25_000, FULL, "25GBASE-ER"),
    mau(116, 50_000, FULL, "50GBASE-R"),
    mau(117, 50_000, FULL, "50GBASE-CR"),
    mau(118, 50_000, FULL, "50GBASE-KR"),
    mau(119, 50_000, FULL, "50GBASE-SR"),
    mau(120, 50_000, FULL, "50GBASE-FR"),
    mau(121, 50_000, FULL, "50GBASE-LR"),
    mau(122, 50_000, FULL, "50GBASE-ER"),
    mau(123, 100_000, FULL, "100GBASE-CR2"),
    mau(124, 100_000, FULL, "100GBASE-KR2"),
    mau(125, 100_000, FULL, "100GBASE-SR2"),
    mau(126, 100_000, FULL, "100GBASE-DR"),
    mau(127, 200_000, FULL, "200GBASE-R"),
    mau(128, 200_000, FULL, "200GBASE-DR4"),
    mau(129, 200_000, FULL, "200GBASE-FR4"),
    mau(130, 200_000, FULL, "200GBASE-LR4"),
    mau(131, 200_000, FULL, "200GBASE-CR4"),
    mau(132, 200_000, FULL, "200GBASE-KR4"),
    mau(133, 200_000, FULL, "200GBASE-SR4"),
    mau(134, 200_000, FULL, "200GBASE-ER4"),
    mau(135, 400_000, FULL, "400GBASE-R"),
    mau(137, 400_000, FULL, "400GBASE-DR4"),
    mau(138, 400_000, FULL, "400GBASE-FR8"),
    mau(139, 400_000, FULL, "400GBASE-LR8"),
    mau(140, 400_000, FULL, "400GBASE-ER8"),
    mau(145, 100_000, FULL, "100GBASE-FR1"),
    mau(146, 100_000, FULL, "100GBASE-LR1"),
    mau(147, 400_000, FULL, "400GBASE-FR4"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_found_by_number() {
        assert!(TYPES.is_sorted_by(|a, b| a.number < b.number));
        for (number, media, speed_mbits, duplex) in [
            (5, "10BASE-T", 10, None),
            (16, "100BASE-TX", 100, Some("full")),
            (29, "1000BASE-T", 1000, Some("half")),
            (30, "1000BASE-T", 1000, Some("full")),
            (40, "10GBASE-SW", 10_000, Some("full")),
            (54, "10GBASE-T", 10_000, Some("full")),
            (94, "25GBASE-T", 25_000, Some("full")),
            (147, "400GBASE-FR4", 400_000, Some("full")),
        ] {
            let found = of(number).unwrap();
            assert_eq!((found.media, found.speed_mbits, found.duplex()), (media, speed_mbits, duplex));
        }
        assert!([0, 106, 148, 0xffff].into_iter().all(|number| of(number).is_none()));
    }
}
