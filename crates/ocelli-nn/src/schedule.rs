//! Learning rates as functions of the step: nothing to save, nothing to resume.

use std::f64::consts::PI;
use std::fmt::Debug;

/// A learning rate for every step, counted from 0. A step may be a batch or an epoch, as the caller counts.
///
/// ```
/// use ocelli_nn::schedule::{Cosine, Schedule, WarmUp};
///
/// let schedule = WarmUp { steps: 10, start: 0.1, then: Cosine { initial: 1.0, last: 0.0, steps: 100 } };
/// let rates = [0, 5, 10, 60, 110].map(|step| (schedule.at(step) * 100.0).round() / 100.0);
/// assert_eq!(rates, [0.1, 0.55, 1.0, 0.5, 0.0]);
/// ```
pub trait Schedule: Debug + Send + Sync {
    /// The learning rate of this step.
    fn at(&self, step: usize) -> f64;
}

impl<S: Schedule + ?Sized> Schedule for Box<S> {
    fn at(&self, step: usize) -> f64 {
        (**self).at(step)
    }
}

/// Always the same.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Constant(pub f64);

impl Schedule for Constant {
    fn at(&self, _: usize) -> f64 {
        self.0
    }
}

/// Multiplied by `factor` at each milestone.
#[derive(Debug, Clone, PartialEq)]
pub struct Steps {
    /// Before the first milestone.
    pub initial: f64,
    /// Such as 0.1.
    pub factor: f64,
    /// The steps from which on another factor applies, in any order.
    pub milestones: Vec<usize>,
}

impl Schedule for Steps {
    fn at(&self, step: usize) -> f64 {
        let passed = self.milestones.iter().filter(|&&milestone| milestone <= step).count();
        self.initial * self.factor.powi(passed as i32)
    }
}

/// Half a cosine from `initial` down to `last` (Loshchilov and Hutter 2016, <https://arxiv.org/abs/1608.03983>).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cosine {
    /// At step 0.
    pub initial: f64,
    /// From step `steps` on.
    pub last: f64,
    /// How many steps it takes.
    pub steps: usize,
}

impl Schedule for Cosine {
    fn at(&self, step: usize) -> f64 {
        let progress = if step < self.steps { step as f64 / self.steps as f64 } else { 1.0 };
        self.last + (self.initial - self.last) * 0.5 * (1.0 + (PI * progress).cos())
    }
}

/// A straight climb to another schedule's first rate, then that schedule (Goyal et al. 2017,
/// <https://arxiv.org/abs/1706.02677>).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WarmUp<S> {
    /// How many steps the climb takes.
    pub steps: usize,
    /// Where it begins, as a share of the other schedule's first rate.
    pub start: f64,
    /// The schedule whose step 0 comes after the climb.
    pub then: S,
}

impl<S: Schedule> Schedule for WarmUp<S> {
    fn at(&self, step: usize) -> f64 {
        match step.checked_sub(self.steps) {
            Some(step) => self.then.at(step),
            None => {
                let progress = step as f64 / self.steps as f64;
                self.then.at(0) * (self.start + (1.0 - self.start) * progress)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_fall_at_their_milestones() {
        let schedule = Steps { initial: 0.1, factor: 0.1, milestones: vec![82, 123] };
        let rates = [0, 81, 82, 122, 123, 200].map(|step| schedule.at(step));
        let expected = [0.1, 0.1, 0.01, 0.01, 0.001, 0.001];
        assert!(rates.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{rates:?}");
    }

    #[test]
    fn the_edges_are_defined() {
        let empty = Cosine { initial: 1.0, last: 0.25, steps: 0 };
        assert_eq!(empty.at(0), 0.25);
        let none = WarmUp { steps: 0, start: 0.0, then: Constant(0.5) };
        assert_eq!((none.at(0), none.at(7)), (0.5, 0.5));
        let boxed: Box<dyn Schedule> = Box::new(WarmUp { steps: 4, start: 0.0, then: Constant(2.0) });
        assert_eq!([0, 1, 2, 3, 4].map(|step| boxed.at(step)), [0.0, 0.5, 1.0, 1.5, 2.0]);
    }
}
