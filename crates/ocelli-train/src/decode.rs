//! Files to pictures: PNG, JPEG, WebP, BMP and GIF (the first frame).
//!
//! The orientation that a camera wrote into EXIF is applied, alpha is composited on white, 16-bit samples are
//! rounded to 8, and grey stays one channel. Only whole files count: many decoders fill what a truncated JPEG lacks
//! with grey, which would train and predict on nothing, so a JPEG without its end is refused.

use std::fs::{self, File};
use std::io::{Cursor, Read};
use std::path::Path;

use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};

use crate::{Error, Picture, Result};

/// The extensions (lower case) of files that a folder of images is searched for.
pub const EXTENSIONS: [&str; 8] = ["png", "jpg", "jpeg", "jpe", "jfif", "webp", "bmp", "gif"];

/// The longest side that is decoded, in pixels.
const MAX_SIDE: u32 = 32_768;
/// The most memory that a decoded picture may take.
const MAX_DECODED: u64 = 512 << 20;
/// The largest file that is read.
const MAX_FILE: u64 = 256 << 20;

/// Reads and decodes an image file. Errors name the file.
pub fn read_image(path: &Path) -> Result<Picture> {
    // Asked first, since opening a pipe would block and reading a folder gives an obscure error.
    if !fs::metadata(path).map_err(Error::io(path, "read"))?.is_file() {
        return Err(Error::image(path.display().to_string(), "not a file"));
    }
    let file = File::open(path).map_err(Error::io(path, "read"))?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(Error::io(path, "read"))?;
    decode_image(&bytes, &path.display().to_string())
}

/// Decodes the content of an image file, whose format is told by its first bytes; `name` is for errors.
pub fn decode_image(bytes: &[u8], name: &str) -> Result<Picture> {
    if bytes.len() as u64 > MAX_FILE {
        return Err(Error::image(name, format!("larger than {} MiB", MAX_FILE >> 20)));
    }
    if bytes.is_empty() {
        return Err(Error::image(name, "the file is empty"));
    }
    let damaged = |error: image::ImageError| Error::image(name, format!("damaged image: {error}"));
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|e| Error::image(name, e))?;
    let Some(format) = reader.format() else {
        return Err(Error::image(name, "not an image (PNG, JPEG, WebP, BMP and GIF are known)"));
    };
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_DECODED);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(damaged)?;
    if decoder.total_bytes() > MAX_DECODED {
        let (width, height) = decoder.dimensions();
        return Err(Error::image(name, format!("{width} × {height} pixels are more than can be decoded")));
    }
    let orientation = decoder.orientation().map_err(damaged)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(damaged)?;
    if format == ImageFormat::Jpeg && !jpeg_has_end(bytes) {
        return Err(Error::image(name, "damaged image: the JPEG is truncated"));
    }
    image.apply_orientation(orientation);
    to_picture(image)
}

fn to_picture(image: DynamicImage) -> Result<Picture> {
    let (width, height) = (image.width() as usize, image.height() as usize);
    if image.color().has_alpha() {
        let pixels = image.into_rgba8().into_raw().chunks_exact(4).flat_map(on_white).collect();
        Picture::new(width, height, 3, pixels)
    } else if image.color().has_color() {
        Picture::new(width, height, 3, image.into_rgb8().into_raw())
    } else {
        Picture::new(width, height, 1, image.into_luma8().into_raw())
    }
}

/// A pixel of straight alpha over a white ground, rounded to nearest.
fn on_white(rgba: &[u8]) -> [u8; 3] {
    let alpha = rgba[3] as u32;
    [0, 1, 2].map(|c| ((rgba[c] as u32 * alpha + 255 * (255 - alpha) + 127) / 255) as u8)
}

/// Whether the segments of a JPEG are followed to its end-of-image marker (ITU-T T.81, annex B). Searching for the
/// two bytes alone would find the end of an embedded thumbnail.
fn jpeg_has_end(bytes: &[u8]) -> bool {
    let mut at = 2; // behind the start-of-image marker
    loop {
        // Fill bytes (FF) may precede a marker; so may anything in a file that decoders mended.
        while bytes.get(at) == Some(&0xFF) && bytes.get(at + 1) == Some(&0xFF) {
            at += 1;
        }
        match (bytes.get(at), bytes.get(at + 1)) {
            (Some(0xFF), Some(0xD9)) => return true,
            // Stuffed zero, restart markers and TEM stand alone, inside or outside a scan.
            (Some(0xFF), Some(0x00 | 0x01 | 0xD0..=0xD8)) => at += 2,
            (Some(0xFF), Some(_)) => match (bytes.get(at + 2), bytes.get(at + 3)) {
                (Some(&high), Some(&low)) => at += 2 + u16::from_be_bytes([high, low]).max(2) as usize,
                _ => return false,
            },
            // Entropy-coded data of a scan.
            (Some(_), Some(_)) => at += 1,
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests;
