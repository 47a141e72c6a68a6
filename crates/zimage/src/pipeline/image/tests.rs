//! Digests and values were made with Pillow 13, numpy 2.4 and diffusers 0.42.

use std::io::Cursor;

use ::image::{DynamicImage, ExtendedColorType, ImageEncoder, codecs::jpeg::JpegEncoder};
use zimage_weights::container::Container;
use zimage_weights::digest::sha256_bytes;

use super::{ImageError, ImageFormat, InitImage, Mask, RgbImage, from_model_output};

/// A picture with every frequency in it, from integers alone.
fn synthetic(width: usize, height: usize) -> RgbImage {
    let value = |x: usize, y: usize, c: usize| ((x * 7 + y * 13 + c * 101 + (x * y) % 251) % 256) as u8;
    let pixels = (0..height).flat_map(|y| (0..width).flat_map(move |x| (0..3).map(move |c| value(x, y, c)))).collect();
    RgbImage::new(width, height, pixels)
}

fn png(image: &DynamicImage) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, ::image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

/// A PNG that ends after a header of this size.
fn png_header(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut chunk = |kind: &[u8], data: &[u8]| {
        bytes.extend((data.len() as u32).to_be_bytes());
        let body = [kind, data].concat();
        bytes.extend(&body);
        bytes.extend(crc32(&body).to_be_bytes());
    };
    chunk(
        b"IHDR",
        &[width.to_be_bytes(), height.to_be_bytes(), [8, 2, 0, 0]].concat().into_iter().chain([0]).collect::<Vec<_>>(),
    );
    chunk(b"IDAT", &[]);
    bytes
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    })
}

#[test]
fn resizing_equals_pillow_bit_for_bit() {
    for ((width, height), (new_width, new_height), expected) in [
        ((64, 64), (32, 32), "d4219d8764f563ad"),
        ((64, 64), (128, 96), "2eccaebad4925991"),
        ((100, 75), (64, 64), "b3c780c345aeb8b7"),
        ((33, 17), (16, 16), "175626ecfca3d5ad"),
        ((17, 33), (48, 80), "219ef22f8e3a5e46"),
        ((1, 1), (16, 16), "ca563b7a9b3ac587"),
        ((300, 200), (16, 16), "71e1e873917b01fb"),
        ((257, 255), (256, 256), "32404fb12c443a03"),
        ((512, 384), (320, 240), "30abe624af706b10"),
        ((2, 3), (64, 48), "a349eab2fc60c436"),
        ((640, 480), (640, 240), "bc7c3bc767ccfb22"),
        ((640, 480), (320, 480), "2ff1216e7c72c018"),
        ((1000, 3), (16, 16), "4bf02d1270fa8af0"),
        ((64, 64), (128, 32), "e125274dbee67ce5"),
        ((64, 64), (65, 63), "d097d2cbb9015d85"),
        ((20, 300), (32, 288), "74db35b574b7fb49"),
    ] {
        let resized = synthetic(width, height).resize(new_width, new_height);
        assert_eq!((resized.width(), resized.height()), (new_width, new_height));
        let digest = sha256_bytes(resized.pixels());
        assert_eq!(&digest[..16], expected, "{width}x{height} to {new_width}x{new_height}");
    }
}

#[test]
fn resizing_to_the_same_size_changes_nothing() {
    let image = synthetic(40, 24);
    assert_eq!(image.resize(40, 24), image);
}

#[test]
fn decoded_values_are_clamped_and_halves_round_to_even() {
    // In f32, (tie / 2 + 1 / 2) * 255 is exactly 64.5.
    let tie = f32::from_bits(0xbefcfcfb);
    let decoded = [-3.0, tie, 1.0, 0.0, 7.0, -1.0];
    assert_eq!(from_model_output(&decoded, 2, 1).pixels(), [0, 255, 255, 64, 128, 0]);
}

#[test]
fn bytes_become_channel_planes_from_minus_one_to_one() {
    let image = RgbImage::new(2, 1, vec![0, 128, 255, 1, 2, 3]);
    let plane = |byte: u8| 2.0 * (f32::from(byte) / 255.0) - 1.0;
    assert_eq!(image.to_chw(), [0, 1, 128, 2, 255, 3].map(plane));
    assert_eq!((image.to_chw()[0], image.to_chw()[4]), (-1.0, 1.0));
}

#[test]
fn bytes_survive_the_way_to_the_model_and_back() {
    let image = synthetic(16, 16);
    assert_eq!(from_model_output(&image.to_chw(), 16, 16), image);
}

fn mask(image: &RgbImage) -> Mask {
    Mask::from_bytes("mask.png", &image.encode(ImageFormat::Png, None).unwrap()).unwrap()
}

#[test]
fn a_mask_is_cut_at_one_half_of_the_grey_value() {
    let image = RgbImage::new(4, 1, vec![127, 127, 127, 128, 128, 128, 255, 0, 0, 0, 255, 0]);
    assert_eq!(mask(&image).to_pixels(4, 1), [0.0, 1.0, 0.0, 1.0]); // Pure red is grey 76, pure green 150.
}

#[test]
fn a_mask_at_latent_size_takes_the_first_pixel_of_each_square() {
    let mut pixels = vec![0; 16 * 16 * 3];
    for (x, y) in [(0, 0), (8, 8), (15, 0)] {
        pixels[(y * 16 + x) * 3..][..3].fill(255);
    }
    assert_eq!(mask(&RgbImage::new(16, 16, pixels)).to_latent_size(16, 16, 2, 2), [1.0, 0.0, 0.0, 1.0]);
}

#[test]
fn transparency_is_dropped_and_deep_channels_keep_their_high_byte() {
    let rgba = ::image::RgbaImage::from_raw(1, 1, vec![10, 20, 30, 0]).unwrap();
    let source = InitImage::from_bytes("a", &png(&rgba.into())).unwrap();
    assert_eq!(source.image().pixels(), [10, 20, 30]);
    let grey = ::image::ImageBuffer::from_raw(2, 1, vec![0x80ff_u16, 0x0100]).unwrap();
    let source = InitImage::from_bytes("a", &png(&DynamicImage::ImageLuma16(grey))).unwrap();
    assert_eq!(source.image().pixels(), [0x80, 0x80, 0x80, 1, 1, 1]);
}

#[test]
fn the_exif_orientation_is_applied() {
    // Orientation 6: the top of the picture is its left side in the file.
    let exif = b"MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0".to_vec();
    let mut bytes = Vec::new();
    let mut encoder = JpegEncoder::new_with_quality(&mut bytes, 100);
    encoder.set_exif_metadata(exif).unwrap();
    encoder.write_image(&[128; 32 * 16 * 3], 32, 16, ExtendedColorType::Rgb8).unwrap();
    let source = InitImage::from_bytes("a", &bytes).unwrap();
    let image = source.image();
    assert_eq!((image.width(), image.height()), (16, 32));
}

#[test]
fn a_picture_that_claims_to_be_huge_is_refused_by_its_header() {
    let error = InitImage::from_bytes("huge.png", &png_header(60_000, 60_000)).unwrap_err();
    assert!(matches!(error, ImageError::TooLarge { width: 60_000, height: 60_000, .. }), "{error}");
    assert!(error.to_string().contains("60000x60000"), "{error}");
}

#[test]
fn a_file_too_short_for_its_pixels_is_refused_before_they_take_memory() {
    let error = InitImage::from_bytes("short.png", &png_header(9_000, 9_000)).unwrap_err();
    assert!(error.to_string().contains("bytes cannot hold 9000x9000 pixels"), "{error}");
}

#[test]
fn a_picture_of_one_colour_is_read_however_short_its_file_is() {
    let blank = ::image::GrayImage::new(4_000, 3_000);
    for format in [::image::ImageFormat::Png, ::image::ImageFormat::Jpeg, ::image::ImageFormat::WebP] {
        let mut bytes = Cursor::new(Vec::new());
        blank.write_to(&mut bytes, format).unwrap();
        let picture = InitImage::from_bytes("blank", bytes.get_ref()).unwrap();
        assert_eq!((picture.image().width(), picture.image().height()), (4_000, 3_000), "{format:?}");
    }
}

#[test]
fn damaged_and_foreign_files_are_named_errors() {
    for (bytes, expected) in [
        (png_header(64, 64), "cannot be decoded"),
        (png_header(0, 64), "cannot be decoded"),
        (b"\x89PNG\r\n\x1a\n".to_vec(), "cannot be decoded"),
        (b"\xff\xd8\xff\xe0".to_vec(), "cannot be decoded"),
        (b"RIFF\0\0\0\0WEBP".to_vec(), "cannot be decoded"),
        (b"GIF89a".to_vec(), ""),
        (b"hello".to_vec(), "not a PNG"),
        (Vec::new(), "not a PNG"),
    ] {
        let message = InitImage::from_bytes("bad.png", &bytes).unwrap_err().to_string();
        assert!(message.starts_with("bad.png") && message.contains(expected), "{message}");
    }
    let whole = png(&::image::RgbImage::new(64, 64).into());
    assert!(InitImage::from_bytes("cut.png", &whole[..whole.len() / 2]).is_err());
}

#[test]
fn a_missing_file_is_named() {
    let message = InitImage::open("no/such/file.png".as_ref()).unwrap_err().to_string();
    assert!(message.starts_with("no/such/file.png: "), "{message}");
}

#[test]
fn png_and_webp_are_lossless_and_jpeg_is_close() {
    let image = synthetic(48, 32);
    for format in [ImageFormat::Png, ImageFormat::WebP] {
        let bytes = image.encode(format, None).unwrap();
        assert_eq!(InitImage::from_bytes("a", &bytes).unwrap().image(), &image, "{format}");
    }
    let smooth = RgbImage::new(32, 32, (0..32 * 32).flat_map(|i| [(i / 32 * 4) as u8; 3]).collect());
    let bytes = smooth.encode(ImageFormat::Jpeg, None).unwrap();
    let source = InitImage::from_bytes("a", &bytes).unwrap();
    let worst = source.image().pixels().iter().zip(smooth.pixels()).map(|(a, b)| a.abs_diff(*b)).max();
    assert!(worst <= Some(4), "{worst:?}");
}

#[test]
fn the_file_name_selects_the_format() {
    for (name, format) in [("a.png", ImageFormat::Png), ("a.JPG", ImageFormat::Jpeg), ("a.webp", ImageFormat::WebP)] {
        assert_eq!(ImageFormat::from_path(name.as_ref()).unwrap(), format);
    }
    assert!(ImageFormat::from_path("a.gif".as_ref()).is_err());
    assert!(ImageFormat::from_path("png".as_ref()).is_err());
}

#[test]
fn a_side_that_the_format_cannot_hold_is_refused() {
    let wide = RgbImage::new(16_384, 1, vec![0; 16_384 * 3]);
    assert!(wide.encode(ImageFormat::WebP, None).unwrap_err().to_string().contains("16383"));
    assert!(wide.encode(ImageFormat::Jpeg, None).is_ok());
}

fn golden(name: &str) -> Container {
    let path = format!("{}/../../goldens/image/{name}", env!("CARGO_MANIFEST_DIR"));
    Container::open(path.as_ref()).unwrap()
}

/// The cases of a golden file: names are `case.field`.
fn cases<'a>(golden: &'a Container, field: &str) -> Vec<&'a str> {
    golden.names().filter_map(|name| name.strip_suffix(field)).collect()
}

#[test]
fn the_resize_goldens_are_met_byte_for_byte() {
    let golden = golden("resize.safetensors");
    let cases = cases(&golden, ".resized");
    assert!(cases.len() >= 7, "{cases:?}");
    for case in cases {
        let [input, resized] = ["input", "resized"].map(|field| golden.tensor(&format!("{case}.{field}")).unwrap());
        let image = RgbImage::new(input.shape[1], input.shape[0], input.data.to_vec());
        let ours = image.resize(resized.shape[1], resized.shape[0]);
        assert!(ours.pixels() == resized.data, "{case}");
        if let Ok(prepared) = golden.tensor(&format!("{case}.prepared")) {
            let bytes: Vec<u8> = ours.to_chw().into_iter().flat_map(f32::to_le_bytes).collect();
            assert!(bytes == prepared.data, "{case}");
        }
    }
}

#[test]
fn the_mask_goldens_are_met() {
    let golden = golden("mask.safetensors");
    let cases = cases(&golden, ".latent");
    assert!(!cases.is_empty());
    for case in cases {
        let field = |field: &str| golden.tensor(&format!("{case}.{field}")).unwrap();
        let (input, pixels, latent) = (field("input"), field("pixels"), field("latent"));
        let grey = input.shape.len() == 2;
        let rgb = if grey { input.data.iter().flat_map(|&value| [value; 3]).collect() } else { input.data.to_vec() };
        let mask = mask(&RgbImage::new(input.shape[1], input.shape[0], rgb));
        let (height, width) = (pixels.shape[2], pixels.shape[3]);
        let expected = |bytes: &[u8]| bytes.iter().map(|&byte| f32::from(byte)).collect::<Vec<_>>();
        assert_eq!(mask.to_pixels(width, height), expected(&pixels.data), "{case}");
        let latents = mask.to_latent_size(width, height, latent.shape[3], latent.shape[2]);
        assert_eq!(latents, expected(&latent.data), "{case}");
    }
}

#[test]
fn the_rounding_goldens_are_met() {
    let golden = golden("to_u8.safetensors");
    let (values, bytes) = (golden.tensor("values").unwrap(), golden.tensor("bytes").unwrap());
    let values = values.data.chunks_exact(4).map(|word| f32::from_le_bytes([word[0], word[1], word[2], word[3]]));
    for (value, &byte) in values.zip(bytes.data.iter()) {
        assert_eq!(from_model_output(&[value; 3], 1, 1).pixels(), [byte; 3], "{value:?}");
    }
}
