//! Numbers as people read them.

use std::time::Duration;

/// A whole number with its thousands apart: `11,689,512`.
pub fn count(n: impl TryInto<u64>) -> String {
    let digits = n.try_into().unwrap_or(u64::MAX).to_string();
    let mut grouped = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A size with three significant digits and its factor of a thousand: `11.7 M`.
pub fn size(n: u64) -> String {
    let (mut value, mut factor) = (n as f64, "");
    for next in ["k", "M", "G", "T"] {
        if value < 999.5 {
            break;
        }
        (value, factor) = (value / 1000.0, next);
    }
    if factor.is_empty() {
        return n.to_string();
    }
    let decimals = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    format!("{value:.decimals$} {factor}")
}

/// A share as a percentage.
pub fn percent(share: f64, decimals: usize) -> String {
    format!("{:.decimals$} %", share * 100.0)
}

/// Seconds, minutes or hours.
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{:.1} s", time.as_secs_f64()),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// A bar of at most `width` characters for a share of 0..1.
pub fn bar(share: f64, width: usize) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (share.clamp(0.0, 1.0) * (width * 8) as f64).round() as usize;
    "█".repeat(eighths / 8) + EIGHTHS[eighths % 8]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_scaled() {
        assert_eq!([0u64, 999, 1_000, 11_689_512].map(count), ["0", "999", "1,000", "11,689,512"]);
        let sizes = [0, 999, 1_000, 11_689_512, 999_499, 999_500, 25_557_032, 253_149_824, 11_513_626_624].map(size);
        let expected = ["0", "999", "1.00 k", "11.7 M", "999 k", "1.00 M", "25.6 M", "253 M", "11.5 G"];
        assert_eq!(sizes, expected.map(String::from));
    }

    #[test]
    fn bars_have_eighths() {
        assert_eq!([0.0, 0.5, 1.0, 2.0, f64::NAN].map(|share| bar(share, 2)), ["", "█", "██", "██", ""]);
        assert_eq!(bar(0.3, 2), "▋");
    }

    #[test]
    fn durations_change_their_unit() {
        let texts = [1.25, 75.0, 3_700.0].map(|s| duration(Duration::from_secs_f64(s)));
        assert_eq!(texts, ["1.2 s", "1 min 15 s", "1 h 01 min"]);
    }
}
