//! Axes: a range of numbers with round bounds and labelled ticks.

/// Where numbers lie on an axis, from 0 (its start) to 1 (its end).
pub(super) struct Axis {
    low: f64,
    high: f64,
    scale: Scale,
    /// Values and their labels, in order.
    pub ticks: Vec<(f64, String)>,
}

/// What grows evenly along an axis.
#[derive(Clone, Copy)]
enum Scale {
    Linear,
    Logarithmic,
    /// The logarithm of what is lacking to 100, so that 90, 99 and 99.9 are evenly spaced.
    Lacking,
}

impl Axis {
    /// The epochs 1 to `last`, at most about ten of them labelled.
    pub fn epochs(last: usize) -> Self {
        let step = round_step(last as f64 / 10.0).max(1.0) as usize;
        let mut ticks: Vec<usize> = (1..=last / step).map(|i| i * step).collect();
        if ticks.first() != Some(&1) {
            ticks.insert(0, 1);
        }
        let margin = if last > 1 { 0.0 } else { 0.5 };
        let ticks = ticks.into_iter().map(|epoch| (epoch as f64, epoch.to_string())).collect();
        Axis { low: 1.0 - margin, high: last.max(1) as f64 + margin, scale: Scale::Linear, ticks }
    }

    /// From the round number below `values` to the one above, but never above `limit`.
    pub fn linear(values: &[f64], limit: f64) -> Self {
        let (low, high) = bounds(values).unwrap_or((0.0, 1.0));
        let step = round_step(((high - low) / 5.0).max(limit.min(high.abs()).max(1e-9) * 1e-3));
        let first = (low / step).floor() as i64;
        let last = ((high.min(limit) / step).ceil() as i64).max(first + 1);
        let decimals = (-step.log10().floor()).max(0.0) as usize;
        let ticks = (first..=last).map(|i| i as f64 * step).filter(|&v| v <= limit + step * 1e-6);
        let ticks: Vec<_> = ticks.map(|v| (v, format!("{v:.decimals$}"))).collect();
        Axis { low: first as f64 * step, high: (last as f64 * step).min(limit), scale: Scale::Linear, ticks }
    }

    /// A logarithmic axis with ticks at 1, 2 and 5 times the powers of ten, or at those powers alone when there are
    /// many. Only positive values count.
    pub fn logarithmic(values: &[f64]) -> Self {
        let positive: Vec<f64> = values.iter().copied().filter(|&v| v > 0.0).collect();
        let (low, high) = bounds(&positive).unwrap_or((0.1, 1.0));
        let decades = low.log10().floor() as i32..=high.log10().floor() as i32 + 1;
        let rounds = |factors: &[f64]| -> Vec<f64> {
            let all: Vec<f64> = decades.clone().flat_map(|d| factors.iter().map(move |f| f * 10f64.powi(d))).collect();
            let first = all.iter().rposition(|&v| v <= low * (1.0 + 1e-9)).unwrap_or(0);
            let last = all.iter().position(|&v| v >= high * (1.0 - 1e-9)).unwrap_or(all.len() - 1).max(first + 1);
            all[first..=last.min(all.len() - 1)].to_vec()
        };
        let mut ticks = rounds(&[1.0, 2.0, 5.0]);
        let (start, end) = (ticks[0], ticks[ticks.len() - 1]);
        if ticks.len() > 9 {
            ticks = rounds(&[1.0]).into_iter().filter(|v| (start..=end).contains(v)).collect();
        }
        let ticks = ticks.into_iter().map(|v| (v, significant(v))).collect();
        Axis { low: start, high: end, scale: Scale::Logarithmic, ticks }
    }

    /// An axis of percentages that gives those near 100 room: logarithmic in what they lack. If some lack nothing,
    /// its end stands for 100.
    pub fn lacking(percentages: &[f64]) -> Self {
        let lack = |v: f64| if v.is_finite() { 100.0 - v } else { f64::NAN };
        let mut lacking: Vec<f64> = percentages.iter().map(|&v| lack(v)).collect();
        let full = lacking.iter().any(|&v| v <= 0.0);
        if full {
            let smallest = lacking.iter().copied().filter(|&v| v > 0.0).fold(2.0, f64::min);
            lacking.push(smallest / 2.0);
        }
        let axis = Axis::logarithmic(&lacking);
        let label = |v: f64, text: &str| format!("{:.*}", text.split_once('.').map_or(0, |(_, d)| d.len()), 100.0 - v);
        let mut ticks: Vec<_> = axis.ticks.iter().rev().map(|(v, text)| (100.0 - v, label(*v, text))).collect();
        if full && let Some(end) = ticks.last_mut().filter(|tick| tick.0 == 100.0 - axis.low) {
            end.1 = "100".into();
        }
        Axis { low: 100.0 - axis.high, high: 100.0 - axis.low, scale: Scale::Lacking, ticks }
    }

    /// Where `value` lies, 0..1; values outside are put on the border.
    pub fn position(&self, value: f64) -> f64 {
        let scale = |v: f64| match self.scale {
            Scale::Linear => v,
            Scale::Logarithmic => v.max(f64::MIN_POSITIVE).log10(),
            Scale::Lacking => -(100.0 - v).max(f64::MIN_POSITIVE).log10(),
        };
        let (low, high) = (scale(self.low), scale(self.high));
        ((scale(value) - low) / (high - low)).clamp(0.0, 1.0)
    }
}

fn bounds(values: &[f64]) -> Option<(f64, f64)> {
    let finite = values.iter().copied().filter(|v| v.is_finite());
    finite.fold(None, |b, v| b.map_or(Some((v, v)), |(low, high): (f64, f64)| Some((low.min(v), high.max(v)))))
}

/// The number of 1, 2, 5, 10, … that is nearest above `step`.
fn round_step(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|f| f * power >= step * (1.0 - 1e-9)).unwrap_or(10.0);
    factor * power
}

/// A round number with no more digits than it needs.
fn significant(value: f64) -> String {
    let decimals = (-value.log10().floor() + 1e-9).max(0.0) as usize;
    if decimals > 5 { format!("{value:.0e}") } else { format!("{value:.decimals$}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|tick| tick.1.as_str()).collect()
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(labels(&Axis::epochs(1)), ["1"]);
        assert_eq!(labels(&Axis::epochs(5)), ["1", "2", "3", "4", "5"]);
        assert_eq!(labels(&Axis::epochs(30)), ["1", "5", "10", "15", "20", "25", "30"]);
        assert_eq!(labels(&Axis::linear(&[91.3, 99.2], 100.0)), ["90", "92", "94", "96", "98", "100"]);
        assert_eq!(labels(&Axis::linear(&[100.0], 100.0)).last(), Some(&"100.0"));
        assert_eq!(labels(&Axis::linear(&[0.13, 2.2], f64::MAX)), ["0.0", "0.5", "1.0", "1.5", "2.0", "2.5"]);
        assert_eq!(labels(&Axis::logarithmic(&[0.03, 1.4, f64::NAN])), ["0.02", "0.05", "0.1", "0.2", "0.5", "1", "2"]);
        assert_eq!(labels(&Axis::logarithmic(&[0.0003, 1.4])), ["0.001", "0.01", "0.1", "1"]);
        assert_eq!(labels(&Axis::lacking(&[41.0, 99.2])), ["0", "50", "80", "90", "95", "98", "99", "99.5"]);
        assert_eq!(labels(&Axis::lacking(&[85.0, 98.8, 100.0])), ["80", "90", "95", "98", "99", "100"]);
    }

    #[test]
    fn positions_run_from_zero_to_one() {
        for axis in [Axis::linear(&[0.1, 0.9], 1.0), Axis::logarithmic(&[0.01, 10.0]), Axis::epochs(7)] {
            assert_eq!((axis.position(-5.0), axis.position(1e9)), (0.0, 1.0));
        }
        let axis = Axis::lacking(&[90.0, 99.9]);
        assert!((axis.position(99.0) - 0.5).abs() < 1e-9 && axis.position(100.0) == 1.0);
        let axis = Axis::logarithmic(&[0.01, 1.0]);
        assert!((axis.position(0.1) - 0.5).abs() < 1e-9);
        assert_eq!(Axis::epochs(1).position(1.0), 0.5);
        for values in [&[][..], &[f64::NAN], &[0.0], &[3.0]] {
            assert!(Axis::linear(values, f64::MAX).position(1.0).is_finite());
            assert!(Axis::logarithmic(values).position(1.0).is_finite());
            assert!(Axis::lacking(values).position(1.0).is_finite());
        }
    }
}
