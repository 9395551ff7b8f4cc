//! How wide a text is when nobody can be asked: by the widths of DejaVu Sans, which is wider than what else stands for
//! `sans-serif`, so that a text which fits here fits everywhere.

/// Advance widths of ASCII from the space to `~`, in thousandths of the size.
const PLAIN: [u16; 95] = [
    318, 401, 460, 838, 636, 950, 780, 275, 390, 390, 500, 838, 318, 361, 318, 337, 636, 636, 636, 636, 636,
    636, 636, 636, 636, 636, 337, 337, 838, 838, 838, 531, 1000, 684, 686, 698, 770, 632, 575, 775, 752, 295,
    295, 656, 557, 863, 748, 787, 603, 787, 695, 635, 611, 732, 684, 989, 685, 611, 685, 390, 337, 390, 838,
    500, 500, 613, 635, 550, 635, 615, 352, 635, 634, 278, 278, 579, 278, 974, 634, 612, 635, 635, 411, 521,
    392, 634, 592, 818, 592, 592, 525, 636, 337, 636, 838,
];

/// The same, bold.
const BOLD: [u16; 95] = [
    348, 456, 521, 838, 696, 1002, 872, 306, 457, 457, 523, 838, 380, 415, 380, 365, 696, 696, 696, 696, 696,
    696, 696, 696, 696, 696, 400, 400, 838, 838, 838, 580, 1000, 774, 762, 734, 830, 683, 683, 821, 837, 372,
    372, 775, 637, 995, 837, 850, 733, 850, 770, 720, 682, 812, 774, 1103, 771, 724, 725, 457, 365, 457, 838,
    500, 500, 675, 716, 593, 716, 678, 435, 716, 712, 343, 343, 665, 343, 1042, 712, 687, 716, 716, 493, 595,
    478, 712, 652, 924, 645, 652, 582, 712, 365, 712, 838,
];

/// A font size with its weight.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Font {
    pub size: f64,
    pub is_bold: bool,
}

impl Font {
    pub const fn plain(size: f64) -> Font {
        Font { size, is_bold: false }
    }

    pub const fn bold(size: f64) -> Font {
        Font { size, is_bold: true }
    }

    /// Width of a text in pixels.
    pub fn width(self, text: &str) -> f64 {
        text.chars().map(|c| self.advance(c)).sum()
    }

    /// The text, or as much of its beginning as fits into `width` with `…` after it.
    pub fn fitted(self, text: &str, width: f64) -> String {
        if self.width(text) <= width {
            return text.to_owned();
        }
        let mut left = width - self.advance('…');
        let mut kept = String::new();
        for c in text.chars() {
            left -= self.advance(c);
            if left < 0.0 {
                break;
            }
            kept.push(c);
        }
        kept.push('…');
        kept
    }

    fn advance(self, c: char) -> f64 {
        let table = if self.is_bold { &BOLD } else { &PLAIN };
        let code = u32::from(c);
        let known = code.checked_sub(32).and_then(|index| table.get(index as usize)).copied();
        // Letters of other alphabets are narrower than this, ideographs and pictographs too.
        let width = known.unwrap_or(if code < 0x1100 { 1000 } else { 1300 });
        f64::from(width) * self.size / 1000.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_cut() {
        let font = Font::plain(10.0);
        assert_eq!(font.width("Il"), 2.95 + 2.78);
        assert!(Font::bold(10.0).width("web1") > font.width("web1"));
        assert_eq!(font.fitted("web1", 100.0), "web1");
        let cut = font.fitted("a-very-long-name", 50.0);
        assert!(cut.ends_with('…') && font.width(&cut) <= 50.0 && cut.len() > 5, "{cut}");
        assert_eq!(font.fitted("日本語日本語", 30.0), "日…");
    }
}
