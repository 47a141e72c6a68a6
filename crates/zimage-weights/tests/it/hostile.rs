//! Every way in which a file can be wrong, one line each.

use std::time::{Duration, Instant};

use bytes::Bytes;
use zimage_weights::Container;
use zimage_weights::container::SafeTensors;
use zimage_weights::inspect::{Diagnosis, doctor};

/// A file of a header and `data` zero bytes.
fn file(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

/// The bytes are refused with exactly these words after the name of the file.
fn check(bytes: Vec<u8>, expected: &str) {
    let error = SafeTensors::from_bytes("evil.safetensors", Bytes::from(bytes)).expect_err(expected);
    let message = error.to_string();
    assert!(message.starts_with("evil.safetensors is not "), "{message}");
    assert!(message.contains(expected), "expected {expected:?} in {message:?}");
}

/// A file with one tensor `a`, described by `fields`.
fn one(fields: &str, data: usize) -> Vec<u8> {
    file(&format!(r#"{{"a":{{{fields}}}}}"#), data)
}

/// A file with the tensors `a` and `b`, each of 4 bytes at these offsets.
fn two(a: [u64; 2], b: [u64; 2], data: usize) -> Vec<u8> {
    let tensor = |[begin, end]: [u64; 2]| format!(r#"{{"dtype":"U8","shape":[4],"data_offsets":[{begin},{end}]}}"#);
    file(&format!(r#"{{"a":{},"b":{}}}"#, tensor(a), tensor(b)), data)
}

#[test]
fn frames_that_do_not_hold_a_header_are_refused() {
    check(vec![], "it has 0 bytes, too few for the length of a header");
    check(vec![1, 0, 0, 0, 0, 0, 0], "it has 7 bytes, too few");
    check(vec![255; 64], "its header claims 18446744073709551615 bytes, more than the 100000000 allowed");
    check(100_000_001_u64.to_le_bytes().to_vec(), "more than the 100000000 allowed");
    check(3_u64.to_le_bytes().to_vec(), "its header claims 3 bytes, the file has 8");
    check([&100_u64.to_le_bytes()[..], b"{}"].concat(), "its header claims 100 bytes, the file has 10");
}

#[test]
fn headers_that_are_not_an_object_of_tensors_are_refused() {
    check(file("", 0), "bad header: EOF while parsing");
    check(file("{", 0), "bad header: EOF while parsing");
    check(file("[]", 0), "expected an object of tensors");
    check(file("null", 0), "expected an object of tensors");
    check(file("{} {}", 0), "bad header: trailing characters");
    check([&2_u64.to_le_bytes()[..], &[0xff, 0xff]].concat(), "bad header");
    check(file(r#"{"a":1}"#, 0), "bad header: a: invalid type: integer `1`");
    check(file(r#"{"a":{}}"#, 0), "bad header: a: missing field `dtype`");
    check(one(r#""dtype":"U8","shape":[1]"#, 1), "bad header: a: missing field `data_offsets`");
    check(one(r#""dtype":8,"shape":[1],"data_offsets":[0,1]"#, 1), "bad header: a: invalid type: integer `8`");
    check(file(r#"{"__metadata__":{"format":1}}"#, 0), "bad header: __metadata__: invalid type: integer `1`");
    check(file(&format!("{}1{}", r#"{"a":"#.repeat(200), "}".repeat(200)), 0), "bad header: a: ");
    check(file(&"[".repeat(100_000), 0), "expected an object of tensors");
}

#[test]
fn a_name_that_comes_twice_is_refused() {
    let tensor = r#"{"dtype":"U8","shape":[0],"data_offsets":[0,0]}"#;
    check(file(&format!(r#"{{"a":{tensor},"a":{tensor}}}"#), 0), "bad header: a is there twice");
    check(file(&format!(r#"{{"a":{tensor},"\u0061":{tensor}}}"#), 0), "bad header: a is there twice");
    check(file(r#"{"__metadata__":{},"__metadata__":{}}"#, 0), "__metadata__ is there twice");
}

#[test]
fn dtypes_shapes_and_offsets_that_mean_nothing_are_refused() {
    let at = r#""data_offsets":[0,4]"#;
    check(one(&format!(r#""dtype":"F31","shape":[1],{at}"#), 4), "tensor a has the unknown dtype F31");
    check(one(&format!(r#""dtype":"f32","shape":[1],{at}"#), 4), "tensor a has the unknown dtype f32");
    check(one(&format!(r#""dtype":"F32","shape":[-1],{at}"#), 4), "tensor a has the impossible shape [-1]");
    check(one(&format!(r#""dtype":"F32","shape":[1.0],{at}"#), 4), "tensor a has the impossible shape [1.0]");
    let huge = u64::MAX;
    check(one(&format!(r#""dtype":"F32","shape":[{huge}],{at}"#), 4), "impossible shape [18446744073709551615]");
    let half = 1_u64 << 32;
    check(
        one(&format!(r#""dtype":"U8","shape":[{half},{half}],{at}"#), 4),
        "impossible shape [4294967296, 4294967296]",
    );
    check(one(&format!(r#""dtype":"U8","shape":[{half},{half},0],{at}"#), 4), "impossible shape");
    check(one(r#""dtype":"U8","shape":[4],"data_offsets":[0]"#, 4), "tensor a has the impossible data_offsets [0]");
    check(one(r#""dtype":"U8","shape":[4],"data_offsets":[0,2,4]"#, 4), "impossible data_offsets [0, 2, 4]");
    check(one(r#""dtype":"U8","shape":[4],"data_offsets":[4,0]"#, 4), "impossible data_offsets [4, 0]");
    check(one(r#""dtype":"U8","shape":[4],"data_offsets":[-4,0]"#, 4), "impossible data_offsets [-4, 0]");
    check(one(r#""dtype":"U8","shape":[4],"data_offsets":[0,4e0]"#, 4), "impossible data_offsets [0, 4.0]");
    check(
        one(r#""dtype":"F32","shape":[2],"data_offsets":[0,4]"#, 4),
        "tensor a takes 4 bytes, its dtype and shape need 8",
    );
    check(
        one(r#""dtype":"F32","shape":[],"data_offsets":[0,2]"#, 2),
        "tensor a takes 2 bytes, its dtype and shape need 4",
    );
}

#[test]
fn ranges_cover_the_data_exactly_once() {
    check(two([0, 4], [2, 6], 8), "tensor b overlaps tensor a");
    check(two([0, 4], [0, 4], 4), "tensor b overlaps tensor a");
    check(two([0, 4], [6, 10], 10), "2 bytes before tensor b belong to no tensor");
    check(two([4, 8], [8, 12], 12), "4 bytes before tensor a belong to no tensor");
    check(two([0, 4], [4, 8], 9), "1 bytes after the last tensor belong to no tensor");
    check(two([0, 4], [4, 8], 7), "tensor b ends at byte 8 of the data, the file has 7: it is truncated");
    check(two([4, 8], [0, 4], 5), "tensor a ends at byte 8 of the data, the file has 5");
    check(
        one(&format!(r#""dtype":"U8","shape":[{0}],"data_offsets":[0,{0}]"#, u64::MAX), 4),
        "ends at byte 18446744073709551615",
    );
    check(file("{}", 3), "3 bytes after the last tensor belong to no tensor");
}

#[test]
fn other_files_under_this_name_are_called_by_theirs() {
    check(b"PK\x03\x04\x00\x00\x08\x08\x00\x00archive/data.pkl".to_vec(), "safetensors: this is a zip archive");
    check(b"\x80\x02}q\x00X\x05\x00\x00\x00model".to_vec(), "safetensors: this is a Python pickle");
    check(b"GGUF\x03\x00\x00\x00\x00\x00\x00\x00".to_vec(), "safetensors: this is a GGUF file\nhint: ");
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n".to_vec();
    check(pointer, "safetensors: this is a git-lfs pointer, not the file itself\nhint: ");
    check(b"<!DOCTYPE html><html><head>".to_vec(), "safetensors: this is a web page");
    check(b"\n  <HTML lang=en>".to_vec(), "safetensors: this is a web page");
    check(br#"{"error": "not found"}"#.to_vec(), "safetensors: this is a JSON text");
}

#[test]
fn a_header_whose_length_looks_like_a_pickle_is_still_safetensors() {
    let header = format!("{:<1$}", "{}", 0x0280); // begins with the bytes 80 02, as pickles do
    let opened = SafeTensors::from_bytes("padded", Bytes::from(file(&header, 0))).expect("an empty file");
    assert_eq!(opened.iter().count(), 0);
}

#[test]
fn empty_tensors_and_scalars_are_read() {
    let header = r#"{"e":{"dtype":"F32","shape":[0,3],"data_offsets":[0,0]},"s":{"dtype":"I64","shape":[],"data_offsets":[0,8]}}"#;
    let opened = SafeTensors::from_bytes("edge", Bytes::from(file(header, 8))).expect("valid");
    assert!(opened.tensor("e").expect("there").data.is_empty());
    assert_eq!(opened.tensor("s").expect("there").data.len(), 8);
    let error = opened.tensor("x").expect_err("not there").to_string();
    assert_eq!(error, "edge has no tensor x");
}

#[test]
fn a_missing_file_and_a_directory_are_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let absent = directory.path().join("absent.safetensors");
    let error = SafeTensors::open(&absent).expect_err("not there").to_string();
    assert!(error.starts_with(&format!("cannot open {}: ", absent.display())), "{error}");
    let error = SafeTensors::open(directory.path()).expect_err("a directory").to_string();
    assert!(error.contains(&directory.path().display().to_string()), "{error}");
}

/// No bytes make the parser panic: every single-byte change of a valid file, and every prefix of it.
#[test]
fn damaged_files_are_errors_and_never_panics() {
    let valid = two([0, 4], [4, 8], 8);
    for at in 0..valid.len() {
        for byte in [0, 1, b'"', b'-', b'9', b'{', b'}', 0x7f, 0xff] {
            let mut damaged = valid.clone();
            damaged[at] = byte;
            // Some changes make another valid file; the only claim is that this returns.
            let _ = SafeTensors::from_bytes("damaged", Bytes::from(damaged));
        }
        SafeTensors::from_bytes("cut", Bytes::copy_from_slice(&valid[..at])).expect_err("a prefix is never whole");
    }
}

/// What the doctor says about a file of tensors without data, `(name, dtype, shape)`.
fn diagnose(tensors: &[(String, &str, &str)]) -> Diagnosis {
    let tensor = |(name, dtype, shape): &(String, &str, &str)| {
        format!(r#""{name}":{{"dtype":"{dtype}","shape":[{shape}],"data_offsets":[0,0]}}"#)
    };
    let metadata = r#"{"_quantization_metadata":"{\"layers\":{\"noted\":{\"format\":\"nvfp4\"}}}"}"#;
    let tensors = tensors.iter().map(tensor).collect::<Vec<_>>().join(",");
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("evil.safetensors");
    std::fs::write(&path, file(&format!(r#"{{"__metadata__":{metadata},{tensors}}}"#), 0)).expect("written");
    doctor(&path).expect("a report")
}

/// A tensor without rows takes no bytes, and so may have any number of columns.
#[test]
fn packed_weights_of_any_width_are_refused() {
    let mlx = ["cap_embedder.layers.1.weight", "cap_embedder.layers.1.scales", "cap_embedder.layers.1.biases"];
    let [words, scales, biases] = mlx.map(str::to_owned);
    let wide = "0,4611686018427387904";
    assert!(!diagnose(&[(words, "U32", wide), (scales, "F16", "0,1"), (biases, "F16", "0,1")]).usable);
    let [noted, scale, model] = ["noted.weight", "noted.weight_scale", "cap_embedder.1.weight"].map(str::to_owned);
    let wide = "0,9223372036854775808";
    assert!(!diagnose(&[(noted, "U8", wide), (scale, "F8_E4M3", "0,1"), (model, "F32", "0")]).usable);
}

#[test]
fn names_may_have_any_number_in_them() {
    let names = ["encoder.down_blocks.0.layers.#.norm1.weight", "decoder.mid_block.layers.0.conv1.weight"];
    let also = ["decoder.conv_in.weight", "encoder.down_blocks.#.resnets.0.conv1.weight"];
    let numbered = |name: &&str| (name.replace('#', &usize::MAX.to_string()), "F32", "0");
    assert!(!diagnose(&names.iter().chain(&also).map(numbered).collect::<Vec<_>>()).usable);
}

/// The last layer of a file says how many the model has, and every unknown name is compared with theirs.
#[test]
fn a_thousand_wrong_names_and_a_thousand_layers_take_no_time() {
    let text = |name: &str, shape| (name.to_owned(), "U8", shape);
    let mut tensors = vec![
        text("embed_tokens.weight", "8,0"),
        text("layers.0.input_layernorm.weight", "64,0"),
        text("layers.0.mlp.gate_proj.weight", "64,0"),
        text("layers.0.self_attn.q_proj.weight", "256,0"),
        text("layers.0.self_attn.k_proj.weight", "128,0"),
        text("layers.0.self_attn.q_norm.weight", "128,0"),
    ];
    tensors.extend((0..1000).map(|n| (format!("layers.1023.self_attn.k_proj.wrong{n}"), "U8", "0")));
    let start = Instant::now();
    assert!(!diagnose(&tensors).usable);
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[test]
fn lists_of_numbers_are_short() {
    let ones = vec!["1"; 65].join(",");
    check(
        one(&format!(r#""dtype":"U8","shape":[{ones}],"data_offsets":[0,1]"#), 1),
        "bad header: a: invalid length 65",
    );
    check(one(&format!(r#""dtype":"U8","shape":[1],"data_offsets":[{ones}]"#), 1), "a list of at most 64 numbers");
}

#[test]
fn a_picture_and_a_pipe_are_named_and_not_waited_for() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("x.safetensors");
    for start in [&b"\x89PNG\r\n\x1a\n0000"[..], b"\xff\xd8\xff\xe0 jfif", b"RIFF0000WEBPVP8 "] {
        std::fs::write(&path, start).expect("written");
        let error = Container::open(&path).expect_err("a picture").to_string();
        assert!(error.contains("this is a picture\nhint: give a model"), "{error}");
    }
    #[cfg(unix)]
    {
        let pipe = directory.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        if made.is_ok_and(|status| status.success()) {
            let error = Container::open(&pipe).expect_err("a pipe").to_string();
            assert!(error.ends_with("it is no regular file"), "{error}");
        }
    }
}
