//! `curves.png`: loss and accuracy over the epochs, side by side.
//!
//! Drawn at three times its size and shrunk, since the backend does not smooth lines; the font is built in, so that
//! the picture is the same on every machine.

use std::io;
use std::sync::Once;

use image::codecs::png::{CompressionType, FilterType as PngFilter, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::axis::Axis;
use super::{EpochMetrics, best_epoch};

const WIDTH: i32 = 1440;
const HEIGHT: i32 = 600;
/// How many times larger than the picture it is drawn.
const OVERSAMPLING: i32 = 3;

const GROUND: RGBColor = RGBColor(255, 255, 255);
const INK: RGBColor = RGBColor(31, 41, 55);
const QUIET: RGBColor = RGBColor(107, 114, 128);
const GRID: RGBColor = RGBColor(229, 231, 235);
const TRAINING: RGBColor = RGBColor(148, 163, 184);
const VALIDATION: RGBColor = RGBColor(37, 99, 235);
const BEST: RGBColor = RGBColor(234, 88, 12);

type Area<'a> = DrawingArea<BitMapBackend<'a>, Shift>;
type Failure<'a> = DrawingAreaErrorKind<<BitMapBackend<'a> as DrawingBackend>::ErrorType>;

/// The curves of a run as a PNG file of 1440 × 600 pixels: training and validation loss and accuracy, with the best
/// epoch marked. A loss that spans more than a factor of ten has a logarithmic axis; so has an accuracy, by its
/// distance to 100 %. `title` is written above.
pub fn curves_png(title: &str, history: &[EpochMetrics]) -> io::Result<Vec<u8>> {
    register_fonts();
    let (width, height) = ((WIDTH * OVERSAMPLING) as u32, (HEIGHT * OVERSAMPLING) as u32);
    let mut pixels = vec![0; width as usize * height as usize * 3];
    {
        let area = BitMapBackend::with_buffer(&mut pixels, (width, height)).into_drawing_area();
        draw(&area, title, history).and_then(|()| area.present()).map_err(|e| io::Error::other(e.to_string()))?;
    }
    let mut png = Vec::new();
    PngEncoder::new_with_quality(&mut png, CompressionType::Best, PngFilter::Adaptive)
        .write_image(&shrunk(&pixels), WIDTH as u32, HEIGHT as u32, ExtendedColorType::Rgb8)
        .map_err(io::Error::other)?;
    Ok(png)
}

/// The picture at its own size: each pixel the mean of those drawn for it.
fn shrunk(pixels: &[u8]) -> Vec<u8> {
    let (width, height, times) = (WIDTH as usize, HEIGHT as usize, OVERSAMPLING as usize);
    let mut small = Vec::with_capacity(width * height * 3);
    for i in 0..width * height * 3 {
        let (y, x, channel) = (i / (width * 3), i / 3 % width, i % 3);
        let drawn =
            |dy: usize, dx: usize| u32::from(pixels[((y * times + dy) * width * times + x * times + dx) * 3 + channel]);
        let sum: u32 = (0..times * times).map(|k| drawn(k / times, k % times)).sum();
        small.push((sum / (times * times) as u32) as u8);
    }
    small
}

fn register_fonts() {
    static ONCE: Once = Once::new();
    let fonts: [(FontStyle, &'static [u8]); 2] = [
        (FontStyle::Normal, include_bytes!("../../assets/Roboto-Latin.ttf")),
        (FontStyle::Bold, include_bytes!("../../assets/Roboto-Medium-Latin.ttf")),
    ];
    // A font that is refused makes drawing fail with an error of its own.
    ONCE.call_once(|| {
        fonts.into_iter().for_each(|(style, bytes)| drop(plotters::style::register_font("Roboto", style, bytes)))
    });
}

fn draw<'a>(area: &Area<'a>, title: &str, history: &[EpochMetrics]) -> Result<(), Failure<'a>> {
    area.fill(&GROUND)?;
    let canvas = Canvas { area };
    canvas.text(title, (56, 26), 25, FontStyle::Bold, &INK, HPos::Left)?;
    canvas.text(&subtitle(history), (56, 60), 16, FontStyle::Normal, &QUIET, HPos::Left)?;

    let of = |f: fn(&EpochMetrics) -> f64| -> Vec<f64> { history.iter().map(f).collect() };
    let losses = [of(|m| m.train_loss), of(|m| m.val_loss)];
    let accuracies = [of(|m| 100.0 * m.train_accuracy), of(|m| 100.0 * m.val_accuracy)];
    let (axis, name) = loss_axis(&losses.concat());
    let best = best_epoch(history).map(|m| m.epoch);
    let epochs = Axis::epochs(history.last().map_or(1, |m| m.epoch));
    let half = WIDTH / 2;
    let panel = |left, right| Panel { canvas: &canvas, left, right, top: 142, bottom: HEIGHT - 62, epochs: &epochs };
    panel(76, half - 28).draw(name, &axis, &losses, history, best)?;
    let axis = accuracy_axis(&accuracies.concat());
    panel(half + 60, WIDTH - 44).draw("Accuracy, %", &axis, &accuracies, history, best)
}

/// Accuracies that rise to nearly 100 would end in one flat line.
fn accuracy_axis(accuracies: &[f64]) -> Axis {
    let (low, high) = accuracies.iter().fold((100.0, 0.0), |(low, high): (f64, f64), &a| (low.min(a), high.max(a)));
    if 100.0 - low > 10.0 * (100.0 - high) { Axis::lacking(accuracies) } else { Axis::linear(accuracies, 100.0) }
}

fn loss_axis(losses: &[f64]) -> (Axis, &'static str) {
    let positive = losses.iter().copied().filter(|l| *l > 0.0 && l.is_finite());
    let (low, high) = positive.fold((f64::MAX, 0.0), |(low, high): (f64, f64), l| (low.min(l), high.max(l)));
    if high > 10.0 * low {
        (Axis::logarithmic(losses), "Loss, logarithmic")
    } else {
        (Axis::linear(&[losses, &[0.0]].concat(), f64::MAX), "Loss")
    }
}

fn subtitle(history: &[EpochMetrics]) -> String {
    let Some(best) = best_epoch(history) else { return "no epoch has ended yet".into() };
    let seconds: f64 = history.iter().map(|m| m.seconds).sum();
    let time = match seconds {
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    };
    let epochs = if history.len() == 1 { "1 epoch".into() } else { format!("{} epochs", history.len()) };
    let accuracy = 100.0 * best.val_accuracy;
    format!("{epochs} in {time} · best validation accuracy {accuracy:.2} % in epoch {}", best.epoch)
}

/// Draws in units of the final picture.
struct Canvas<'c, 'a> {
    area: &'c Area<'a>,
}

impl<'a> Canvas<'_, 'a> {
    fn text(
        &self,
        text: &str,
        at: (i32, i32),
        size: i32,
        style: FontStyle,
        color: &RGBColor,
        anchor: HPos,
    ) -> Result<(), Failure<'a>> {
        let font = FontDesc::new(FontFamily::Name("Roboto"), (size * OVERSAMPLING) as f64, style);
        let style = font.color(color).pos(Pos::new(anchor, VPos::Center));
        // The backend centres the em square, which lies a little above the middle of the letters.
        self.area.draw_text(text, &style, (at.0 * OVERSAMPLING, at.1 * OVERSAMPLING + size * OVERSAMPLING / 8))
    }

    fn line(&self, points: Vec<(f64, f64)>, color: &RGBColor, width: f64) -> Result<(), Failure<'a>> {
        let scale = OVERSAMPLING as f64;
        let points: Vec<_> =
            points.iter().map(|p| ((p.0 * scale).round() as i32, (p.1 * scale).round() as i32)).collect();
        self.area.draw(&PathElement::new(points, color.stroke_width((width * scale).round() as u32)))
    }

    fn dot(&self, at: (f64, f64), radius: f64, color: &RGBColor) -> Result<(), Failure<'a>> {
        let scale = OVERSAMPLING as f64;
        let at = ((at.0 * scale).round() as i32, (at.1 * scale).round() as i32);
        self.area.draw(&Circle::new(at, (radius * scale).round() as i32, color.filled()))
    }
}

/// One diagram: its place on the canvas and the axis of epochs.
struct Panel<'p, 'c, 'a> {
    canvas: &'p Canvas<'c, 'a>,
    left: i32,
    right: i32,
    top: i32,
    bottom: i32,
    epochs: &'p Axis,
}

impl<'a> Panel<'_, '_, 'a> {
    fn x(&self, epoch: f64) -> f64 {
        self.left as f64 + self.epochs.position(epoch) * (self.right - self.left) as f64
    }

    fn y(&self, axis: &Axis, value: f64) -> f64 {
        self.bottom as f64 - axis.position(value) * (self.bottom - self.top) as f64
    }

    /// `values` are those of training and of validation.
    fn draw(
        &self,
        name: &str,
        axis: &Axis,
        values: &[Vec<f64>; 2],
        history: &[EpochMetrics],
        best: Option<usize>,
    ) -> Result<(), Failure<'a>> {
        self.grid(axis)?;
        self.canvas.text(name, (self.left, self.top - 30), 18, FontStyle::Bold, &INK, HPos::Left)?;
        self.legend()?;
        let best = history.iter().position(|m| Some(m.epoch) == best);
        if let Some(best) = best {
            let x = self.x(history[best].epoch as f64);
            let dashes = (self.top..self.bottom).step_by(8).map(|y| (y as f64, (y + 4).min(self.bottom) as f64));
            for (from, to) in dashes {
                self.canvas.line(vec![(x, from), (x, to)], &BEST, 1.0)?;
            }
        }
        for (values, (color, width)) in values.iter().zip([(TRAINING, 2.0), (VALIDATION, 2.5)]) {
            let shown = history.iter().zip(values).filter(|(_, v)| v.is_finite());
            let points: Vec<_> = shown.map(|(m, &v)| (self.x(m.epoch as f64), self.y(axis, v))).collect();
            if points.len() <= 40 {
                points.iter().try_for_each(|&at| self.canvas.dot(at, width + 0.8, &color))?;
            }
            self.canvas.line(points, &color, width)?;
        }
        if let Some((best, value)) = best.map(|best| (best, values[1][best])).filter(|b| b.1.is_finite()) {
            let at = (self.x(history[best].epoch as f64), self.y(axis, value));
            self.canvas.dot(at, 7.0, &GROUND)?;
            self.canvas.dot(at, 5.5, &BEST)?;
        }
        Ok(())
    }

    fn grid(&self, axis: &Axis) -> Result<(), Failure<'a>> {
        let (left, right, bottom) = (self.left as f64, self.right as f64, self.bottom as f64);
        for (value, label) in &axis.ticks {
            let y = self.y(axis, *value);
            self.canvas.line(vec![(left, y), (right, y)], &GRID, 1.0)?;
            self.canvas.text(label, (self.left - 10, y as i32), 14, FontStyle::Normal, &QUIET, HPos::Right)?;
        }
        for (epoch, label) in &self.epochs.ticks {
            let x = self.x(*epoch);
            self.canvas.line(vec![(x, bottom), (x, bottom + 5.0)], &QUIET, 1.0)?;
            self.canvas.text(label, (x as i32, self.bottom + 17), 14, FontStyle::Normal, &QUIET, HPos::Center)?;
        }
        self.canvas.line(vec![(left, bottom), (right, bottom)], &QUIET, 1.0)?;
        let middle = (self.left + self.right) / 2;
        self.canvas.text("Epoch", (middle, self.bottom + 42), 15, FontStyle::Normal, &QUIET, HPos::Center)
    }

    fn legend(&self) -> Result<(), Failure<'a>> {
        let y = self.top - 30;
        for (from_right, color, name) in
            [(262, TRAINING, "training"), (168, VALIDATION, "validation"), (62, BEST, "best")]
        {
            let x = self.right - from_right;
            self.canvas.dot((x as f64, y as f64), 5.0, &color)?;
            self.canvas.text(name, (x + 13, y), 15, FontStyle::Normal, &INK, HPos::Left)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::epoch;
    use super::*;

    #[test]
    fn any_history_gives_a_picture() {
        let diverged = EpochMetrics { val_loss: f64::NAN, train_loss: f64::INFINITY, ..epoch(2, 1.0, 0.1) };
        for history in [vec![], vec![epoch(1, 0.4, 0.8)], vec![epoch(1, 2.3, 0.1), diverged]] {
            let png = curves_png("a network on its data", &history).unwrap();
            let picture = crate::decode_image(&png, "curves.png").unwrap();
            assert_eq!((picture.width(), picture.height()), (WIDTH as usize, HEIGHT as usize));
            assert!(picture.pixels().chunks_exact(3).any(|p| p[0] < 60), "text is drawn");
        }
    }
}
