use super::client::{Reply, Request};
use super::server::{TestServer, metadata, start};
use crate::samples::spec;

use std::time::{Duration, Instant};
use zimage::pipeline::image::{ImageFormat, RgbImage};

/// A reply to any bomb comes within this time.
const SOON: Duration = Duration::from_secs(2);
/// What a bomb may add to the most memory that the process has ever had: 16 megapixels of 8 bytes, some of it twice, and
/// what the tests beside take.
const MOST_MEMORY_KB: u64 = 400 << 10;

fn upload(server: &TestServer, bytes: &[u8]) -> Reply {
    server.send(&Request::form("/api/v1/uploads", "image", bytes))
}

fn png(width: usize, height: usize) -> Vec<u8> {
    RgbImage::new(width, height, vec![9; width * height * 3]).encode(ImageFormat::Png, None).unwrap()
}

#[test]
fn an_upload_is_stored_anew_and_served_as_what_it_is() {
    let server = start();
    let reply = upload(&server, &png(32, 16));
    assert_eq!(reply.status, 201);
    let stored = reply.json();
    assert_eq!((&stored["width"], &stored["height"]), (&32.into(), &16.into()));
    let path = format!("/files/{}.png", stored["sha256"].as_str().unwrap());
    let file = server.get(&path);
    assert_eq!((file.status, file.header("content-type")), (200, "image/png"));
    assert!(file.header("cache-control").contains("immutable"));
    let tag = file.header("etag").to_owned();
    let again = server.send(&Request::get(&path).header("if-none-match", &tag));
    assert_eq!((again.status, again.body.len()), (304, 0));
    let saved = server.get(&format!("{path}?download=1"));
    assert!(saved.header("content-disposition").starts_with("attachment; filename=\""));
    assert_eq!(server.get(&path.replace(".png", ".jpg")).status, 404);
    assert_eq!(server.get(&path.replace(".png", ".html")).status, 404);
}

#[test]
fn no_byte_of_a_script_survives_an_upload() {
    let server = start();
    let script = "<script>alert(1)</script>";
    let pages = [
        format!("<!doctype html>{script}"),
        format!("<svg xmlns=\"http://www.w3.org/2000/svg\">{script}</svg>"),
        format!("<?xml version=\"1.0\"?><html xmlns=\"http://www.w3.org/1999/xhtml\">{script}</html>"),
        format!("GIF89a{script}"),
    ];
    for page in pages {
        let reply = upload(&server, page.as_bytes());
        assert_eq!((reply.status, &reply.json()["param"]), (400, &"image".into()), "{page}");
    }
    // A picture that is a page as well: behind its end, and in a text chunk.
    let mut behind = png(8, 8);
    behind.extend(script.bytes());
    let inside = png_with(8, 8, |encoder| encoder.add_text_chunk("parameters".into(), script.into()).unwrap());
    for polyglot in [behind, inside] {
        let sha256 = upload(&server, &polyglot).json()["sha256"].as_str().unwrap().to_owned();
        let file = server.get(&format!("/files/{sha256}.png"));
        assert_eq!((file.header("content-type"), file.header("x-content-type-options")), ("image/png", "nosniff"));
        assert!(!file.body.windows(7).any(|bytes| bytes == b"<script"));
    }
}

/// A PNG of zeros with something in its head.
fn png_with(width: u32, height: u32, add: impl FnOnce(&mut png::Encoder<'_, &mut Vec<u8>>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_compression(png::Compression::Fast);
    add(&mut encoder);
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&vec![0; width as usize * height as usize]).unwrap();
    writer.finish().unwrap();
    bytes
}

/// A chunk of a PNG.
fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let body = [kind.as_slice(), data].concat();
    [&(data.len() as u32).to_be_bytes()[..], &body, &crc32(&body).to_be_bytes()].concat()
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc: u32, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}

/// Puts a chunk behind the header of a PNG.
fn with_chunk(png: &[u8], kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    const HEADER: usize = 8 + 25;
    [&png[..HEADER], &chunk(kind, data), &png[HEADER..]].concat()
}

/// A PNG that claims a size and has the data of one pixel.
fn liar(width: u32, height: u32) -> Vec<u8> {
    let mut png = png_with(1, 1, |_| {});
    let mut header = [&width.to_be_bytes()[..], &height.to_be_bytes()[..], &[8, 2, 0, 0, 0]].concat();
    header = chunk(b"IHDR", &header);
    png.splice(8..8 + 25, header);
    png
}

/// Zeros, deflated a thousandfold: the pixels of a PNG are a zlib stream.
fn zlib_bomb(megabytes: u32) -> Vec<u8> {
    let png = png_with(1 << 20, megabytes, |_| {});
    let mut stream = Vec::new();
    let mut rest = &png[8..];
    while rest.len() >= 12 {
        let length = u32::from_be_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
        if &rest[4..8] == b"IDAT" {
            stream.extend(&rest[8..8 + length]);
        }
        rest = &rest[12 + length..];
    }
    stream
}

/// A WebP file that says that it is animated, with frames of a size.
fn animated_webp(frames: usize) -> Vec<u8> {
    let still = RgbImage::new(64, 64, vec![7; 64 * 64 * 3]).encode(ImageFormat::WebP, None).unwrap();
    let picture = &still[12..];
    let riff = |kind: &[u8; 4], data: &[u8]| {
        [&kind[..], &(data.len() as u32).to_le_bytes(), data, &[0][..data.len() % 2]].concat()
    };
    let size = [63, 0, 0, 63, 0, 0];
    let mut body = b"WEBP".to_vec();
    body.extend(riff(b"VP8X", &[&[2, 0, 0, 0][..], &size].concat()));
    body.extend(riff(b"ANIM", &[0; 6]));
    let frame = riff(b"ANMF", &[&[0; 6][..], &size, &[1, 0, 0, 0], picture].concat());
    (0..frames).for_each(|_| body.extend(&frame));
    [b"RIFF".as_slice(), &(body.len() as u32).to_le_bytes(), &body].concat()
}

/// The most memory that this process has ever had.
fn peak_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kb| kb.parse().ok()).unwrap_or(0)
}

#[test]
fn bombs_are_refused_soon_and_take_little_memory() {
    let server = start();
    let small = png_with(8, 8, |_| {});
    let bomb = zlib_bomb(600);
    let text = [&b"parameters\0\x01\0\0\0"[..], &bomb].concat();
    let profile = [&b"icc\0\0"[..], &bomb].concat();
    let bombs = [
        ("60000x60000", liar(60_000, 60_000), false),
        ("8000x8000", png_with(8000, 8000, |_| {}), false),
        ("a text of 600 MB", with_chunk(&small, b"iTXt", &text), true),
        ("a compressed text of 600 MB", with_chunk(&small, b"zTXt", &[&b"parameters\0\0"[..], &bomb].concat()), true),
        ("a profile of 600 MB", with_chunk(&small, b"iCCP", &profile), true),
        ("an animated WebP", animated_webp(3000), true),
        ("an animated PNG", with_chunk(&small, b"acTL", &[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0]), true),
    ];
    for (name, bytes, may_be_taken) in bombs {
        for path in ["/api/v1/uploads", "/api/v1/metadata"] {
            let (before, start) = (peak_kb(), Instant::now());
            let reply = server.send(&Request::form(path, "image", &bytes));
            assert!(start.elapsed() < SOON, "{name} {path}: {:?}", start.elapsed());
            let grown = peak_kb() - before;
            assert!(grown < MOST_MEMORY_KB, "{name} {path}: {grown} kB");
            let is_taken = [200, 201].contains(&reply.status);
            assert!(
                reply.status == 400 || (is_taken && (may_be_taken || path.ends_with("metadata"))),
                "{name} {path}: {}",
                reply.status
            );
        }
    }
    assert_eq!(server.get("/healthz").status, 200);
}

#[test]
fn settings_are_read_from_our_pictures_and_from_texts_of_others() {
    let server = start();
    let picture =
        RgbImage::new(64, 64, vec![1; 64 * 64 * 3]).encode(ImageFormat::Jpeg, Some(&metadata(&spec()))).unwrap();
    let found = server.send(&Request::form("/api/v1/metadata", "image", &picture)).json();
    assert_eq!((&found["source"], &found["draft"]["prompt"]), (&"zimage".into(), &"a red balloon".into()));
    assert_eq!((&found["draft"]["steps"], &found["draft"]["model"]), (&4.into(), &"demo".into()));
    assert_eq!(found["notes"], serde_json::json!([]));
    let text = "a cat <lora:night:0.8>\nNegative prompt: blurry\nSteps: 200, Sampler: Euler a, CFG scale: 7, Seed: 5, \
                Size: 513x768, Model: other, Clip skip: 2";
    let foreign = png_with(8, 8, |encoder| encoder.add_text_chunk("parameters".into(), text.into()).unwrap());
    let of_picture = server.send(&Request::form("/api/v1/metadata", "image", &foreign)).json();
    let of_text = server.call("POST", "/api/v1/metadata/text", &serde_json::json!({ "text": text }).to_string());
    assert_eq!(of_picture, of_text);
    let draft = &of_text["draft"];
    assert_eq!(
        (&of_text["source"], &draft["prompt"], &draft["negative_prompt"]),
        (&"a1111".into(), &"a cat".into(), &"blurry".into())
    );
    assert_eq!(
        (&draft["width"], &draft["height"], &draft["seed"], &draft["steps"]),
        (&512.into(), &768.into(), &5.into(), &50.into())
    );
    assert!(draft["guidance"].is_null() && draft["model"].is_null());
    let notes = of_text["notes"].to_string();
    for part in [
        "513 became 512",
        "200 steps became 50",
        "CFG scale 7",
        "`other` is not here",
        "`night` is not here",
        "Clip skip",
        "Euler a",
    ] {
        assert!(notes.contains(part), "{part}: {notes}");
    }
    assert_eq!(server.send(&Request::form("/api/v1/metadata", "image", &png(8, 8))).json()["source"], "none");
    assert_eq!(server.call("POST", "/api/v1/metadata/text", r#"{"text":" "}"#)["source"], "none");
}

#[test]
fn what_was_read_can_be_submitted() {
    let server = start();
    let picture =
        RgbImage::new(64, 64, vec![1; 64 * 64 * 3]).encode(ImageFormat::Png, Some(&metadata(&spec()))).unwrap();
    let found = server.send(&Request::form("/api/v1/metadata", "image", &picture)).json();
    let job = server.call("POST", "/api/v1/jobs", &found["draft"].to_string());
    assert_eq!((&job["spec"]["seed"], &job["spec"]["guidance"]), (&1.into(), &0.1.into()));
}
