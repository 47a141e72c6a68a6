use std::io::Cursor;

use image::{DynamicImage, GrayImage, ImageFormat, Luma, Rgba, RgbaImage};

use super::{MaskKind, from_base64, mask, scaled_to_native, to_base64};
use crate::limits::Limits;
use crate::refusal::Refusal;

fn png(picture: impl Into<DynamicImage>) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.into().write_to(&mut bytes, ImageFormat::Png).expect("a picture is written");
    bytes.into_inner()
}

fn pixels(mask: &[u8]) -> Vec<u8> {
    image::load_from_memory(mask).expect("a mask is a picture").to_luma8().into_raw()
}

/// Two pixels: a transparent white one and an opaque black one.
fn half_transparent() -> Vec<u8> {
    png(RgbaImage::from_fn(2, 1, |x, _| if x == 0 { Rgba([255, 255, 255, 0]) } else { Rgba([0, 0, 0, 255]) }))
}

#[test]
fn openai_paints_where_the_mask_is_transparent() {
    let mask = mask(&half_transparent(), MaskKind::Transparent, &Limits::default()).expect("a mask");
    assert_eq!(pixels(&mask), [255, 0]);
}

#[test]
fn the_web_ui_paints_where_the_mask_is_white_or_opaque() {
    let grey = png(GrayImage::from_fn(2, 1, |x, _| Luma([if x == 0 { 255 } else { 0 }])));
    let kinds = [MaskKind::WhiteOrOpaque, MaskKind::BlackOrTransparent];
    let of = |bytes: &[u8]| kinds.map(|kind| pixels(&mask(bytes, kind, &Limits::default()).expect("a mask")));
    assert_eq!(of(&grey), [[255, 0], [0, 255]]);
    assert_eq!(of(&half_transparent()), [[0, 255], [255, 0]]);
}

#[test]
fn masks_without_alpha_or_without_anything_to_paint_are_refused() {
    let opaque = png(RgbaImage::from_pixel(2, 2, Rgba([0, 0, 0, 255])));
    let grey = png(GrayImage::from_pixel(2, 2, Luma([255])));
    for bytes in [&opaque[..], &grey, b"no picture"] {
        let refusal = mask(bytes, MaskKind::Transparent, &Limits::default());
        assert!(matches!(refusal, Err(Refusal::Invalid { param: "mask", .. })), "{refusal:?}");
    }
    assert!(mask(&opaque, MaskKind::WhiteOrOpaque, &Limits::default()).is_err());
}

#[test]
fn masks_are_measured_before_they_are_decoded() {
    let limits = Limits { max_upload_pixels: 3, ..Limits::default() };
    let refusal = mask(&png(GrayImage::new(2, 2)), MaskKind::WhiteOrOpaque, &limits);
    assert!(matches!(&refusal, Err(Refusal::Invalid { message, .. }) if message.contains("2x2")), "{refusal:?}");
}

#[test]
fn base64_comes_with_or_without_the_head_of_a_data_url_and_padding() {
    let digits = to_base64(b"four");
    let texts = [digits.clone(), format!("data:image/png;base64,{digits}"), digits.trim_end_matches('=').into()];
    for text in texts {
        assert_eq!(from_base64("image", &text, &Limits::default()), Ok(b"four".to_vec()), "{text}");
    }
}

#[test]
fn addresses_are_not_fetched() {
    for text in ["http://127.0.0.1/a.png", "file:///etc/passwd", "//host/a.png", "/etc/passwd?", "data:image/png,abc"] {
        assert!(from_base64("image", text, &Limits::default()).is_err(), "{text}");
    }
}

#[test]
fn an_edit_keeps_the_shape_of_its_picture_within_what_the_model_draws() {
    assert_eq!(scaled_to_native((100, 60), 1024), (96, 64));
    assert_eq!(scaled_to_native((4000, 3000), 1024), (1184, 880));
    assert_eq!(scaled_to_native((1, 1), 1024), (16, 16));
}
