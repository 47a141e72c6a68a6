use super::{Embedded, FileRecord, LoraRecord, Metadata, SCHEMA_VERSION, TaskRecord, Versions};
use crate::pipeline::cache::StepCache;
use crate::pipeline::image::{ImageError, ImageFormat, RgbImage};

fn record() -> Metadata {
    Metadata {
        schema_version: SCHEMA_VERSION,
        prompt: "ein Fuchs im Schnee, \"rot\" — 狐 🦊\nzweite Zeile".into(),
        negative_prompt: String::new(),
        width: 64,
        height: 48,
        steps: 8,
        seed: u64::MAX,
        guidance: 0.0,
        cfg_normalization: 0.0,
        cfg_truncation: 1.0,
        shift: 3.0,
        cache: StepCache::None,
        task: TaskRecord::TextToImage,
        model: "Z-Image-Turbo".into(),
        files: vec![FileRecord {
            path: "transformer/model.safetensors".into(),
            sha256: "0123456789abcdef".into(),
            parts: vec!["transformer".into()],
        }],
        loras: Vec::new(),
        versions: Versions { zimage: "0.1.0".into() },
        device: "cpu".into(),
        compute: "exact".into(),
        tiled: false,
    }
}

fn picture() -> RgbImage {
    RgbImage::new(64, 48, vec![77; 64 * 48 * 3])
}

#[test]
fn every_format_gives_back_what_was_written() {
    for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP] {
        let bytes = picture().encode(format, Some(&record())).unwrap();
        let embedded = Embedded::from_image_bytes("a", &bytes).unwrap().unwrap();
        assert_eq!(embedded.metadata, Some(record()), "{format}");
        assert_eq!(embedded.parameters, Some(record().to_parameters()), "{format}");
    }
}

#[test]
fn a_picture_without_metadata_has_none() {
    for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP] {
        let bytes = picture().encode(format, None).unwrap();
        assert_eq!(Embedded::from_image_bytes("a", &bytes).unwrap(), None, "{format}");
    }
}

#[test]
fn canonical_json_has_sorted_keys_and_no_spaces() {
    let json = record().to_canonical_json();
    assert!(json.starts_with("{\"cfg_normalization\":0.0,\"cfg_truncation\":1.0,\"compute\":\"exact\""), "{json}");
    assert!(json.contains("\"task\":{\"name\":\"text_to_image\"}"), "{json}");
    assert!(json.ends_with("\"width\":64}"), "{json}");
    assert_eq!(Metadata::from_json(&json), Ok(record()));
}

#[test]
fn the_web_ui_text_has_its_usual_shape() {
    let text = record().to_parameters();
    let (prompt, rest) = text.rsplit_once('\n').unwrap();
    assert_eq!(prompt, record().prompt);
    assert_eq!(
        rest,
        "Steps: 8, Sampler: Euler, Schedule type: Simple, CFG scale: 1, Seed: 18446744073709551615, Size: 64x48, \
         Model hash: 0123456789, Model: Z-Image-Turbo, Shift: 3, Version: zimage 0.1.0"
    );
}

#[test]
fn the_web_ui_text_counts_guidance_from_one_and_tells_strength() {
    let mut record = record();
    record.guidance = 4.0;
    record.negative_prompt = "blurry".into();
    record.model = "mine, v2".into();
    record.task = TaskRecord::ImageToImage { init_image_sha256: "ab".into(), strength: 0.6 };
    let text = record.to_parameters();
    for part in ["\nNegative prompt: blurry\n", "CFG scale: 5,", "Model: \"mine, v2\"", "Denoising strength: 0.6"] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn loras_are_recorded_with_their_hashes_and_stand_in_the_web_ui_text() {
    let lora = |name: &str, weight| LoraRecord { name: name.into(), sha256: "0123456789abcdef".into(), weight };
    let record = Metadata { prompt: "a cat".into(), loras: vec![lora("night", 0.8), lora("b", 1.0)], ..record() };
    let text = record.to_parameters();
    assert!(text.starts_with("a cat <lora:night:0.8> <lora:b:1>\nSteps"), "{text}");
    assert!(text.contains(", Lora hashes: \"night: 0123456789, b: 0123456789\", Shift"), "{text}");
    assert_eq!(Metadata::from_json(&record.to_canonical_json()), Ok(record));
}

#[test]
fn step_caching_is_recorded_where_it_acted_and_none_where_a_record_is_older() {
    let record = Metadata { cache: StepCache::Fast, ..record() };
    let json = record.to_canonical_json();
    assert!(json.starts_with("{\"cache\":\"fast\","), "{json}");
    assert!(record.to_parameters().contains(", Step cache: fast, Shift"));
    assert_eq!(Metadata::from_json(&json.replace("\"cache\":\"fast\",", "")), Ok(self::record()));
    assert!(Metadata::from_json(&json.replace("fast", "turbo")).is_err());
    assert_eq!(Metadata::from_json(&json), Ok(record));
    assert!(!self::record().to_canonical_json().contains("cache"));
}

#[test]
fn text_of_the_web_ui_is_read_from_every_kind_of_chunk() {
    let write = |add: fn(&mut png::Encoder<'_, &mut Vec<u8>>)| {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, 1, 1);
        encoder.set_color(png::ColorType::Rgb);
        add(&mut encoder);
        encoder.write_header().unwrap().write_image_data(&[1, 2, 3]).unwrap();
        Embedded::from_image_bytes("a", &bytes).unwrap().unwrap().parameters
    };
    let expected = Some("a cat\nSteps: 20".to_string());
    assert_eq!(write(|e| e.add_text_chunk("parameters".into(), "a cat\nSteps: 20".into()).unwrap()), expected);
    assert_eq!(write(|e| e.add_ztxt_chunk("parameters".into(), "a cat\nSteps: 20".into()).unwrap()), expected);
    assert_eq!(write(|e| e.add_itxt_chunk("parameters".into(), "a cat\nSteps: 20".into()).unwrap()), expected);
}

#[test]
fn a_newer_schema_and_nonsense_are_refused() {
    let newer = record().to_canonical_json().replace("\"schema_version\":1", "\"schema_version\":2");
    assert!(Metadata::from_json(&newer).unwrap_err().contains("newer"));
    for text in ["", "[]", "{}", "{\"schema_version\":1}"] {
        assert!(Metadata::from_json(text).is_err(), "{text}");
    }
}

#[test]
fn metadata_that_is_too_long_for_a_jpeg_is_refused_and_fits_a_png() {
    let mut record = record();
    record.prompt = "x".repeat(70_000);
    let error = picture().encode(ImageFormat::Jpeg, Some(&record)).unwrap_err();
    assert!(matches!(error, ImageError::MetadataTooLong { .. }), "{error}");
    let bytes = picture().encode(ImageFormat::Png, Some(&record)).unwrap();
    assert_eq!(Embedded::from_image_bytes("a", &bytes).unwrap().unwrap().metadata, Some(record));
}
