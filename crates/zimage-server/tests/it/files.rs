//! Files named by their digests.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;
use zimage::pipeline::image::{ImageFormat, RgbImage};
use zimage_server::job::{Format, Sha256};
use zimage_server::store::Files;

fn files() -> (TempDir, Files) {
    let home = TempDir::new().unwrap();
    let files = Files::open(home.path()).unwrap();
    (home, files)
}

fn png(width: usize, height: usize) -> Vec<u8> {
    let pixels = (0..width * height * 3).map(|index| (index / 7) as u8).collect();
    RgbImage::new(width, height, pixels).encode(ImageFormat::Png, None).unwrap()
}

/// Every file below a folder, by its path from there.
fn listing(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        match path.is_dir() {
            true => found.extend(listing(&path).into_iter().map(|below| format!("{name}/{below}"))),
            false => found.push(name),
        }
    }
    found.sort();
    found
}

#[test]
fn files_lie_where_their_digests_say() {
    let (home, files) = files();
    let sha256 = files.write_image(b"abc", Format::Webp).unwrap();
    assert_eq!(sha256.as_str(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    files.write_input(b"abc").unwrap();
    let expected = [format!("images/ba/{sha256}.webp"), format!("inputs/ba/{sha256}.png")];
    assert_eq!(listing(home.path()), expected);
}

#[test]
fn pictures_are_read_back_by_digest_and_format() {
    let (_home, files) = files();
    let sha256 = files.write_image(b"abc", Format::Jpeg).unwrap();
    assert_eq!(files.image(&sha256, Format::Jpeg).unwrap(), Some(b"abc".to_vec()));
    assert_eq!(files.image(&sha256, Format::Png).unwrap(), None);
    assert_eq!(files.image(&Sha256::of(b"other"), Format::Jpeg).unwrap(), None);
}

#[test]
fn uploads_are_found_before_pictures_and_pictures_of_any_format() {
    let (_home, files) = files();
    for format in [Format::Png, Format::Jpeg, Format::Webp] {
        let sha256 = files.write_image(format.extension().as_bytes(), format).unwrap();
        let found = files.find(&sha256).unwrap().unwrap();
        assert_eq!((found.format, found.bytes), (format, format.extension().as_bytes().to_vec()));
    }
    let input = files.write_input(b"upload").unwrap();
    assert_eq!(files.find(&input).unwrap().unwrap().bytes, b"upload");
    assert!(files.image(&input, Format::Png).unwrap().is_none());
    assert!(files.find(&Sha256::of(b"other")).unwrap().is_none());
}

#[test]
fn a_file_that_is_there_is_left() {
    let (home, files) = files();
    let sha256 = files.write_image(b"abc", Format::Png).unwrap();
    let path = home.path().join(format!("images/ba/{sha256}.png"));
    let modified = || fs::metadata(&path).unwrap().modified().unwrap();
    let before = modified();
    assert_eq!(files.write_image(b"abc", Format::Png).unwrap(), sha256);
    assert_eq!(modified(), before);
}

#[test]
fn many_writers_of_one_picture_leave_one_whole_file() {
    let (home, files) = files();
    let bytes = vec![7; 1 << 20];
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| files.write_image(&bytes, Format::Png).unwrap());
        }
    });
    assert_eq!(listing(home.path()).len(), 1);
    assert_eq!(files.image(&Sha256::of(&bytes), Format::Png).unwrap(), Some(bytes));
}

#[test]
fn a_write_that_fails_leaves_nothing() {
    let (home, files) = files();
    let sha256 = Sha256::of(b"abc");
    // A file where the folder should be.
    fs::write(home.path().join("images").join(&sha256.as_str()[..2]), b"").unwrap();
    assert!(files.write_image(b"abc", Format::Png).is_err());
    assert_eq!(listing(home.path()), ["images/ba"]);
}

#[test]
fn thumbnails_have_320_pixels_on_the_longer_side() {
    let (home, files) = files();
    let sha256 = files.write_image(&png(640, 480), Format::Png).unwrap();
    let thumbnail = files.thumbnail(&sha256, Format::Png).unwrap().unwrap();
    let decoded = image::load_from_memory_with_format(&thumbnail, image::ImageFormat::Jpeg).unwrap();
    assert_eq!((decoded.width(), decoded.height()), (320, 240));
    let kept = home.path().join(format!("cache/thumbnails/{}/{sha256}.jpg", &sha256.as_str()[..2]));
    assert_eq!(fs::read(kept).unwrap(), thumbnail);
    assert_eq!(files.thumbnail(&sha256, Format::Png).unwrap(), Some(thumbnail));
}

#[test]
fn small_pictures_are_not_enlarged() {
    let (_home, files) = files();
    let sha256 = files.write_image(&png(64, 48), Format::Png).unwrap();
    let thumbnail = files.thumbnail(&sha256, Format::Png).unwrap().unwrap();
    let decoded = image::load_from_memory(&thumbnail).unwrap();
    assert_eq!((decoded.width(), decoded.height()), (64, 48));
}

#[test]
fn there_is_no_thumbnail_of_nothing_nor_of_what_is_no_picture() {
    let (home, files) = files();
    assert_eq!(files.thumbnail(&Sha256::of(b"other"), Format::Png).unwrap(), None);
    let sha256 = files.write_image(b"<svg onload=alert(1)>", Format::Png).unwrap();
    assert_eq!(files.thumbnail(&sha256, Format::Png).unwrap_err().kind(), ErrorKind::InvalidData);
    assert_eq!(listing(&home.path().join("cache")), [] as [&str; 0]);
}

#[test]
fn a_picture_that_claims_too_many_pixels_has_no_thumbnail() {
    let (_home, files) = files();
    let mut bomb = png(16, 16);
    // Width and height of the header; its checksum lies 13 bytes behind the type.
    bomb[16..24].copy_from_slice(&[0, 0, 0xEA, 0x60, 0, 0, 0xEA, 0x60]);
    let checksum = crc32(&bomb[12..29]);
    bomb[29..33].copy_from_slice(&checksum.to_be_bytes());
    let sha256 = files.write_image(&bomb, Format::Png).unwrap();
    let error = files.thumbnail(&sha256, Format::Png).unwrap_err();
    assert!(error.to_string().contains("imit"), "{error}");
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { 0xEDB8_8320 } else { 0 })
    })
}

#[test]
fn removed_pictures_are_gone_with_their_thumbnails() {
    let (home, files) = files();
    let sha256 = files.write_image(&png(64, 64), Format::Png).unwrap();
    files.thumbnail(&sha256, Format::Png).unwrap();
    for _ in 0..2 {
        files.remove_image(&sha256, Format::Png).unwrap();
        assert_eq!(listing(home.path()), [] as [&str; 0]);
    }
}

#[test]
fn uploads_go_when_they_are_old_and_nothing_uses_them() {
    let (home, files) = files();
    let (used, unused) = (files.write_input(b"used").unwrap(), files.write_input(b"unused").unwrap());
    let is_used = |sha256: &Sha256| *sha256 == used;
    assert_eq!(files.remove_inputs(Duration::from_secs(3600), is_used).unwrap(), 0, "they are new");
    assert_eq!(files.remove_inputs(Duration::ZERO, is_used).unwrap(), 1);
    assert!(files.find(&used).unwrap().is_some());
    assert!(files.find(&unused).unwrap().is_none());
    assert_eq!(listing(home.path()).len(), 1);
}
