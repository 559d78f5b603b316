//! Makes a small folder of real pictures to fine-tune on: overlapping parts of four photos, a class for each photo.
//!
//!     cargo run --release --example photo_folder -- /tmp/photos
//!     cargo run --release -- train --data /tmp/photos

use std::error::Error;
use std::fs;
use std::path::Path;

const PHOTOS: [(&str, &str); 4] =
    [("camera", "camera.png"), ("cat", "chelsea.png"), ("coffee", "coffee.png"), ("rocket", "rocket.jpg")];

/// Writes `side` × `side` parts of each photo, each of 60 % of its shorter side, to `root/CLASS/`.
pub fn make(root: &Path, side: u32) -> Result<(), Box<dyn Error>> {
    for (class, file) in PHOTOS {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/photos").join(file);
        let photo = image::open(path)?.into_rgb8();
        let part = photo.width().min(photo.height()) * 3 / 5;
        let folder = root.join(class);
        fs::create_dir_all(&folder)?;
        let place = |i: u32, length: u32| i * (length - part) / (side - 1).max(1);
        for (row, column) in (0..side).flat_map(|row| (0..side).map(move |column| (row, column))) {
            let (x, y) = (place(column, photo.width()), place(row, photo.height()));
            let crop = image::imageops::crop_imm(&photo, x, y, part, part).to_image();
            crop.save(folder.join(format!("{row}-{column}.jpg")))?;
        }
    }
    Ok(())
}

#[allow(dead_code, reason = "a test uses `make` alone")]
fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args_os().nth(1).ok_or("which folder?")?;
    make(Path::new(&folder), 5)
}
