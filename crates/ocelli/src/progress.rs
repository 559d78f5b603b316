//! Progress: a bar on a terminal, plain lines elsewhere. Bars, hints and warnings go to standard error, so that what
//! a command finds out can be piped.

use std::io::{IsTerminal, Write, stderr, stdout};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use ocelli_train::loader::Skipped;
use ocelli_train::{EpochMetrics, Observer, Outline, Step};

use crate::output::{Style, count, duration, percent};

/// Without a terminal, a line is written for a long epoch at most so often.
const PLAIN_INTERVAL: Duration = Duration::from_secs(10);

/// Prints a training run: a line an epoch to standard output, the epoch in progress as a bar.
pub struct TrainingProgress {
    bar: Bar,
    epochs: usize,
    batches: usize,
    skipped: usize,
    last_line: Instant,
}

impl TrainingProgress {
    /// Before the first step.
    pub fn new() -> Self {
        TrainingProgress { bar: Bar::none(), epochs: 0, batches: 0, skipped: 0, last_line: Instant::now() }
    }

    /// How many pictures could not be read.
    pub fn skipped(&self) -> usize {
        self.skipped
    }

    /// Takes the bar away.
    pub fn clear(&self) {
        self.bar.clear();
    }
}

impl Observer for TrainingProgress {
    fn started(&mut self, outline: &Outline) {
        (self.epochs, self.batches) = (outline.epochs, outline.batches);
        if outline.epochs_done >= outline.epochs {
            return;
        }
        if outline.epochs_done + outline.batches_done > 0 {
            let (epoch, step) = (outline.epochs_done + 1, outline.batches_done + 1);
            let text = format!("Resuming in epoch {epoch} of {}, at step {step} of {}.", self.epochs, self.batches);
            self.bar.line_out(&text);
        }
        let head = "epoch     train loss   accuracy   val loss   accuracy   images/s      time";
        self.bar.line_out(&Style::stdout().strong(head));
    }

    fn step(&mut self, step: &Step) {
        if step.batch == 1 || self.bar.is_none() {
            self.bar.clear();
            self.bar = Bar::new(step.batches, &format!("epoch {}/{}", step.epoch, self.epochs));
            self.last_line = Instant::now();
        }
        let Step { loss, accuracy, images_per_second, frozen, .. } = *step;
        let frozen = if frozen { ", classifier only" } else { "" };
        let state = format!(
            "loss {loss:.4}, accuracy {}, {} images/s{frozen}",
            percent(accuracy, 1),
            count(images_per_second.round() as u64)
        );
        self.bar.set(step.batch, &state);
        if !self.bar.is_visible() && self.last_line.elapsed() >= PLAIN_INTERVAL {
            self.last_line = Instant::now();
            let (epoch, batch, batches) = (step.epoch, step.batch, step.batches);
            self.bar.line_err(&format!("epoch {epoch}/{}: step {batch}/{batches}, {state}", self.epochs));
        }
    }

    fn validated(&mut self, done: usize, total: usize) {
        self.bar.set(self.batches, &format!("validating {} of {}", count(done), count(total)));
    }

    fn skipped(&mut self, picture: &Skipped) {
        self.skipped += 1;
        self.bar.line_err(&warning(&format!("skipped {}", picture.reason)));
    }

    fn epoch(&mut self, m: &EpochMetrics, best: bool) {
        self.bar.clear();
        self.bar = Bar::none();
        let line = format!(
            "{:>4}/{:<4} {:>11.4} {:>10} {:>10.4} {:>10} {:>10} {:>9}",
            m.epoch,
            self.epochs,
            m.train_loss,
            percent(m.train_accuracy, 2),
            m.val_loss,
            percent(m.val_accuracy, 2),
            count(m.images_per_second.round() as u64),
            duration(Duration::from_secs_f64(m.seconds.max(0.0))),
        );
        let mark = if best { Style::stdout().good("  best") } else { String::new() };
        self.bar.line_out(&format!("{line}{mark}"));
    }
}

/// A line that begins with `warning: `.
pub fn warning(text: &str) -> String {
    format!("{} {text}", Style::stderr().warning("warning:"))
}

/// A bar on standard error if that is a terminal; nothing otherwise.
pub struct Bar(Option<ProgressBar>);

impl Bar {
    /// No bar.
    pub fn none() -> Self {
        Bar(None)
    }

    /// A bar of `total` steps.
    pub fn new(total: usize, name: &str) -> Self {
        let bar = ProgressBar::with_draw_target(Some(total as u64), ProgressDrawTarget::stderr());
        let colour = if Style::stderr().has_colour() { ".green" } else { "" };
        let template = format!("{{prefix}} {{bar:16{colour}}} {{pos}}/{{len}} {{wide_msg}}");
        let style = ProgressStyle::with_template(&template).map(|style| style.progress_chars("█▉▊▋▌▍▎▏ "));
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_prefix(name.to_owned());
        Bar(Some(bar))
    }

    /// Whether there is no bar.
    pub fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// Whether anybody sees it.
    pub fn is_visible(&self) -> bool {
        stderr().is_terminal()
    }

    /// Moves it on.
    pub fn set(&self, position: usize, message: &str) {
        if let Some(bar) = &self.0 {
            bar.set_message(message.to_owned());
            bar.set_position(position as u64);
        }
    }

    /// Takes it away.
    pub fn clear(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }

    /// A line on standard output above the bar. A reader that has gone does not stop a training run.
    pub fn line_out(&self, text: &str) {
        self.above(|| {
            let _ = writeln!(stdout(), "{text}");
        });
    }

    /// A line on standard error above the bar.
    pub fn line_err(&self, text: &str) {
        self.above(|| {
            let _ = writeln!(stderr(), "{text}");
        });
    }

    fn above(&self, print: impl FnOnce()) {
        match &self.0 {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }
}
