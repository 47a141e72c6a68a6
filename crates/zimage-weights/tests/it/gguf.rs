//! GGUF files: a real one, and every way in which one can be wrong.

use std::path::PathBuf;

use bytes::Bytes;
use serde_json::Value as Json;
use zimage_weights::Dtype;
use zimage_weights::container::{Container, Gguf, Value};
use zimage_weights::inspect::{Dialect, doctor, inspect};

fn golden(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../goldens/container").join(file)
}

/// A text as the format has it.
fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

/// A key with the number of its type and the bytes of its value.
fn key(name: &str, number: u32, value: &[u8]) -> Vec<u8> {
    [&*text(name), &number.to_le_bytes(), value].concat()
}

/// A tensor of the list; axes innermost first, as the format has them.
fn tensor(name: &str, axes: &[u64], number: u32, offset: u64) -> Vec<u8> {
    let axes: Vec<u8> = axes.iter().flat_map(|axis| axis.to_le_bytes()).collect();
    let count = (axes.len() as u32 / 8).to_le_bytes();
    [&*text(name), &count, &axes, &number.to_le_bytes(), &offset.to_le_bytes()].concat()
}

/// Everything before the keys.
fn start(version: u32, tensors: u64, keys: u64) -> Vec<u8> {
    [&b"GGUF"[..], &version.to_le_bytes(), &tensors.to_le_bytes(), &keys.to_le_bytes()].concat()
}

/// A whole file with `data` zero bytes of tensors.
fn file(keys: &[Vec<u8>], tensors: &[Vec<u8>], data: usize) -> Vec<u8> {
    let mut bytes = [start(3, tensors.len() as u64, keys.len() as u64), keys.concat(), tensors.concat()].concat();
    bytes.resize(bytes.len().next_multiple_of(32) + data, 0);
    bytes
}

fn read(bytes: Vec<u8>) -> Gguf {
    Gguf::from_bytes("good.gguf", Bytes::from(bytes)).expect("a valid file")
}

/// The bytes are refused with these words.
fn check(bytes: Vec<u8>, expected: &str) {
    let message = Gguf::from_bytes("evil.gguf", Bytes::from(bytes)).expect_err(expected).to_string();
    assert!(message.starts_with("evil.gguf is not a valid GGUF file: "), "{message}");
    assert!(message.contains(expected), "expected {expected:?} in {message:?}");
}

/// A file with this key only is refused.
fn bad_key(name: &str, number: u32, value: &[u8], expected: &str) {
    check([start(3, 0, 1), key(name, number, value)].concat(), expected);
}

/// A file with this tensor only is refused.
fn bad_tensor(axes: &[u64], number: u32, offset: u64, data: usize, expected: &str) {
    check(file(&[], &[tensor("a", axes, number, offset)], data), expected);
}

#[test]
fn a_file_of_the_reference_is_read_as_it_was_written() {
    let gguf = Gguf::open(&golden("sample.gguf")).expect("a golden");
    let text = std::fs::read_to_string(golden("sample.json")).expect("a golden");
    let expected: Json = serde_json::from_str(&text).expect("JSON");
    let tensors = expected["tensors"].as_array().expect("a list");
    assert_eq!((gguf.version(), gguf.architecture(), gguf.iter().count()), (3, Some("lumina2"), tensors.len()));
    for tensor in tensors {
        let view = gguf.tensor(tensor["name"].as_str().expect("a name")).expect("there");
        let shape: Vec<u64> = view.shape.iter().map(|n| *n as u64).collect();
        let hex: String = view.data.iter().map(|byte| format!("{byte:02x}")).collect();
        // This one is stored as one row, and its original shape is noted beside it.
        let expected = if view.name == "x_pad_token" { &serde_json::json!([64]) } else { &tensor["shape"] };
        assert_eq!(&Json::from(shape), expected, "{}", view.name);
        assert_eq!((view.dtype.name(), &*hex), (tensor["dtype"].as_str().unwrap(), tensor["bytes"].as_str().unwrap()));
        assert_eq!(gguf.info(&view.name).expect("there").size_bytes(), view.data.len());
    }
}

#[test]
fn values_of_every_type_are_those_of_the_reference() {
    let gguf = Gguf::open(&golden("sample.gguf")).expect("a golden");
    let expected = [
        ("u8", Value::U8(200)),
        ("u16", Value::U16(60000)),
        ("u32", Value::U32(4_000_000_000)),
        ("u64", Value::U64((1 << 63) + 1)),
        ("i8", Value::I8(-100)),
        ("i16", Value::I16(-30000)),
        ("i32", Value::I32(-2_000_000_000)),
        ("i64", Value::I64(-(1 << 62))),
        ("f32", Value::F32(0.5)),
        ("f64", Value::F64(-0.1)),
        ("yes", Value::Bool(true)),
        ("text", Value::String("Grüße, 你好".to_owned())),
    ];
    for (name, value) in expected {
        assert_eq!(gguf.metadata()[&format!("sample.{name}")], value);
    }
    let array = |name: &str| match &gguf.metadata()[name] {
        Value::Array(array) => array.clone(),
        other => panic!("{name} is {other:?}"),
    };
    let words: Vec<Value> = array("sample.words").iter().collect();
    assert_eq!(words, ["a", "", "été"].map(|word| Value::String(word.to_owned())));
    assert_eq!(array("sample.floats").iter().collect::<Vec<_>>(), [Value::F32(0.25), Value::F32(-1.0)]);
    assert_eq!(array("comfy.gguf.orig_shape.x_pad_token").to_string(), "[64]");
}

#[test]
fn version_2_alignments_empty_files_and_trailing_bytes_are_read() {
    let empty = read(start(2, 0, 0));
    assert_eq!((empty.version(), empty.iter().count(), empty.data_bytes()), (2, 0, 0));
    let aligned = key("general.alignment", 4, &256_u32.to_le_bytes());
    let mut bytes = [start(3, 2, 1), aligned, tensor("a", &[3, 2], 24, 0), tensor("b", &[], 0, 256)].concat();
    bytes.resize(bytes.len().next_multiple_of(256) + 300, 7);
    let gguf = read(bytes);
    assert_eq!(gguf.info("a").expect("there").shape, [2, 3]);
    assert_eq!((gguf.tensor("a").unwrap().data.len(), gguf.tensor("b").unwrap().data.len()), (6, 4));
    assert_eq!(gguf.tensor("c").expect_err("not there").to_string(), "good.gguf has no tensor c");
    let zero = read(file(&[], &[tensor("z", &[32, 0], 2, 0), tensor("a", &[32], 2, 0)], 18));
    assert_eq!((zero.info("z").expect("there").size_bytes(), zero.data_bytes()), (0, 18));
}

#[test]
fn beginnings_that_are_not_of_a_known_version_are_refused() {
    check(vec![], "does not begin with the letters GGUF");
    check(b"GGML\x03\0\0\0".to_vec(), "does not begin with the letters GGUF");
    check(b"GGUF\x03".to_vec(), "the version takes 4 bytes from byte 4 on, 1 are left");
    check(start(1, 0, 0), "it has version 1, only 2 and 3 are read");
    check(start(4, 0, 0), "it has version 4, only 2 and 3 are read");
    check(start(3 << 24, 0, 0), "it is big-endian, only little-endian files are read");
    check(start(3, 0, 0)[..20].to_vec(), "keys takes 8 bytes from byte 16 on, 4 are left");
}

#[test]
fn claims_that_the_file_cannot_hold_are_refused_at_once() {
    let claim = "it claims 1099511627776 tensors, at least 24 bytes each, and 8 bytes are left";
    check(start(3, 1 << 40, 0), claim);
    check(start(3, 0, u64::MAX), "it claims 18446744073709551615 keys, at least 13 bytes each, and 0 bytes are left");
    let tera = (1_u64 << 40).to_le_bytes();
    let padded = |bytes: &[u8]| [bytes, &[0; 24]].concat();
    check([start(3, 0, 1), padded(&tera)].concat(), "key 0 takes 1099511627776 bytes from byte 32 on, 24 are left");
    bad_key("k", 8, &tera, "the value of k takes 1099511627776 bytes from byte 45 on, 0 are left");
    let strings = [&8_u32.to_le_bytes()[..], &tera].concat();
    bad_key("k", 9, &strings, "it claims 1099511627776 values in k, at least 8 bytes each, and 0 bytes are left");
    let numbers = [&12_u32.to_le_bytes()[..], &u64::MAX.to_le_bytes()].concat();
    bad_key("k", 9, &padded(&numbers), "claims 18446744073709551615 values in k, at least 8 bytes each, and 24");
    let second = [&8_u32.to_le_bytes()[..], &2_u64.to_le_bytes(), &text("a"), &tera].concat();
    bad_key("k", 9, &second, "the value of k takes 1099511627776 bytes");
    let long = "n".repeat(65536);
    bad_key(&long, 0, &[0], "key 0 has 65536 bytes, more than the 65535 allowed");
    bad_key("k", 8, &text(&"x".repeat(100_000_000)), "take more than the 100000000 bytes allowed");
}

#[test]
fn keys_and_values_that_mean_nothing_are_refused() {
    bad_key("k", 13, &[0; 8], "the value of k has the unknown type 13");
    bad_key("k", 7, &[2], "the value of k has the truth value 2");
    bad_key("k", 9, &[&7_u32.to_le_bytes()[..], &2_u64.to_le_bytes(), &[1, 9]].concat(), "the truth value 9");
    bad_key("k", 9, &[&9_u32.to_le_bytes()[..], &0_u64.to_le_bytes()].concat(), "the value of k is an array of arrays");
    bad_key(
        "k",
        9,
        &[&99_u32.to_le_bytes()[..], &0_u64.to_le_bytes()].concat(),
        "the value of k has the unknown type 99",
    );
    bad_key("k", 8, &[&2_u64.to_le_bytes()[..], &[0xff, 0xfe]].concat(), "the value of k is not UTF-8");
    bad_key("k", 10, &[0; 7], "the value of k takes 8 bytes from byte 37 on, 7 are left");
    check([start(3, 0, 1), vec![1, 0, 0, 0, 0, 0, 0, 0, 0xff], vec![0; 8]].concat(), "key 0 is not UTF-8");
    check(file(&[key("k", 0, &[1]), key("k", 0, &[2])], &[], 0), "the key k is there twice");
    for (number, value) in [(4, &0_u32.to_le_bytes()[..]), (4, &48_u32.to_le_bytes()), (10, &32_u64.to_le_bytes())] {
        bad_key("general.alignment", number, value, ", expected a u32 that is a power of two");
    }
}

#[test]
fn tensors_that_mean_nothing_are_refused() {
    let twice = [tensor("a", &[1], 0, 0), tensor("a", &[1], 0, 32)];
    check(file(&[], &twice, 64), "tensor a is there twice");
    bad_tensor(&[1; 5], 0, 0, 4, "tensor a has 5 axes, more than the 4 allowed");
    bad_tensor(&[1], 4, 0, 4, "tensor a has the unknown type 4");
    bad_tensor(&[1], u32::MAX, 0, 4, "tensor a has the unknown type 4294967295");
    bad_tensor(&[1 << 32, 1 << 31], 0, 0, 4, "tensor a has the impossible shape [2147483648, 4294967296]");
    bad_tensor(&[1 << 40, 1 << 40], 2, 0, 4, "tensor a has the impossible shape");
    bad_tensor(&[33, 32], 2, 0, 999, "tensor a has rows of 33 values, Q4_0 has blocks of 32");
    bad_tensor(&[], 14, 0, 999, "tensor a has rows of 1 values, Q6_K has blocks of 256");
    let cut = tensor("a", &[1, 2], 0, 0);
    check([start(3, 1, 0), cut[..cut.len() - 3].to_vec()].concat(), "the description of tensor a takes 8 bytes");
}

#[test]
fn tensors_follow_each_other_without_gaps_and_overlaps() {
    let two = |first: u64, second: u64| [tensor("a", &[8], 0, first), tensor("b", &[8], 0, second)];
    assert_eq!(read(file(&[], &two(32, 0), 64)).data_bytes(), 64);
    bad_tensor(&[1], 0, 4, 64, "tensor a begins at byte 4 of the data, which is no multiple of 32");
    check(file(&[], &two(0, 0), 64), "tensor b overlaps tensor a");
    let long = [tensor("a", &[9], 0, 0), tensor("b", &[1], 0, 32)];
    check(file(&[], &long, 64), "tensor b overlaps tensor a");
    check(file(&[], &two(0, 64), 96), "32 bytes before tensor b belong to no tensor");
    check(file(&[], &two(32, 64), 96), "32 bytes before tensor a belong to no tensor");
    check(file(&[], &two(0, 32), 63), "tensor b ends at byte 64 of the data, the file has 63: it is truncated");
    bad_tensor(&[32], 8, u64::MAX - 31, 64, "tensor a ends at byte 18446744073709551615 of the data");
    check([start(3, 1, 0), tensor("a", &[1], 0, 0)].concat(), "tensor a ends at byte 4 of the data, the file has 0");
}

/// An array of u32 under the key of a tensor's original shape.
fn original(tensor: &str, sizes: &[u32]) -> Vec<u8> {
    let sizes_bytes: Vec<u8> = sizes.iter().flat_map(|size| size.to_le_bytes()).collect();
    let value = [&4_u32.to_le_bytes()[..], &(sizes.len() as u64).to_le_bytes(), &sizes_bytes].concat();
    key(&format!("comfy.gguf.orig_shape.{tensor}"), 9, &value)
}

#[test]
fn folded_tensors_get_their_original_shape_back_where_its_rows_are_whole_blocks() {
    let shape = |axes: &[u64], number: u32, sizes: &[u32], data: usize| {
        let gguf = read(file(&[original("a", sizes), original("b", &[7])], &[tensor("a", axes, number, 0)], data));
        let view = gguf.tensor("a").expect("there");
        assert_eq!((&view.shape, view.data.len()), (&gguf.info("a").expect("there").shape, data));
        view.shape
    };
    assert_eq!(shape(&[256, 9], 0, &[4, 2, 2, 12, 12], 9216), [4, 2, 2, 12, 12]);
    assert_eq!(shape(&[1], 0, &[], 4), [0; 0]);
    assert_eq!(shape(&[256, 3], 8, &[6, 128], 816), [6, 128], "rows of 128 values are 4 blocks of 32");
    assert_eq!(shape(&[256, 3], 8, &[16, 48], 816), [3, 256], "rows of 48 values are no whole number of blocks");
}

#[test]
fn original_shapes_of_other_values_are_refused() {
    let bad = |key: Vec<u8>, found: &str| {
        let expected = format!("comfy.gguf.orig_shape.a is {found}, expected the sizes of the axes of 6 values");
        check(file(&[key], &[tensor("a", &[3, 2], 0, 0)], 24), &expected);
    };
    bad(original("a", &[2, 2]), "[2, 2]");
    bad(original("a", &[]), "[]");
    bad(original("a", &[u32::MAX; 4]), "[4294967295, 4294967295, 4294967295, 4294967295]");
    bad(original("a", &[6, 1, 1, 1, 1, 1, 1, 1, 1]), "[6, 1, 1, 1, 1, 1, 1, 1, 1]");
    bad(key("comfy.gguf.orig_shape.a", 4, &6_u32.to_le_bytes()), "6");
    let floats = [&6_u32.to_le_bytes()[..], &1_u64.to_le_bytes(), &6_f32.to_le_bytes()].concat();
    bad(key("comfy.gguf.orig_shape.a", 9, &floats), "[6]");
    let negative = [&5_u32.to_le_bytes()[..], &1_u64.to_le_bytes(), &(-6_i32).to_le_bytes()].concat();
    bad(key("comfy.gguf.orig_shape.a", 9, &negative), "[-6]");
}

#[test]
fn a_container_opens_a_file_by_its_first_bytes() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("model.safetensors");
    std::fs::copy(golden("sample.gguf"), &path).expect("copied");
    let container = Container::open(&path).expect("a GGUF file");
    let gguf = container.gguf().expect("typed values");
    assert_eq!((container.len(), container.files().len(), gguf.architecture()), (6, 1, Some("lumina2")));
    assert_eq!(container.files()[0].path(), Some(&*path));
    assert_eq!(container.files()[0].data_bytes(), gguf.data_bytes());
    assert_eq!(container.info("layers.0.attention.qkv.weight").expect("there").dtype, Dtype::Q8_0);
    assert_eq!(container.tensor("layers.0.attention.qkv.weight").expect("there").data.len(), 9 * 2 * 34);
    let metadata = container.metadata();
    assert_eq!(
        (&*metadata["sample.text"], &*metadata["sample.u8"], &*metadata["sample.yes"]),
        ("Grüße, 你好", "200", "true")
    );
    assert!(!metadata.contains_key("sample.words"), "arrays are not free text");
}

#[test]
fn long_texts_are_left_out_of_the_free_text() {
    let keys = [key("long", 8, &text(&"x".repeat(1025))), key("short", 8, &text(&"x".repeat(1024)))];
    let container = Container::from(read(file(&keys, &[], 0)));
    assert_eq!(container.metadata().keys().collect::<Vec<_>>(), ["short"]);
    assert!(container.gguf().expect("one file").metadata().contains_key("long"));
}

#[test]
fn a_part_of_a_split_file_is_refused_by_name() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("qwen3-00002-of-00003.gguf");
    let split = |count: u16| {
        let keys = [key("split.no", 2, &1_u16.to_le_bytes()), key("split.count", 2, &count.to_le_bytes())];
        std::fs::write(&path, file(&keys, &[], 0)).expect("written");
        Container::open(&path)
    };
    split(1).expect("a whole file");
    let message = split(3).expect_err("a part").to_string();
    assert!(message.starts_with(&path.display().to_string()), "{message}");
    assert!(
        message.contains(
            ".gguf is part 2 of 3 of a split GGUF file\nhint: join the parts with `llama-gguf-split --merge`"
        ),
        "{message}"
    );
}

/// No bytes make the parser panic: every prefix of a real file, and many changes of its header.
#[test]
fn damaged_files_are_errors_and_never_panics() {
    let valid = std::fs::read(golden("sample.gguf")).expect("a golden");
    let header = valid.len() - read(valid.clone()).data_bytes();
    for at in 0..header {
        Gguf::from_bytes("cut", Bytes::copy_from_slice(&valid[..at])).expect_err("a prefix is never whole");
        for byte in [0, 1, 9, 0x20, 0x7f, 0x80, 0xff] {
            let mut damaged = valid.clone();
            damaged[at] = byte;
            // Some changes make another valid file; the only claim is that this returns.
            let _ = Gguf::from_bytes("damaged", Bytes::from(damaged));
        }
    }
}

#[test]
fn a_report_tells_what_is_in_a_file() {
    let report = inspect(&golden("sample.gguf")).expect("a report");
    assert_eq!((report.container, report.dialect, report.supported), ("gguf", Dialect::Unknown, false));
    let part = &report.parts[0];
    assert_eq!((part.architecture.as_deref(), part.tensors, part.problem.as_ref()), (Some("lumina2"), 6, None));
    assert_eq!(part.parameters, 6 * 64 + 64 + 9 * 64 + 3 * 32 + 37 + 2 * 3 * 32);
    assert_eq!(part.size_bytes, 6 * 64 * 4 + 64 * 2 + 9 * 2 * 34 + 3 * 18 + 37 * 2 + 2 * 3 * 24);
    let quantized = part.precision.counts.iter().find(|count| count.format == "q8_0").expect("counted");
    assert_eq!((quantized.tensors, quantized.parameters, quantized.size_bytes), (1, 576, 612));
    assert_eq!(part.metadata["general.quantization_version"], "2");
    assert_eq!(part.metadata["sample.words"], "[a, , été]");
    let json = serde_json::to_value(&report).expect("a report is JSON");
    assert_eq!(json["parts"][0]["precision"][1]["format"], "q8_0");
}

#[test]
fn a_long_array_is_told_by_its_length() {
    let words = [&8_u32.to_le_bytes()[..], &20_u64.to_le_bytes(), &text("word").repeat(20)].concat();
    let gguf = read(file(&[key("tokenizer.ggml.tokens", 9, &words)], &[], 0));
    assert_eq!(gguf.metadata()["tokenizer.ggml.tokens"].to_string(), "20 values of type string");
}

#[test]
fn a_damaged_file_is_reported_with_what_is_wrong() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("cut.gguf");
    std::fs::write(&path, start(3, 1 << 40, 0)).expect("written");
    let report = inspect(&path).expect("a report");
    let problem = report.parts[0].problem.as_ref().expect("a problem");
    assert!(problem.contains("it claims 1099511627776 tensors"), "{problem}");
}

#[test]
fn the_doctor_says_that_a_file_is_no_model() {
    let diagnosis = doctor(&golden("sample.gguf")).expect("a diagnosis");
    assert!(!diagnosis.usable);
    let problem = diagnosis.problem.expect("a problem");
    assert!(problem.contains("sample.gguf cannot be opened: this is an unknown kind of file"), "{problem}");
}
