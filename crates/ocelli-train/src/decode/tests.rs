use image::codecs::{gif::GifEncoder, jpeg::JpegEncoder};
use image::metadata::Orientation;
use image::{Frame, ImageBuffer, ImageEncoder, Luma, Rgb, RgbImage, Rgba, RgbaImage};

use super::*;

fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn gradient(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| Rgb([(x * 20) as u8, (y * 30) as u8, 77]))
}

/// A JPEG with a segment of EXIF that says only how the camera was held.
fn jpeg(image: &RgbImage, orientation: Orientation) -> Vec<u8> {
    let mut exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\0\0\0\0\0\0\0\0".to_vec();
    exif[18] = orientation.to_exif();
    let mut bytes = Vec::new();
    let mut encoder = JpegEncoder::new_with_quality(&mut bytes, 95);
    encoder.set_exif_metadata(exif).unwrap();
    encoder.encode_image(image).unwrap();
    bytes
}

#[test]
fn lossless_formats_give_their_pixels() {
    let image = gradient(7, 5);
    for format in [ImageFormat::Png, ImageFormat::WebP, ImageFormat::Bmp] {
        let picture = decode_image(&encoded(&image.clone().into(), format), "x").unwrap();
        assert_eq!((picture.width(), picture.height(), picture.channels()), (7, 5, 3), "{format:?}");
        assert_eq!(picture.pixels(), image.as_raw(), "{format:?}");
    }
}

#[test]
fn gif_gives_its_first_frame() {
    let frame = |grey| Frame::new(RgbaImage::from_pixel(4, 3, Rgba([grey, grey, grey, 255])));
    let mut bytes = Vec::new();
    GifEncoder::new(&mut bytes).encode_frames([frame(200), frame(10)]).unwrap();
    let picture = decode_image(&bytes, "x").unwrap();
    assert_eq!((picture.width(), picture.height()), (4, 3));
    assert_eq!(picture.pixels()[..3], [200; 3]);
}

#[test]
fn alpha_lies_on_white_and_depth_is_reduced() {
    let glass = RgbaImage::from_fn(3, 1, |x, _| Rgba([100, 0, 50, [0, 128, 255][x as usize]]));
    let picture = decode_image(&encoded(&glass.into(), ImageFormat::Png), "x").unwrap();
    assert_eq!(picture.pixels(), [255, 255, 255, 177, 127, 152, 100, 0, 50]);

    let deep = ImageBuffer::<Luma<u16>, _>::from_raw(3, 1, vec![0, 0x8080, 0xFFFF]).unwrap();
    let picture = decode_image(&encoded(&deep.into(), ImageFormat::Png), "x").unwrap();
    assert_eq!((picture.channels(), picture.pixels()), (1, &[0, 128, 255][..]));
}

#[test]
fn orientation_of_the_camera_is_applied() {
    let upright = gradient(12, 8);
    let held = image::imageops::rotate270(&upright);
    let picture = decode_image(&jpeg(&held, Orientation::Rotate90), "x").unwrap();
    assert_eq!((picture.width(), picture.height()), (12, 8));
    let far = picture.pixels().iter().zip(upright.as_raw()).map(|(a, b)| a.abs_diff(*b)).max();
    assert!(far < Some(16), "{far:?}");
}

#[test]
fn every_truncation_is_an_error() {
    let image = gradient(40, 30);
    let mut files = vec![jpeg(&image, Orientation::NoTransforms)];
    files.extend([ImageFormat::Png, ImageFormat::Bmp].map(|f| encoded(&image.clone().into(), f)));
    for bytes in files {
        assert!(decode_image(&bytes, "x").is_ok());
        for length in [0, 1, 10, 60, bytes.len() / 2, bytes.len() * 9 / 10] {
            let error = decode_image(&bytes[..length], "x").unwrap_err().to_string();
            assert!(error.starts_with("x: "), "{error}");
        }
    }
    let whole = jpeg(&image, Orientation::NoTransforms);
    let error = decode_image(&whole[..whole.len() - 2], "cut.jpg").unwrap_err();
    assert_eq!(error.to_string(), "cut.jpg: damaged image: the JPEG is truncated");
}

#[test]
fn a_bomb_is_refused_before_it_is_decoded() {
    let mut bytes = encoded(&RgbImage::new(1, 1).into(), ImageFormat::Bmp);
    bytes[18..22].copy_from_slice(&30_000i32.to_le_bytes());
    bytes[22..26].copy_from_slice(&30_000i32.to_le_bytes());
    let error = decode_image(&bytes, "bomb.bmp").unwrap_err().to_string();
    assert_eq!(error, "bomb.bmp: 30000 × 30000 pixels are more than can be decoded");
}

#[test]
fn other_files_are_errors_that_name_them() {
    let error = decode_image(b"hello, world", "notes.jpg").unwrap_err().to_string();
    assert_eq!(error, "notes.jpg: not an image (PNG, JPEG, WebP, BMP and GIF are known)");
    assert!(read_image(Path::new("no/such.png")).unwrap_err().to_string().starts_with("no/such.png: cannot read"));
    assert!(read_image(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap_err().to_string().ends_with("not a file"));
}
